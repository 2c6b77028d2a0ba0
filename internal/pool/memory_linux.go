package pool

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// each is what one idle sandbox is reckoned to hold, with the kernel's part.
	each = 16 << 20
	// share is the part of the memory which is available that idle sandboxes may have: an eighth.
	share = 8
	// scarce is the part of all memory below which what is available is short: a tenth.
	scarce = 10
)

// Room says whether there is memory for one more sandbox beside n.
func Room(n int) bool {
	m, ok := memory()
	return !ok || m.available/share >= int64(n+1)*each
}

// A meminfo is what there is, and what can be had without swapping, in bytes.
type meminfo struct{ total, available int64 }

// memory is what this process and its sandboxes may have: they are in cgroups below the same ones.
func memory() (m meminfo, ok bool) {
	fields := numbers("/proc/meminfo")
	m = meminfo{fields["MemTotal:"] << 10, fields["MemAvailable:"] << 10}
	if m.total <= 0 || m.available <= 0 {
		return m, false
	}
	b, _ := contents("/proc/self/cgroup")
	for line := range strings.Lines(b) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok { // cgroup v2
			m = m.within("/sys/fs/cgroup", own)
		}
	}
	return m, true
}

// within is what a cgroup and all above it leave of m. One that is not there, or has no limit, leaves it as it is.
func (m meminfo) within(root, own string) meminfo {
	for dir := path.Join("/", own); ; dir = path.Dir(dir) {
		for _, file := range []string{"memory.max", "memory.high"} {
			b, err := contents(filepath.Join(root, dir, file))
			limit, nerr := strconv.ParseInt(strings.TrimSpace(b), 10, 64)
			if err != nil || nerr != nil {
				continue
			}
			b, _ = contents(filepath.Join(root, dir, "memory.current"))
			used, _ := strconv.ParseInt(strings.TrimSpace(b), 10, 64)
			used -= numbers(filepath.Join(root, dir, "memory.stat"))["inactive_file"] // what is cached, and goes first
			m.total, m.available = min(m.total, limit), min(m.available, max(limit-used, 0))
		}
		if dir == "/" {
			return m
		}
	}
}

// numbers are those in a file of the kernel's with a name and a number on each line.
func numbers(name string) map[string]int64 {
	m := make(map[string]int64)
	b, _ := contents(name)
	for line := range strings.Lines(b) {
		if f := strings.Fields(line); len(f) >= 2 {
			m[f[0]], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return m
}

func contents(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<14))
	return string(b), err
}

// trigger asks for an event when tasks wait for memory for 150 ms of 2 s, which is the shortest time that the kernel
// grants to who is not privileged.
const trigger = "some 150000 2000000"

// OnPressure calls f when memory is short, at most once in 2 s, until the function that it returns is called. Tasks also
// wait for memory where there is enough, those of a sandbox at its own limit for instance, so that alone is not a reason.
// A kernel that does not tell (CONFIG_PSI) is not asked again.
func OnPressure(f func()) (stop func()) {
	psi, err := unix.Open("/proc/pressure/memory", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	var ends [2]int
	if _, err := unix.Write(psi, []byte(trigger+"\x00")); err != nil || unix.Pipe2(ends[:], unix.O_CLOEXEC) != nil {
		unix.Close(psi)
		return func() {}
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		// Go's own poller knows no POLLPRI, so this takes a thread, which sleeps.
		fds := []unix.PollFd{{Fd: int32(psi), Events: unix.POLLPRI}, {Fd: int32(ends[0])}}
		for {
			_, err := unix.Poll(fds, -1)
			switch {
			case err == unix.EINTR:
			case err != nil || fds[1].Revents != 0 || fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0:
				return
			case fds[0].Revents&unix.POLLPRI != 0:
				if m, ok := memory(); !ok || m.available < m.total/scarce {
					f()
				}
			}
		}
	})
	return func() {
		unix.Close(ends[1]) // POLLHUP
		watch.Wait()
		unix.Close(ends[0])
		unix.Close(psi)
	}
}
