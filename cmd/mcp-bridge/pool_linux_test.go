package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// warmServer is a bridge whose pool stays, and tells of each sandbox that is warm.
func warmServer(t testing.TB, size int, more ...string) *server {
	t.Helper()
	s := startServer(t, append([]string{
		"MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT=1h", "MCP_BRIDGE_LOG_LEVEL=debug", fmt.Sprintf("MCP_BRIDGE_POOL=%d", size),
	}, more...)...)
	return s
}

// waitWarm waits until n more sandboxes have become warm than when it was called last.
func (s *server) waitWarm(n int) {
	s.t.Helper()
	s.warm += n
	if err := eventually(func() error {
		if got := strings.Count(s.stderr.String(), "a sandbox is warm"); got < s.warm {
			return fmt.Errorf("%d sandboxes have become warm, not %d", got, s.warm)
		}
		return nil
	}); err != nil {
		s.t.Fatalf("%v\n%s", err, s.stderr)
	}
}

// pythons are the processes of warm sandboxes, without their first ones, which are the bridge's.
func (s *server) pythons() (out []process) {
	for _, p := range descendants(s.pid()) {
		if strings.HasPrefix(p.comm, "python") && !p.dead {
			out = append(out, p)
		}
	}
	return out
}

// TestPool: a run in a sandbox that was kept warm finds nothing of another, and what is kept is gone when it should be.
func TestPool(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := warmServer(t, 2)
	s.waitWarm(2)
	const code = `
import sys
known = 'asyn' + 'cio' in sys.modules
import os, asyncio
print(os.listdir('/tmp'), os.listdir('/workspace'), len(os.listdir('/proc/self/task')))
open('/tmp/mine', 'w').close()
open('/workspace/mine', 'w').close()
seen = {'hash': hash('x'), 'heap': id(object()), 'stack': [l for l in open('/proc/self/maps') if '[stack]' in l][0].split('-')[0]}
seen.update((n, os.stat('/proc/self/ns/' + n).st_ino) for n in ('pid', 'mnt', 'net', 'ipc', 'uts', 'user', 'cgroup'))
print(known)
seen`
	var before map[string]any
	groups := make(map[string]bool)
	for range 3 {
		for _, p := range s.pythons() {
			for _, g := range cgroupsOf(t, p.pid) {
				groups[g] = true
			}
		}
		r := s.call(map[string]any{"code": code})
		if r.Status != "success" || !slices.Equal(r.Stdout, []string{"[] [] 1", "False"}) {
			t.Fatalf("%+v", r)
		}
		var seen map[string]any
		decode(t, r.Result, &seen)
		if len(seen) != 10 {
			t.Errorf("seen %v", seen)
		}
		// An inode number of a namespace is given away again; two that live at the same time have different ones.
		for name, v := range seen {
			if v == before[name] {
				t.Errorf("two runs have the same %s: %v", name, v)
			}
		}
		before = seen
		s.waitWarm(1)
	}
	if probed, _ := probe(); probed.Limits == "" && len(groups) < 4 {
		t.Errorf("the sandboxes had the cgroups %v", groups)
	}
}

// TestPoolReplaces: a sandbox of the pool that was stopped or killed is never noticed.
func TestPoolReplaces(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := warmServer(t, 2)
	s.waitWarm(2)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		ps := s.pythons()
		if len(ps) < 2 {
			t.Fatalf("warm are %v", ps)
		}
		for _, p := range ps {
			if err := syscall.Kill(p.pid, sig); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			s.checkAlive()
		}
		if err := eventually(func() error { return noneAlive(ps) }); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
		if err := eventually(func() error {
			if n := len(s.pythons()); n < 2 {
				return fmt.Errorf("%d sandboxes are kept", n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

// TestPoolStoppedWithBridge: a sandbox that could not answer because the bridge was stopped too, as all is in a cgroup that
// is frozen, is given the time to.
func TestPoolStoppedWithBridge(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := warmServer(t, 1)
	s.waitWarm(1)
	ps := s.pythons()
	if len(ps) != 1 {
		t.Fatalf("warm are %v", ps)
	}
	signal := func(pid int, sig syscall.Signal) {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Error(err)
		}
	}
	signal(ps[0].pid, syscall.SIGSTOP)
	var r result
	var callErr error
	var answered sync.WaitGroup
	answered.Go(func() {
		r, callErr = s.tryCall(t.Context(), map[string]any{"code": "open('/proc/self/stat').read().rsplit(')', 1)[1].split()[19]"})
	})
	if err := eventually(func() error {
		if unread(s.pid()) == 0 {
			return errors.New("the script is not sent")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	signal(s.pid(), syscall.SIGSTOP)
	<-time.After(1500 * time.Millisecond) // more than a sandbox has to acknowledge its script: that it is over is no event
	signal(s.pid(), syscall.SIGCONT)
	signal(ps[0].pid, syscall.SIGCONT)
	answered.Wait()
	if string(r.Result) != `"`+ps[0].start+`"` {
		t.Errorf("the script was not run by the sandbox that was stopped: %+v, %v", r, callErr)
	}
}

// unread is how many bytes are in the pipes of a process, but for its standard streams.
func unread(pid int) (n int) {
	for _, open := range openFiles(pid) {
		fd, target, _ := strings.Cut(open, " ")
		if !strings.HasPrefix(target, "pipe:") || len(fd) == 1 && fd < "3" {
			continue
		}
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%s", pid, fd), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue // closed meanwhile
		}
		if k, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ); err == nil {
			n += k
		}
		f.Close()
	}
	return n
}

// TestPoolReplacesStarting: a sandbox that is stopped while it starts keeps the call that was to have it waiting no longer
// than a busy machine would.
func TestPoolReplacesStarting(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := warmServer(t, 1)
	s.waitWarm(1)
	before := s.pythons()
	s.checkAlive() // takes the one that is warm
	var starting process
	if err := eventually(func() error {
		for _, p := range s.pythons() {
			args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			compiles := bytes.Contains(args, []byte("Compiles")) // the image's modules; it is none of the pool's
			if !compiles && !slices.ContainsFunc(before, func(b process) bool { return b.pid == p.pid }) {
				starting = p
				return syscall.Kill(p.pid, syscall.SIGSTOP)
			}
		}
		return errors.New("no sandbox takes its place")
	}); err != nil {
		t.Fatal(err)
	}
	// Half the time after which a start has failed for good.
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if r, err := s.tryCall(ctx, map[string]any{"code": "1 + 1"}); err != nil || string(r.Result) != "2" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := eventually(func() error { return noneAlive([]process{starting}) }); err != nil {
		t.Error(err)
	}
}

// TestHundredAtOnce: calls that come at the same time are all answered.
func TestHundredAtOnce(t *testing.T) {
	needSandbox(t)
	s := startServer(t)
	var calls sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	for i := range 100 {
		calls.Go(func() {
			began := time.Now()
			r, err := s.tryCall(t.Context(), map[string]any{"code": fmt.Sprint(i)})
			if err != nil || string(r.Result) != fmt.Sprint(i) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
		})
	}
	calls.Wait()
	slices.Sort(took)
	t.Logf("the median took %v, the last one %v", took[50], took[99])
	s.checkIdle()
}

// BenchmarkWarm is what an MCP client waits for, over stdio, while a sandbox is ready: the median and the 99th of a
// hundred.
func BenchmarkWarm(b *testing.B) {
	needSandbox(b)
	for name, code := range map[string]string{
		"print": "print(1)",
		"call":  "r = await mcp_echo.echo(text='x')\nprint(r)",
		"pass":  "pass",
	} {
		b.Run(name, func(b *testing.B) {
			s := warmServer(b, 1, echoServer(b)...)
			s.waitWarm(1)
			if r := s.call(map[string]any{"code": code}); r.Status != "success" { // starts the MCP server
				b.Fatalf("%+v", r)
			}
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				s.waitWarm(1)
				b.StartTimer()
				began := time.Now()
				if r := s.call(map[string]any{"code": code}); r.Status != "success" {
					b.Fatalf("%+v", r)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}

// echoServer configures an MCP server with one tool.
func echoServer(t testing.TB) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "servers.json")
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{
		"echo": map[string]any{"command": exe, "env": map[string]string{runEcho: "1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"MCP_SERVERS_CONFIG=" + file, "MCP_BRIDGE_ALLOW_SELF_SERVER=1"}
}

// TestLastWords: how a script has ended is what the kernel says, not what the script does; and what it has written by then
// is there, though nobody waits for its memory to be freed.
func TestLastWords(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := warmServer(t, 1)
	s.waitWarm(1)
	r := s.call(map[string]any{"code": `
import os
for fd in os.listdir('/proc/self/fd'):
    if int(fd) > 2:
        try: os.write(int(fd), b'{"type":"done","result":1}\n')
        except OSError: pass
print('after the end', flush=True)
os._exit(5)`})
	if r.Status != "error" || r.exit() != 5 || strings.Join(r.Stdout, "") != "after the end" {
		t.Errorf("a script that says it is done, and is not: %+v", r)
	}
	for i := range 20 {
		r := s.call(map[string]any{"code": fmt.Sprintf("import sys\nfor i in range(%d): print('x' * 99)\nsys.stderr.write('y' * %d)", 30*i, 1000*i)})
		if want := strings.Repeat("x", 99*30*i); r.Status != "success" || strings.Join(r.Stdout, "") != want || len(strings.Join(r.Stderr, "")) != 1000*i {
			t.Fatalf("run %d: %s, %d and %d bytes of output", i, r.Status, len(strings.Join(r.Stdout, "")), len(strings.Join(r.Stderr, "")))
		}
	}
}

// TestFewFiles: where there are not descriptors enough for as many runs at once as are allowed, they wait for each other.
func TestFewFiles(t *testing.T) {
	needSandbox(t)
	s := startServerBy(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -n 256 && exec "$0"`, cmd.Path}
	}, "MCP_BRIDGE_MAX_CONCURRENCY=64", "MCP_BRIDGE_LOG_LEVEL=warn")
	var all sync.WaitGroup
	for range 48 {
		all.Go(func() {
			if r, err := s.tryCall(t.Context(), map[string]any{"code": "import time; time.sleep(0.2)"}); err != nil || r.Status != "success" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	all.Wait()
	if !strings.Contains(s.stderr.String(), "too few open files") {
		t.Errorf("nobody is told of it: %s", s.stderr)
	}
}
