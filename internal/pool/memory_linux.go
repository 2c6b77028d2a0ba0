package pool

import (
	"bytes"
	"io"
	"os"
	"strconv"
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

// A meminfo is what the kernel has, and what it thinks can be had without swapping, in bytes.
type meminfo struct{ total, available int64 }

func memory() (m meminfo, ok bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<14))
	if err != nil {
		return m, false
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		kib, _ := strconv.ParseInt(string(f[1]), 10, 64)
		switch string(f[0]) {
		case "MemTotal:":
			m.total = kib << 10
		case "MemAvailable:":
			m.available = kib << 10
		}
	}
	return m, m.total > 0 && m.available > 0
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
