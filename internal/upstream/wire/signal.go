package wire

import "syscall"

// signalAll signals processes, and groups by their negative ids. Those that are gone are no matter.
func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}
