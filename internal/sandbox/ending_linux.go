package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// An observer sees in /proc how a process ends, before the kernel has freed its memory: with all that a warm Python holds,
// that takes longer than a small script does, and until then nobody can wait for the process. The zero value sees nothing.
type observer struct {
	stat *os.File // which stays the process's own, whoever gets its number later
}

// observe finds the command of the container whose first process is first: its only child, as long as that has not
// started any.
func observe(first int) (o observer) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", first, first))
	if err != nil {
		return o
	}
	f, err := os.Open(fmt.Sprintf("/proc/%s/stat", bytes.TrimSpace(b)))
	if err != nil {
		return o
	}
	// To whom it may not tell, the kernel tells a start of the code of 1, and an exit code of 0. That it may tell cannot change
	// later, as the filter does not let a process be less dumpable (prctl).
	if s, ok := read(f); !ok || s.code <= 1 {
		f.Close()
		return o
	}
	return observer{f}
}

// Fields of proc_pid_stat(5), counted from the state, which is the third.
const (
	fieldFlags, fieldThreads, fieldSize, fieldCode, fieldExit = 9 - 3, 20 - 3, 23 - 3, 26 - 3, 52 - 3

	exiting = 0x4 // PF_EXITING
)

type stat struct{ flags, threads, size, code, exit uint64 }

func read(f *os.File) (s stat, ok bool) {
	b := make([]byte, 1024)
	n, err := unix.Pread(int(f.Fd()), b, 0)
	if err != nil {
		return s, false
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b[:n], ')')+1 : n]) // behind the name, in which anything may stand
	if len(fields) <= fieldExit {
		return s, false
	}
	for i, v := range map[int]*uint64{fieldFlags: &s.flags, fieldThreads: &s.threads, fieldSize: &s.size, fieldCode: &s.code, fieldExit: &s.exit} {
		if *v, err = strconv.ParseUint(string(fields[i]), 10, 64); err != nil {
			return s, false
		}
	}
	return s, true
}

// succeeded says that the last thread of the process is at its end, which nothing can change any more, and that its exit code
// is 0. It has given up its memory by then, which is after the kernel has noted the code. A moment before that the answer is
// no, so who has said that this is the end is looked at for a moment; and not all the time, for this thread may have been
// woken in its place, on the only processor that it would go on with.
func (o observer) succeeded() bool {
	if o.stat == nil {
		return false
	}
	for range 16 {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 10_000}, nil) // and the timer slack, 0.05 ms: prctl(2)
		s, ok := read(o.stat)
		if !ok {
			return false
		}
		if s.flags&exiting != 0 && s.size == 0 && s.threads == 1 {
			return s.exit == 0
		}
	}
	return false
}

func (o observer) close() {
	if o.stat != nil {
		o.stat.Close()
	}
}
