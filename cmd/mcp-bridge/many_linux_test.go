package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A kind of run, and how often it comes up in a mix.
type kind struct {
	name, code string
	weight     int
	args       map[string]any
	status     string
	exit       int
	cancel     bool // after a random time: while it waits, starts, runs or ends
}

var kinds = []kind{
	{name: "success", code: "print('x')", weight: 40, status: "success"},
	{name: "exit", code: "raise SystemExit(3)", weight: 10, status: "error", exit: 3},
	{name: "os._exit", code: "import os; os._exit(4)", weight: 5, status: "error", exit: 4},
	{name: "exception", code: "1 / 0", weight: 8, status: "error", exit: 1},
	{name: "segfault", code: "import os; os.kill(os.getpid(), 11)", weight: 3, status: "error", exit: 139},
	{name: "much output", code: "print('x' * 100000)", weight: 3, status: "success"},
	{name: "daemon", code: "import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(1000)", weight: 6, status: "success"},
	{name: "invalid", code: "", weight: 3, status: "validation_error", exit: -1},
	{name: "cancelled loop", code: "while True: pass", weight: 8, cancel: true},
	{name: "cancelled fork", code: "import os, time\nfor _ in range(9):\n  if os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\ntime.sleep(1000)", weight: 5, cancel: true},
	{name: "cancelled success", code: "print('x')", weight: 8, cancel: true},
	{name: "timeout", code: "while True: pass", weight: 2, args: map[string]any{"timeout": 1}, status: "timeout", exit: -1},
	{name: "oom", code: "kept = []\nwhile True: kept.append(b'x' * 1000000)", weight: 2, status: "oom", exit: 137},
}

// TestFiveHundredRuns: what a bridge holds after 500 runs, many of them ended by force, is what it held before them.
func TestFiveHundredRuns(t *testing.T) {
	needSandbox(t)
	const workers = 4
	runs := 500
	if testing.Short() {
		runs = 50
	}
	weak := false
	if r, _ := probe(); r.Limits != "" {
		weak = true
	}
	before := cgroups()
	s := startServer(t, "MCP_BRIDGE_MEMORY=64m")

	each := func(n int, f func(i int)) {
		var next atomic.Int64
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					f(i)
				}
			})
		}
		all.Wait()
	}
	// As many at once as later: what the bridge needs for good (threads, netpoller, a state directory) is there then.
	each(4*workers, func(int) {
		if r, err := s.tryCall(t.Context(), map[string]any{"code": "import time; time.sleep(0.05)"}); err != nil || r.Status != "success" {
			t.Errorf("a first run: %+v, %v", r, err)
		}
	})
	s.checkIdle()
	type counts struct{ fds, processes, cgroups, mounts, state int }
	count := func() counts {
		return counts{
			fds: entries(fmt.Sprintf("/proc/%d/fd", s.pid())), processes: len(descendants(s.pid())),
			cgroups: len(cgroups()), mounts: len(mounts(s.pid())), state: entries(s.state),
		}
	}
	threads := func() int { return entries(fmt.Sprintf("/proc/%d/task", s.pid())) }
	first, firstThreads := count(), threads()
	t.Logf("open at first: %v", openFiles(s.pid()))

	const seed = 20
	random := rand.New(rand.NewPCG(seed, seed))
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	type job struct {
		kind
		after time.Duration // the cancel
	}
	jobs := make([]job, runs)
	for i := range jobs {
		n := random.IntN(total)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				jobs[i].kind = k
				break
			}
		}
		if weak && jobs[i].name == "oom" {
			jobs[i].kind = kinds[0]
		}
		jobs[i].after = time.Duration(random.Int64N(int64(150 * time.Millisecond)))
	}

	m := newMark()
	var mu sync.Mutex
	seen := make(map[string]int)
	start := time.Now()
	each(runs, func(i int) {
		j := jobs[i]
		args := map[string]any{"code": j.code}
		if j.code != "" {
			args["code"] = m.say() + j.code
		}
		for k, v := range j.args {
			args[k] = v
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if j.cancel {
			stop := time.AfterFunc(j.after, cancel) // chance, and not waiting for anything
			defer stop.Stop()
		}
		r, err := s.tryCall(ctx, args)
		outcome := r.Status
		switch {
		case errors.Is(err, context.Canceled) && j.cancel:
			outcome = "cancelled"
		case err != nil:
			t.Errorf("run %d, %s: %v", i, j.name, err)
		case j.cancel && r.Status == "success":
		case r.Status != j.status || r.exit() != j.exit:
			t.Errorf("run %d, %s: %s", i, j.name, strings.TrimSpace(fmt.Sprintf("%+v", r)))
		}
		mu.Lock()
		seen[outcome]++
		mu.Unlock()
	})
	t.Logf("%d runs took %v: %v", runs, time.Since(start).Round(time.Millisecond), seen)

	m.checkGone(t)
	s.checkIdle()
	if err := noNewCgroups(before); err != nil {
		t.Error(err)
	}
	if err := eventually(func() error {
		now := count()
		now.cgroups = first.cgroups       // seen to above: those of others come and go
		now.fds = max(now.fds, first.fds) // a sandbox may have been starting when they were counted at first
		if now != first {
			return fmt.Errorf("before %+v, after %+v: open are now %v", first, now, openFiles(s.pid()))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	// Go keeps threads that it has once needed, one for each system call that blocked at the same time; a bridge that
	// lost one a run would have hundreds.
	if n := threads(); n > firstThreads+2*workers {
		t.Errorf("threads: %d before, %d after", firstThreads, n)
	} else {
		t.Logf("threads: %d before, %d after", firstThreads, n)
	}
}
