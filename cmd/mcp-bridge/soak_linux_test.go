package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soakTime in the environment is how long TestSoak goes on; make soak sets it.
const soakTime = "MCP_BRIDGE_TEST_SOAK"

// goroutinesFile is where a bridge that the test binary plays writes, on SIGUSR1, how many goroutines it has.
const goroutinesFile = "MCP_BRIDGE_TEST_GOROUTINES"

// tellGoroutines is the bridge's side of that.
func tellGoroutines() {
	file := os.Getenv(goroutinesFile)
	if file == "" {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			_ = os.WriteFile(file+".new", strconv.AppendInt(nil, int64(runtime.NumGoroutine()), 10), 0o600)
			_ = os.Rename(file+".new", file)
		}
	}()
}

// goroutines asks a bridge for the number of its goroutines.
func (s *server) goroutines(file string) int {
	s.t.Helper()
	_ = os.Remove(file)
	if err := syscall.Kill(s.pid(), syscall.SIGUSR1); err != nil {
		s.t.Fatal(err)
	}
	n := 0
	if err := eventually(func() error {
		b, err := os.ReadFile(file)
		if err == nil {
			n, err = strconv.Atoi(string(b))
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// soakKinds come beside those of TestFiveHundredRuns: what is done to a sandbox from outside.
var soakKinds = []kind{
	{name: "asyncio", code: "import asyncio\nawait asyncio.sleep(0)\n1", weight: 10, status: "success"},
	{name: "tool call", code: "print(await mcp_echo.echo(text='x'))", weight: 10, status: "success"},
	{name: "SIGKILL from outside", code: "import time; print('x', flush=True); time.sleep(60)", weight: 3, status: "error", exit: 137},
	{name: "sleeping timeout", code: "import time; time.sleep(60)", weight: 2, args: map[string]any{"timeout": 1}, status: "timeout", exit: -1},
}

// A stock is what a bridge holds when nothing goes on.
type stock struct{ rss, fds, goroutines, threads, processes, cgroups, mounts, state int }

// TestSoak: what a bridge holds stays what it is, however many runs there have been, and however they have ended: by
// themselves, by a limit, a cancel, or a signal that hits a sandbox that runs or waits. The pool fills and empties meanwhile.
func TestSoak(t *testing.T) {
	needSandbox(t)
	needCgroup(t) // for out of memory
	long, round := 10*time.Second, 3*time.Second
	if v := os.Getenv(soakTime); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		round = max(long/20, round)
	} else if testing.Short() {
		t.Skip("TestFiveHundredRuns is a short one")
	}
	file := t.TempDir() + "/goroutines"
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers := t.TempDir() + "/servers.json"
	if err := os.WriteFile(servers, fmt.Appendf(nil, `{"mcpServers":{"echo":{"command":%q,"env":{%q:"1"}}}}`, exe, runEcho), 0o600); err != nil {
		t.Fatal(err)
	}
	before := cgroups()
	s := startServer(
		t, "MCP_BRIDGE_MEMORY=64m", "MCP_BRIDGE_POOL=2", "MCP_BRIDGE_MAX_CONCURRENCY=4", "MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT=2s",
		"MCP_SERVERS_CONFIG="+servers, goroutinesFile+"="+file,
	)
	k := &soak{s: s, kinds: append(slices.Clone(kinds), soakKinds...), seen: make(map[string]int)}
	var stocks []stock
	take := func() {
		s.checkIdle() // the pool is empty after the idle timeout
		at := stock{goroutines: s.goroutines(file)}
		for i := 0; len(stocks) > 0 && at.goroutines > stocks[0].goroutines && i < 100; i++ {
			at.goroutines = s.goroutines(file) // what has ended for others may have a goroutine left for a moment
		}
		at = stock{
			rss: rss(s.pid()), fds: entries(fmt.Sprintf("/proc/%d/fd", s.pid())), goroutines: at.goroutines,
			threads: entries(fmt.Sprintf("/proc/%d/task", s.pid())), processes: len(descendants(s.pid())), mounts: len(mounts(s.pid())), state: entries(s.state),
		}
		if err := noNewCgroups(before); err != nil {
			t.Error(err)
			at.cgroups++
		}
		stocks = append(stocks, at)
		t.Logf("after %6d runs: %+v", k.runs.Load(), at)
	}
	k.load(round) // what a bridge needs for good is there then
	take()
	for end := time.Now().Add(long); time.Now().Before(end) && !t.Failed(); {
		k.load(round)
		take()
	}
	t.Logf("%d runs: %v", k.runs.Load(), k.seen)
	first := stocks[0]
	for i, at := range stocks[1:] {
		// Go gives memory back as it sees fit, and keeps threads that it has once needed; what grows with the runs would
		// have doubled both long since.
		if at.fds > first.fds || at.goroutines > first.goroutines || at.processes > 0 || at.cgroups > 0 || at.mounts > 0 ||
			at.state > first.state || at.rss > 2*first.rss || at.threads > first.threads+16 {
			t.Errorf("stock %d: %+v, and first %+v", i+1, at, first)
		}
	}
}

// rss is a process's resident memory in KiB.
func rss(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return -1
}

type soak struct {
	s     *server
	kinds []kind
	runs  atomic.Int64
	calls sync.RWMutex // read-locked by a call

	mu   sync.Mutex
	seen map[string]int
}

// load makes runs for a while, four at once, and returns when all have been answered.
func (k *soak) load(long time.Duration) {
	end := time.Now().Add(long)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for time.Now().Before(end) && !k.s.t.Failed() {
				k.one()
			}
		})
	}
	workers.Wait()
}

func (k *soak) one() {
	total := 0
	for _, c := range k.kinds {
		total += c.weight
	}
	var c kind
	for n, i := rand.IntN(total), 0; n >= 0; i++ {
		c = k.kinds[i]
		n -= c.weight
	}
	m := newMark()
	args := map[string]any{"code": c.code}
	if c.code != "" {
		args["code"] = m.say() + c.code
	}
	for name, v := range c.args {
		args[name] = v
	}
	ctx, cancel := context.WithCancel(k.s.t.Context())
	defer cancel()
	switch {
	case c.cancel:
		stop := time.AfterFunc(rand.N(150*time.Millisecond), cancel) // chance, and not waiting for anything
		defer stop.Stop()
	case rand.IntN(50) == 0:
		k.disturb()
	}
	k.calls.RLock()
	defer k.calls.RUnlock()
	if c.name == "SIGKILL from outside" {
		var killer sync.WaitGroup
		defer killer.Wait()
		killer.Go(func() { kill(ctx, m) })
	}
	r, err := k.s.tryCall(ctx, args)
	outcome := r.Status
	switch {
	case errors.Is(err, context.Canceled) && c.cancel:
		outcome = "cancelled"
	case err != nil:
		k.s.t.Errorf("%s: %v", c.name, err)
	case c.cancel && r.Status == "success":
	case r.Status != c.status || r.exit() != c.exit:
		k.s.t.Errorf("%s: %s", c.name, strings.TrimSpace(fmt.Sprintf("%+v", r)))
	}
	cancel()
	k.runs.Add(1)
	k.mu.Lock()
	k.seen[outcome]++
	k.mu.Unlock()
}

// kill kills the processes of a mark as soon as there are some. Other processes have no event to wait for.
func kill(ctx context.Context, m mark) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ps := m.processes()
		for _, p := range ps {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		if len(ps) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// disturb stops or kills a sandbox that waits in the pool, when no other is there: the next call must not notice.
func (k *soak) disturb() {
	k.calls.Lock()
	defer k.calls.Unlock()
	waiting := k.s.pythons()
	if len(waiting) == 0 {
		return
	}
	sig := syscall.SIGSTOP
	if rand.IntN(2) == 0 {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(waiting[0].pid, sig)
}
