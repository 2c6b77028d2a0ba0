package wire

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: a process group of its own, so that a signal for us is not one for it, and the kernel ends it if we are
// killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit waits for the end of a child and leaves it a zombie.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// tree are the processes that came of the server's, itself not included: of its group, with its mark in their
// environment, or children of those. A process that has left the group and its parents, as daemons do, still has the
// mark.
func (p *process) tree() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	leader, self := p.cmd.Process.Pid, os.Getpid()
	mark := []byte(markName + "=" + p.mark + "\x00")
	ours := map[int]bool{leader: true}
	parents := make(map[int]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self || pid == leader || pid == 1 {
			continue
		}
		parent, group, alive := stat(pid)
		if !alive {
			continue
		}
		parents[pid] = parent
		if group == leader {
			ours[pid] = true
		} else if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil && bytes.Contains(append(env, 0), mark) {
			ours[pid] = true
		}
	}
	for more := true; more; {
		more = false
		for pid, parent := range parents {
			if ours[parent] && !ours[pid] {
				ours[pid], more = true, true
			}
		}
	}
	delete(ours, leader)
	return slices.Collect(maps.Keys(ours))
}

// stat reads what a process is; a zombie is not alive.
func stat(pid int) (parent, group int, alive bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	// pid (name) state ppid pgrp ...; the name may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 3 || f[0] == "Z" || f[0] == "X" {
		return 0, 0, false
	}
	parent, _ = strconv.Atoi(f[1])
	group, _ = strconv.Atoi(f[2])
	return parent, group, true
}
