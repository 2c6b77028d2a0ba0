package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// hybridRuntime is the runtime to name where podman's own choice, crun, refuses the host: with the controllers of cgroup v1
// and a cgroup2 beside them. Empty is podman's own.
func hybridRuntime() string {
	var fs unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup/unified", &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return ""
	}
	p, _ := lookPath("runc")
	return p
}

func unifiedCgroups() bool {
	var fs unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// waitExit waits until a child has ended, and leaves it to be waited for: so long its number is its own.
func waitExit(pid int) bool {
	host.WaitExit(pid)
	return true
}

// A firstWatch sees the end of a container's pid 1, and counts its processes that the kernel has killed for want of memory.
// The cgroup that says so goes soon after the container, so it is looked at when pid 1 ends.
type firstWatch struct {
	events, pid1 *os.File
	cgroups      map[string]string // directories by controller, memory and pids
	pid          int
	err          error // why not all of it could be found
	killed       atomic.Bool
	reached      atomic.Bool // the limit, where cgroup v2 tells
	watcher      sync.WaitGroup
	dead         chan struct{} // closed when pid 1 is: then no process of the container is left
}

// watchFirst finds the container by the file in which its monitor has written the number of its first process. What cannot be
// found is not watched.
func watchFirst(pidFile string) *firstWatch {
	w := &firstWatch{dead: make(chan struct{})}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		w.err = err
		return w
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || pid <= 1 {
		return w
	}
	w.pid = pid
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		w.err = err
		return w
	}
	w.pid1 = os.NewFile(uintptr(fd), "pidfd")
	text, err = os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		w.err = err
		return w
	}
	w.cgroups = make(map[string]string)
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) == 3 && (f[1] == "memory" || f[1] == "pids"):
			w.cgroups[f[1]] = filepath.Join("/sys/fs/cgroup", f[1], f[2])
		case len(f) == 3 && f[0] == "0" && unifiedCgroups():
			dir := filepath.Join("/sys/fs/cgroup", f[2])
			w.cgroups["memory"], w.cgroups["pids"] = dir, dir
		}
	}
	if dir := w.cgroups["memory"]; dir != "" {
		name := "memory.oom_control"
		if unifiedCgroups() {
			name = "memory.events"
		}
		w.events, w.err = os.Open(filepath.Join(dir, name))
	}
	raw, err := w.pid1.SyscallConn()
	if err != nil {
		return w
	}
	w.watcher.Go(func() {
		dead := false
		_ = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			dead = n > 0
			return dead || err != nil && err != unix.EINTR
		})
		w.look()
		if dead {
			close(w.dead)
		}
	})
	return w
}

// enforced looks whether the container's cgroups, or those that they are in, have limits as low as these: a client that may make
// no cgroup, or not the controllers in it, only prints that it leaves them out. Of a container that has ended already there is
// nothing to be seen, and nothing to be feared.
func (w *firstWatch) enforced(limits oci.Limits) error {
	if host.Passing(w.err) {
		return w.err
	}
	err := w.limited(limits)
	if err != nil && w.ended() {
		return nil
	}
	return err
}

// exiting is PF_EXITING of the kernel (linux/sched.h): on cgroup v1 such a process is shown in the root of each hierarchy.
const exiting = 0x4

// ended says that pid 1 ends or has ended, or had when it was looked for.
func (w *firstWatch) ended() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
	if err == nil {
		// pid (name) state ppid pgrp session tty tpgid flags ...; the name may hold anything (proc_pid_stat(5)).
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 7 {
			return false
		}
		flags, err := strconv.ParseUint(fields[6], 10, 64)
		return err == nil && flags&exiting != 0
	}
	return unix.Kill(w.pid, 0) == unix.ESRCH
}

func (w *firstWatch) limited(limits oci.Limits) error {
	memory := "memory.max"
	if !unifiedCgroups() {
		memory = "memory.limit_in_bytes"
	}
	for _, l := range []struct {
		controller, file string
		most             int64
	}{{"memory", memory, limits.Memory}, {"pids", "pids.max", limits.Pids}} {
		if l.most <= 0 {
			continue
		}
		dir, ok := w.cgroups[l.controller]
		if !ok {
			return fmt.Errorf("the container is in no cgroup of %s that can be found", l.controller)
		}
		found := false
		for ; !found && strings.HasPrefix(dir, "/sys/fs/cgroup/"); dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(dir, l.file))
			if host.Passing(err) {
				return err
			}
			if err != nil {
				continue // the root has none
			}
			n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			found = err == nil && n <= l.most // else "max"
		}
		if !found {
			return fmt.Errorf("its cgroup has no %s of %d", l.file, l.most)
		}
	}
	return nil
}

// look reads the count. One that cannot be read is that of a cgroup which is gone, and was looked at before.
func (w *firstWatch) look() {
	if w == nil || w.events == nil {
		return
	}
	b := make([]byte, 1024)
	n, err := unix.Pread(int(w.events.Fd()), b, 0)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b[:n])) {
		switch name, count, _ := strings.Cut(strings.TrimSpace(line), " "); {
		case name == "oom_kill" && count != "0":
			w.killed.Store(true)
		case name == "oom" && count != "0":
			w.reached.Store(true)
		}
	}
}

// died waits until pid 1 has; false if alive ends before, or if there was nothing to watch.
func (w *firstWatch) died(alive context.Context) bool {
	select {
	case <-w.dead:
		return true
	case <-alive.Done():
		return false
	}
}

// oom says whether there was a kill, and whether it was not for the container's own limit.
func (w *firstWatch) oom() (killed, starved bool) {
	if w == nil {
		return false, false
	}
	return w.killed.Load(), w.killed.Load() && unifiedCgroups() && !w.reached.Load()
}

// close ends the watch.
func (w *firstWatch) close() {
	if w == nil {
		return
	}
	if w.pid1 != nil {
		w.pid1.Close()
	}
	w.watcher.Wait()
	if w.events != nil {
		w.events.Close()
	}
}
