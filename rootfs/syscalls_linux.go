package rootfs

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are system calls that the unpacker and Go's runtime do without, and which get around Landlock: it knows TCP
// but not the other ways out, and lets a process trace those of its own domain, which the bridge's thread that started
// it belongs to.
var refused = []uint32{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_IO_URING_SETUP,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
}

// filter is the program that answers EPERM to these; nil where we do not know the machine.
func filter(arch string) []unix.SockFilter {
	audit := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[arch]
	if audit == 0 {
		return nil
	}
	const (
		load, jeq, jge, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		deny                = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		x32                 = 0x40000000 // the numbers of amd64's other ABI begin here
	)
	p := []unix.SockFilter{
		{Code: load, K: 4}, // seccomp_data.arch
		{Code: jeq, K: audit, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: 0}, // seccomp_data.nr
		{Code: jge, K: x32, Jf: 1},
		{Code: ret, K: deny},
	}
	for _, nr := range refused {
		p = append(p, unix.SockFilter{Code: jeq, K: nr, Jf: 1}, unix.SockFilter{Code: ret, K: deny})
	}
	return append(p, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// refuse sets the filter for this thread, and the processes that it starts. A kernel without filters goes without.
func refuse() error {
	p := filter(runtime.GOARCH)
	if p == nil {
		return nil
	}
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]} // some sixty instructions
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("cannot refuse system calls: %w", err)
	}
	return nil
}
