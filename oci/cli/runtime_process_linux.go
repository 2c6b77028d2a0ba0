//go:build linux && cgo

package cli

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A process is the first of a container. It is no child of ours: a runtime that has started it ends.
type process struct {
	pid int

	mu sync.Mutex // guards fd against who kills while another closes
	fd int        // a pidfd; -1 when it is closed
}

// openProcess opens the process that a runtime says it has started. A runtime's word is not enough for what may be killed:
// it has to be the first of a pid namespace of its own.
func openProcess(pidFile string) (*process, error) {
	text, err := readSmall(pidFile)
	if err != nil {
		return nil, fmt.Errorf("it left no process id: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("it left %.40q for a process id", text)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's first process %d: %w", pid, err)
	}
	p := &process{pid: pid, fd: fd}
	status, err := readSmall(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(status, "\nNSpid:"); err == nil && ok {
		line, _, _ := strings.Cut(after, "\n")
		if f := strings.Fields(line); len(f) > 1 && f[len(f)-1] == "1" {
			return p, nil
		}
	}
	p.close()
	return nil, fmt.Errorf("it left the process id %d, which is not a container's", pid)
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
}

// wait waits for the end of the process, and so of its pid namespace, for some milliseconds or, if that is negative, as long
// as it takes.
func (p *process) wait(milliseconds int) (ended bool) {
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, milliseconds)
		if err == unix.EINTR {
			continue
		}
		if n > 0 {
			// If we are pid 1, or whoever takes in orphans, it has become ours after all.
			_ = unix.Waitid(unix.P_PIDFD, p.fd, nil, unix.WEXITED|unix.WNOHANG, nil)
		}
		return n > 0
	}
}

func (p *process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	unix.Close(p.fd)
	p.fd = -1
}
