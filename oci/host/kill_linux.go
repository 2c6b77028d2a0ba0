//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Who is stopped (SIGSTOP) hears no end of a lifeline, answers nothing and does not exit; SIGKILL works all the same. What is
// here finds whom to kill where a launcher does not know them all.

// AtEnd is [context.AfterFunc], but stop waits for f if that runs: what f has to do with is gone soon after.
func AtEnd(ctx context.Context, f func()) (stop func()) {
	ended := make(chan struct{})
	after := context.AfterFunc(ctx, func() { defer close(ended); f() })
	return func() {
		if !after() {
			<-ended
		}
	}
}

// WaitExit waits until a child has ended, and leaves it to be waited for: so long its number is its own.
func WaitExit(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// Births are the children that a thread gets.
type Births struct {
	tid    int
	before []int // a thread of Go's may have had some in an earlier life
	stop   func()
	done   chan struct{}
}

const (
	killEvery = 20 * time.Millisecond
	// startGrace is how long a start may go on after the end of its ctx. One that is through leaves less behind than one that
	// is killed between two steps, and takes some milliseconds.
	startGrace = time.Second
)

// WatchBirths watches the children of this thread, to which the caller is locked and which outlives the watch. If Stop has not
// been called soon after the end of ctx, all of them and what is below them are killed until it is.
func WatchBirths(ctx context.Context) *Births {
	b := &Births{tid: unix.Gettid(), done: make(chan struct{})}
	b.before = childrenOf(os.Getpid(), b.tid)
	b.stop = AtEnd(ctx, func() {
		timer := time.NewTimer(startGrace)
		defer timer.Stop()
		for {
			select {
			case <-b.done:
				return
			case <-timer.C:
			}
			killAll(b.now, true, false)
			timer.Reset(killEvery) // one may be born meanwhile
		}
	})
	return b
}

func (b *Births) now() []int {
	return slices.DeleteFunc(childrenOf(os.Getpid(), b.tid), func(pid int) bool { return slices.Contains(b.before, pid) })
}

// Stop ends the watch.
func (b *Births) Stop() {
	close(b.done)
	b.stop()
}

// Bury kills all children that are left, and waits for them.
func (b *Births) Bury() { killAll(b.now, true, true) }

// KillBelow kills all that is below a process with one thread, which is a child that was not waited for.
func KillBelow(pid int) { killAll(func() []int { return childrenOf(pid, pid) }, true, false) }

// Bury kills all that is in the cgroup, and waits for those that are children of this process.
func (g Cgroup) Bury() {
	for _, dir := range g.paths {
		killAll(func() []int { return processesOf(dir) }, false, true)
	}
}

// killAll kills whom list names, and before them whom they have below them, if these are meant too: else those would get
// another parent before they were seen. A number may become another process's at any time: it is of one that list still names
// when its descriptor is open.
func killAll(list func() []int, below, bury bool) {
	for _, pid := range list() {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			if errors.Is(err, unix.ENOSYS) { // before Linux 5.3
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			continue
		}
		if slices.Contains(list(), pid) {
			if below {
				for _, task := range names(fmt.Sprintf("/proc/%d/task", pid)) {
					tid, _ := strconv.Atoi(task)
					killAll(func() []int { return childrenOf(pid, tid) }, below, false)
				}
			}
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			if bury {
				for unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED, nil) == unix.EINTR {
				}
			}
		}
		unix.Close(fd)
	}
}

// childrenOf are the children of a thread, also those that nobody has waited for; gone is none.
func childrenOf(pid, tid int) []int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
	return numbers(b)
}

// processesOf are those in a cgroup, but for this one: a thread of ours can be there, on its way out.
func processesOf(dir string) []int {
	b, _ := readSmall(filepath.Join(dir, "cgroup.procs"))
	return slices.DeleteFunc(numbers(b), func(pid int) bool { return pid == os.Getpid() })
}

func numbers(b []byte) (n []int) {
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			n = append(n, pid)
		}
	}
	return n
}
