package cli

import (
	"os/exec"
	"sync"
	"syscall"
)

// A process is a command that has been started, in a process group of its own. It is safe for concurrent use, but for wait,
// which is to be called once.
type process struct {
	*exec.Cmd
	mu   sync.Mutex
	gone bool // its number may be another process's
}

// wait waits for its end, as Cmd does.
func (p *process) wait() error {
	if waitExit(p.Process.Pid) {
		p.mu.Lock()
		p.gone = true
		p.mu.Unlock()
	}
	return p.Wait()
}

// kill kills it, with its process group, if it has not ended.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	}
}
