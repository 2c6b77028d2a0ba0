package bench

import (
	"os/exec"
	"syscall"
)

// isolate gives a program a process group of its own, so that Ctrl-C on a terminal is for the benchmark alone: what it
// kills leaves its container behind.
func isolate(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}
