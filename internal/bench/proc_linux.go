package bench

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of the times in /proc, on every architecture here.
const tick = 10 * time.Millisecond

// A process, as /proc/PID/stat has it (proc_pid_stat(5)).
type proc struct {
	pid, parent, group int
	cpu                time.Duration // its own
	dead               time.Duration // of the children that it has waited for
}

func readProc(pid int) (proc, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // a name may have any character
	if len(f) < 15 {
		return proc{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	n := func(i int) int {
		v, _ := strconv.Atoi(f[i-3])
		return v
	}
	return proc{pid, n(4), n(5), time.Duration(n(14)+n(15)) * tick, time.Duration(n(16)+n(17)) * tick}, nil
}

// processes are all that can be seen.
func processes() []proc {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var all []proc
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			if p, err := readProc(pid); err == nil { // or it has ended
				all = append(all, p)
			}
		}
	}
	return all
}

// below are the processes that descend from one.
func below(all []proc, pid int) (out []proc) {
	for _, p := range all {
		if p.parent == pid {
			out = append(append(out, p), below(all, p.pid)...)
		}
	}
	return out
}

// cpuTime is what this process and all that it has waited for have used.
func cpuTime() time.Duration {
	var total time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err == nil { // it has no other way to fail than a wrong who
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}

// daemonPatience is how long something that a program has left behind may take to end.
const daemonPatience = 5 * time.Second

// daemons waits for what programs have left behind, such as conmon, which becomes a child of this process, a subreaper. What does not end, such as rootless podman's pause process, is let be until the end.
func (b *bench) daemons(kill bool) {
	for _, p := range b.orphans() {
		if b.staying[p.pid] && !kill {
			continue
		}
		fd, err := unix.PidfdOpen(p.pid, 0)
		if err != nil {
			continue
		}
		if kill {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		if ended(fd, daemonPatience) {
			var status unix.WaitStatus
			_, _ = unix.Wait4(p.pid, &status, 0, nil)
		} else {
			b.staying[p.pid] = true
		}
		unix.Close(fd)
	}
}

// orphans are the children in another process group: programs are started in one of their own, and the group's first
// process has been waited for. What runs in this process, and the servers, stay in this one.
func (b *bench) orphans() (out []proc) {
	self, err := readProc(os.Getpid())
	if err != nil {
		return nil
	}
	for _, p := range processes() {
		if p.parent == self.pid && p.group != self.group && !b.helpers[p.pid] {
			out = append(out, p)
		}
	}
	return out
}

// ended waits for a process to end.
func ended(pidfd int, patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(time.Until(deadline), 0).Milliseconds()))
		if n > 0 {
			return true
		}
		if err != unix.EINTR {
			return false
		}
	}
}

// field is a number of kB in a file of /proc, such as "Pss:  123 kB".
func field(file, name string) (bytes float64, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name+":" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

func thisMachine() Machine {
	m := Machine{CPU: "unknown CPU", CPUs: runtime.NumCPU(), Arch: runtime.GOARCH, Cgroups: "v1", User: "a user"}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if total, err := field("/proc/meminfo", "MemTotal"); err == nil {
		m.Memory = math.Round(total / 1e9)
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m.Cgroups = "v2"
	}
	if os.Geteuid() == 0 {
		m.User = "root"
	}
	return m
}

// load is the machine's load average of the last minute.
func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}
