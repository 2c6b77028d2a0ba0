package cli

import (
	"os/exec"
	"sync"
	"syscall"
)

// A client is one that has been started. It is safe for concurrent use, but for wait, which is to be called once.
type client struct {
	*exec.Cmd
	mu   sync.Mutex
	gone bool // its number may be another process's
}

// wait waits for its end, as Cmd does.
func (c *client) wait() error {
	if waitExit(c.Process.Pid) {
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
	}
	return c.Wait()
}

// kill kills it, with its process group, if it has not ended.
func (c *client) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
}
