//go:build !linux

package wire

import "syscall"

// attributes: a process group of its own, so that a signal for us is not one for it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit does not wait here: exec.Cmd.Wait does.
func awaitExit(int) bool { return false }

// tree is the whole group while any of it is left: there is no /proc to look into.
func (p *process) tree() []int {
	if p.cmd.ProcessState == nil {
		return nil
	}
	group := -p.cmd.Process.Pid
	if syscall.Kill(group, 0) != nil {
		return nil
	}
	return []int{group}
}
