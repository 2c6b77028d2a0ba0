package main

import (
	"context"
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

// TestEndOfRun: however a script ends, the status is the host's own observation, what it printed until then is in the
// result, and nothing of it is left.
func TestEndOfRun(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t, "MCP_BRIDGE_MEMORY=128m")
	const (
		daemon = `
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
`
		bomb = `
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
`
	)
	for _, tt := range []struct {
		name, code string
		timeout    int
		status     string
		exit       int // -1: none
		summary    string
	}{
		{"end of the script", "", 0, "success", 0, ""},
		{"sys.exit", "import sys; sys.exit(3)", 0, "error", 3, "exit code 3"},
		{"sys.exit in a thread that is waited for", "import sys, threading; threading.Thread(target=lambda: sys.exit(3)).start()", 0, "success", 0, ""},
		{"os._exit", "import os; os._exit(4)", 0, "error", 4, "exit code 4"},
		{"os._exit(0)", "import os; os._exit(0)", 0, "success", 0, ""},
		{"os._exit in a thread", "import os, threading, time; threading.Thread(target=lambda: os._exit(4)).start(); time.sleep(1000)", 0, "error", 4, ""},
		{"exception", "1 / 0", 0, "error", 1, "ZeroDivisionError"},
		{"exception at exit", "import atexit; atexit.register(lambda: 1 / 0)", 0, "success", 0, ""},
		{"KeyboardInterrupt", "raise KeyboardInterrupt", 0, "error", -2, ""},
		{"deep recursion", "def f(): f()\nf()", 0, "error", 1, "RecursionError"},
		{"segmentation fault", "import ctypes; ctypes.string_at(0)", 0, "error", 139, "signal 11"},
		{"abort", "import os; os.abort()", 0, "error", 134, "signal 6"},
		{"killed by itself", "import os; os.kill(os.getpid(), 9)", 0, "error", 137, "signal 9"},
		{"kills all", "import os; os.kill(-1, 9)", 0, "error", -2, ""},
		{"tries to kill pid 1", "import os\nfor sig in 15, 9:\n    os.kill(1, sig)", 0, "success", 0, ""},
		{"timeout in a loop", "while True: pass", 1, "timeout", -1, "timeout of 1 s"},
		{"timeout in a C call", "import time; time.sleep(1000)", 1, "timeout", -1, "timeout of 1 s"},
		{"timeout in a child", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(1000)'])", 1, "timeout", -1, ""},
		{"timeout in an exit handler", "import atexit, time; atexit.register(time.sleep, 1000)", 1, "timeout", -1, ""},
		{"timeout of a thread", "import threading, time; threading.Thread(target=time.sleep, args=[1000]).start()", 1, "timeout", -1, ""},
		{"timeout of await", "import asyncio; await asyncio.sleep(1000)", 1, "timeout", -1, ""},
		{"timeout of a fork bomb", bomb, 1, "timeout", -1, ""},
		{"timeout with signals ignored", "import signal\nfor i in range(1, 65):\n  try: signal.signal(i, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nwhile True: pass", 1, "timeout", -1, ""},
		{"timeout of a stopped script", "import os; os.kill(os.getpid(), 19)", 1, "timeout", -1, ""},
		{"daemon that holds stdout", daemon, 0, "success", 0, ""},
		{"daemon and os._exit", daemon + "os._exit(5)", 0, "error", 5, ""},
		{"daemon and timeout", daemon + "time.sleep(1000)", 1, "timeout", -1, ""},
		{"detached child with all descriptors", "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], start_new_session=True, close_fds=False)", 0, "success", 0, ""},
		{"daemon thread", "import threading, time; threading.Thread(target=time.sleep, args=[1000], daemon=True).start()", 0, "success", 0, ""},
		{"all descriptors closed", "import os; os.closerange(0, 1000)", 0, "", -2, ""},
		{"all descriptors closed, then a loop", "import os; os.closerange(0, 1000)\nwhile True: pass", 1, "", -2, ""},
		{"stdout closed", "import os, sys; sys.stdout.close(); os.close(1)", 0, "", -2, ""},
		{"another program", "import os, sys; os.execv(sys.executable, ['python', '-c', 'pass'])", 0, "success", 0, ""},
		{"another program that stays", "import os, sys; os.execv(sys.executable, ['python', '-c', 'import time; time.sleep(1000)'])", 1, "timeout", -1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMark()
			args := map[string]any{"code": m.say() + "print('before', flush=True)\n" + tt.code}
			if tt.timeout > 0 {
				args["timeout"] = tt.timeout
			}
			r, err := s.tryCall(t.Context(), args)
			if err != nil {
				t.Fatal(err)
			}
			if tt.status == "" { // the script's own doing, which Python may report in its way
				if r.Status != "success" && r.Status != "error" && r.Status != "timeout" {
					t.Errorf("status %s: %+v", r.Status, r)
				}
			} else if r.Status != tt.status || tt.exit != -2 && r.exit() != tt.exit || !strings.Contains(r.Summary, tt.summary) {
				t.Errorf("%s, exit code %d, %q; want %s, %d, %q\n%+v", r.Status, r.exit(), r.Summary, tt.status, tt.exit, tt.summary, r)
			}
			if !slices.Equal(r.Stdout, []string{"before"}) {
				t.Errorf("stdout %q", r.Stdout)
			}
			m.checkGone(t) // soon: the answer does not wait for the kernel to have freed a script's memory
			if tt.status == "timeout" && r.TimeoutSeconds != tt.timeout {
				t.Errorf("timeoutSeconds %d", r.TimeoutSeconds)
			}
		})
	}
	s.checkIdle()
	s.checkAlive()
}

func TestOutOfMemory(t *testing.T) {
	needCgroup(t)
	t.Parallel()
	s := startServer(t, "MCP_BRIDGE_MEMORY=64m")
	const eat = "kept = []\nwhile True: kept.append(b'x' * 1000000)\n"
	for name, code := range map[string]string{
		"the script":   eat,
		"many threads": "import threading\ndef eat():\n  kept = []\n  while True: kept.append(b'x' * 1000000)\nfor _ in range(8): threading.Thread(target=eat).start()",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMark()
			r := s.call(map[string]any{"code": m.say() + "print('before', flush=True)\n" + code})
			if r.Status != "oom" || r.exit() != 137 || !strings.Contains(r.Summary, "64 MiB") || !slices.Equal(r.Stdout, []string{"before"}) {
				t.Errorf("%+v", r)
			}
			m.checkGone(t) // soon: the answer does not wait for the kernel to have freed a script's memory
			s.checkAlive()
		})
	}
	t.Run("a child", func(t *testing.T) {
		// The kernel may take the child or the script, whichever is larger; both are told from an ordinary failure.
		r := s.call(map[string]any{"code": "import subprocess, sys\np = subprocess.run([sys.executable, '-c', '''" + eat + "'''])\nprint(p.returncode)\nsys.exit(p.returncode)"})
		if r.Status != "oom" {
			t.Errorf("%+v", r)
		}
	})
	s.checkIdle()
}

// busyCalls starts n calls that do not end by themselves, and returns when they all run. A call may be answered or not:
// that depends on how the server is ended. await returns when every one has ended in some way.
func busyCalls(t *testing.T, s *server, n int) (m mark, groups []string, await func()) {
	t.Helper()
	m = newMark()
	var calls sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background()) // not the test's: its end must not cancel them first
	t.Cleanup(cancel)
	for i := range n {
		code := m.say() + "import time; time.sleep(1000)"
		if i%2 == 1 {
			code = m.say() + "import os\nif os.fork() == 0: os.setsid()\nwhile True: pass"
		}
		calls.Go(func() {
			if r, err := s.tryCall(ctx, map[string]any{"code": code}); err == nil && r.Status != "cancelled" {
				t.Errorf("a call that was ended with its server is %+v", r)
			}
		})
	}
	for _, p := range m.wait(t, n+n/2) {
		groups = append(groups, cgroupsOf(t, p.pid)...)
	}
	return m, groups, func() {
		t.Helper()
		within(t, "the calls of a server that has ended", func() bool { calls.Wait(); return true })
	}
}

// exitCode is that of an error of exec.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// TestServerEnds: with its server, every run ends: when the client goes and when a supervisor says so.
func TestServerEnds(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	t.Run("end of file", func(t *testing.T) {
		t.Parallel()
		state, before := filepath.Join(t.TempDir(), "state"), cgroups()
		cmd := bridgeCommand(t, environment(state))
		stderr := &buffer{}
		cmd.Stderr = stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// By hand: the SDK's client would end its calls before it closes the pipe.
		m := newMark()
		fmt.Fprintln(stdin, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`)
		fmt.Fprintln(stdin, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		for id := 2; id < 4; id++ {
			fmt.Fprintf(stdin, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"run_python","arguments":{"code":%q}}}`+"\n", id, m.say()+"while True: pass")
		}
		m.wait(t, 2)
		if err := stdin.Close(); err != nil {
			t.Fatal(err)
		}
		if err := within(t, "the end of a bridge whose client has gone", cmd.Wait); err != nil {
			t.Errorf("%v\n%s", err, stderr)
		}
		if ps := m.processes(); len(ps) > 0 {
			t.Errorf("%d processes outlive the bridge", len(ps))
		}
		checkNothingLeft(t, cmd.Process.Pid, state, before)
	})
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			m, _, await := busyCalls(t, s, 2)
			if err := s.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			await()
			m.checkGone(t)
			s.close()
		})
	}
}

// TestInterruptedBeforeTheScript: a signal ends a run that waits for its script.
func TestInterruptedBeforeTheScript(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "script.py")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := bridgeCommand(t, environment(filepath.Join(dir, "state")), "run", fifo)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for who reads it
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the end of the run", cmd.Wait); exitCode(err) != exitInterrupt {
		t.Error(err)
	}
}

// TestServerKilled: kill -9 leaves no process, and the next start sweeps the rest.
func TestServerKilled(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t)
	m, groups, await := busyCalls(t, s, 3)
	children := descendants(s.pid())
	start := time.Now()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// By themselves: nothing else is there that would end them. They have a second; a busy machine has more.
	if err := eventually(func() error { return noneAlive(children) }); err != nil {
		t.Error(err)
	}
	t.Logf("%d processes were gone after %v", len(children), time.Since(start))
	m.checkGone(t)
	await()
	s.ended = true
	_ = within(t, "the end of a session", s.session.Close) // its server was killed

	crashed, err := filepath.Glob(filepath.Join(s.state, "*"))
	if err != nil || len(crashed) != 1 {
		t.Fatalf("the crash has left %v", crashed)
	}
	if r, _ := probe(); r.Limits == "" && len(groups) == 0 {
		t.Fatal("the runs had no cgroups")
	}

	next := &server{t: t, stderr: &buffer{}, state: s.state}
	next.connect(bridgeCommand(t, environment(s.state)))
	defer next.close()
	next.checkAlive()
	if exists(crashed[0]) {
		t.Errorf("%s has not been swept", crashed[0])
	}
	if err := noneExist(groups); err != nil {
		t.Error(err)
	}
	next.checkIdle()
}

// TestSweepLeavesOthersAlone: a start does not take a living neighbour, which shares the state directory, for a crash.
func TestSweepLeavesOthersAlone(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := newMark()
	done := make(chan error, 1)
	go func() {
		_, err := s.tryCall(ctx, map[string]any{"code": m.say() + "while True: pass"})
		done <- err
	}()
	p := m.wait(t, 1)
	groups := cgroupsOf(t, p[0].pid)
	for range 2 {
		out, err := bridgeCommand(t, environment(s.state), "run", "-c", "print(1)").CombinedOutput()
		if err != nil || string(out) != "1\n" {
			t.Errorf("a neighbour: %v\n%s", err, out)
		}
	}
	if err := noneAlive(p); err == nil {
		t.Error("the neighbour's start has ended a run")
	}
	for _, g := range groups {
		if !exists(g) {
			t.Errorf("the neighbour's start has removed %s", g)
		}
	}
	cancel()
	if err := within(t, "a cancelled call", func() error { return <-done }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	s.checkAlive()
}

// TestRunEnds is the same for the command run.
func TestRunEnds(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	for _, tt := range []struct {
		signal syscall.Signal
		exit   int
	}{
		{syscall.SIGINT, 130}, {syscall.SIGTERM, 130}, {syscall.SIGHUP, 130}, {syscall.SIGKILL, -1},
	} {
		t.Run(tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			state, before := filepath.Join(t.TempDir(), "state"), cgroups()
			m := newMark()
			cmd := bridgeCommand(t, environment(state), "run", "-c", m.say()+"print('before', flush=True)\nwhile True: pass")
			var stdout, stderr buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			m.wait(t, 1)
			if err := eventually(func() error {
				if stdout.String() != "before\n" {
					return fmt.Errorf("stdout %q: output does not come as it is written", stdout.String())
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			if got := exitCode(within(t, "run", cmd.Wait)); got != tt.exit {
				t.Errorf("exit code %d, want %d\n%s", got, tt.exit, &stderr)
			}
			m.checkGone(t)
			if tt.signal == syscall.SIGKILL {
				if out, err := bridgeCommand(t, environment(state), "run", "-c", "pass").CombinedOutput(); err != nil {
					t.Errorf("the next run: %v\n%s", err, out)
				}
			}
			checkNothingLeft(t, cmd.Process.Pid, state, before)
		})
	}
}
