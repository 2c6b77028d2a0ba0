//go:build linux

package ocitest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

func (suite Suite) Exit(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	limits := run(t, t.Context(), l, python(""), "").Limits
	// All 256 codes are tested where they are read, in TestReadReport.
	for _, code := range []int{0, 1, 2, 42, 124, 125, 126, 127, 128, 130, 137, 255} {
		t.Run(fmt.Sprintf("code %d", code), func(t *testing.T) {
			o := run(t, t.Context(), l, python(fmt.Sprintf("import os\nprint('last words')\nimport sys\nsys.exit(%d)", code)), "")
			if want := (oci.Exit{Code: code, Limits: limits}); o.err != nil || o.Exit != want || o.stdout != "last words\n" {
				t.Errorf("%v\nwant %+v", o, want)
			}
		})
	}
	// As nohup does. A script has the signals that it would have anywhere.
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGABRT, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM, syscall.SIGSYS} {
		t.Run(sig.String(), func(t *testing.T) {
			o := run(t, t.Context(), l, python(fmt.Sprintf("import os\nos.kill(os.getpid(), %d)\nimport time\ntime.sleep(60)", sig)), "")
			if want := (oci.Exit{Code: 128 + int(sig), Signal: sig, Limits: limits}); o.err != nil || o.Exit != want {
				t.Errorf("%v\nwant %+v", o, want)
			}
		})
	}
	t.Run("everybody is killed", func(t *testing.T) {
		// kill(-1) spares the caller, so a child does it.
		o := run(t, t.Context(), l, python("import os, signal\nos.fork() or os.kill(-1, 9)\nsignal.pause()"), "")
		if o.err != nil || o.Signal != syscall.SIGKILL {
			t.Errorf("%v\nwant SIGKILL", o)
		}
	})
	t.Run("streams closed", func(t *testing.T) {
		if o := run(t, t.Context(), l, python("import os\nos.closerange(0, 100)\nos._exit(9)"), ""); o.err != nil || o.Code != 9 {
			t.Errorf("%v\nwant code 9", o)
		}
	})
	t.Run("a megabyte through each stream", func(t *testing.T) {
		in := strings.Repeat("0123456789abcdef", 1<<16)
		o := run(t, t.Context(), l, python("import sys\ns = sys.stdin.read()\nsys.stderr.write(s)\nsys.stdout.write(s)"), in)
		if o.err != nil || o.stdout != in || o.stderr != in {
			t.Errorf("%d and %d bytes came back, want %d; %+v, %v", len(o.stdout), len(o.stderr), len(in), o.Exit, o.err)
		}
	})
}

// CommandThatCannotRun: the error is the caller's to show, so it names the command and the reason.
func (suite Suite) CommandThatCannotRun(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	for _, tt := range []struct {
		name, command string
		want          error
	}{
		{"missing", "/no/such/python9", fs.ErrNotExist},
		{"directory", "/usr", fs.ErrPermission},
		{"no program", "/etc/passwd", fs.ErrPermission},
		{"below a file", tree.Python + "/x", syscall.ENOTDIR},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := python("")
			c.Args = []string{tt.command}
			if _, err := os.Stat(filepath.Join(tree.Path, "etc/passwd")); tt.name == "no program" && err != nil {
				t.Skip("the image has no /etc/passwd")
			}
			o := run(t, t.Context(), l, c, "")
			var start *oci.StartError
			if !errors.As(o.err, &start) || !errors.Is(o.err, tt.want) || !strings.Contains(o.err.Error(), tt.command) {
				t.Errorf("%v\nwant a StartError that names %s and is %v", o, tt.command, tt.want)
			}
		})
	}
	t.Run("arguments that are too long", func(t *testing.T) {
		c := python(strings.Repeat("#", 1<<18))
		var start *oci.StartError
		if o := run(t, t.Context(), l, c, ""); !errors.As(o.err, &start) {
			t.Errorf("%v\nwant a StartError", o)
		}
	})
	t.Run("the same id twice", func(t *testing.T) {
		c := python(untilEOF)
		s := background(t, t.Context(), l, c)
		if o := run(t, t.Context(), l, c, ""); o.err == nil {
			t.Errorf("two containers with one id ran: %v", o)
		}
		s.release.Close()
		if o := s.wait(t); o.err != nil || o.Code != 0 {
			t.Errorf("the first suffered from the second: %v", o)
		}
	})
	if o := run(t, t.Context(), l, python("print(1)"), ""); o.stdout != "1\n" {
		t.Errorf("the launcher does not work any more: %v", o)
	}
}

func (suite Suite) Cancel(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	cause := errors.New("the client has gone")
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if o := run(t, ctx, l, python("print(1)"), ""); !errors.Is(o.err, cause) || o.stdout != "" {
			t.Errorf("%v\nwant the cause of the cancellation, and nothing run", o)
		}
	})
	t.Run("while running", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := background(t, ctx, l, python(untilEOF))
		cancel(cause)
		if o := s.wait(t); o.err != nil || o.Signal != syscall.SIGKILL || o.Code != 137 || o.OOM || o.stdout != "ready\n" {
			t.Errorf("%v\nwant SIGKILL", o)
		}
	})
	t.Run("with children that ignore signals", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := background(t, ctx, l, python("import os, signal\nfor n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nfor i in range(4): os.fork()\nif os.getppid() != 1: os.setsid()\n"+untilEOF))
		cancel(cause)
		if o := s.wait(t); o.err != nil || o.Signal != syscall.SIGKILL {
			t.Errorf("%v\nwant SIGKILL", o)
		}
		if left := processesIn(t, s.id); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
	t.Run("after", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		o := run(t, ctx, l, python("print(1)"), "")
		cancel(cause)
		if o.err != nil || o.Code != 0 {
			t.Errorf("%v", o)
		}
	})
}

// CancelAtAnyMoment: a start has many steps, and a cancellation in each is to leave nothing.
func (suite Suite) CancelAtAnyMoment(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	cause := errors.New("changed my mind")
	// The first run also shows how long one takes here, so that the moments spread over all of it.
	start := time.Now()
	mustRun(t, l, "print(1)")
	span := time.Since(start)
	before := takeStock(t)
	early, late := 0, 0
	for range suite.often(50) {
		delay := rand.N(span)
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(delay, func() { cancel(cause) })
		c := python(untilEOF)
		inR, inW := pipe(t) // stays open: only the cancellation ends it
		exit, err := l.Run(ctx, c, oci.Streams{Stdin: inR})
		timer.Stop()
		closeAll(inR, inW)
		switch {
		case errors.Is(err, cause) && exit.Code == 0 && exit.Signal == 0:
			early++
		case err == nil && exit.Signal == syscall.SIGKILL && exit.Code == 137:
			late++
		default:
			t.Errorf("cancelled after %v: %+v, %v; want the cause, or SIGKILL", delay, exit, err)
		}
		cancel(nil)
		if left := cgroupsNamed(t, c.ID); len(left) > 0 {
			t.Errorf("cancelled after %v: cgroups are left: %v", delay, left)
		}
	}
	before.compare(t)
	t.Logf("%d cancelled before the command ran, %d after, within %v", early, late, span)
}

// StoppedAtAnyMoment: who is stopped in a start says nothing, and hears of no end. A cancellation ends the run all the same.
func (suite HostSuite) StoppedAtAnyMoment(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	start := time.Now()
	mustRun(t, l, "print(1)")
	span := time.Since(start)
	own, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	before := settled(t)
	for i := range suite.often(12) {
		ctx, cancel := context.WithCancel(t.Context())
		c := python(untilEOF)
		inR, inW := pipe(t)
		ended := make(chan error, 1)
		go func() {
			_, err := l.Run(ctx, c, oci.Streams{Stdin: inR})
			ended <- err
		}()
		delay := rand.N(span) * time.Duration(i%2) // half of them as soon as there is anything
		<-time.After(delay)
		var who []string
		for started := time.Now(); len(who) == 0 && time.Since(started) < patience; {
			// What starts a container is gone within a millisecond. This process waits, with all its threads as soon as it
			// collects garbage, for a child that has not executed anything yet.
			who = slices.DeleteFunc(descendants(t, os.Getpid()), func(pid string) bool {
				b, err := os.ReadFile("/proc/" + pid + "/cmdline")
				return err != nil || string(b) == string(own)
			})
		}
		if i%4 > 1 && len(who) > 0 {
			who = []string{who[rand.N(len(who))]}
		}
		for j, pid := range who {
			n, _ := strconv.Atoi(pid)
			if err := syscall.Kill(n, syscall.SIGSTOP); err == nil {
				comm, _ := os.ReadFile("/proc/" + pid + "/comm") // for a failure's sake
				who[j] += " " + strings.TrimSpace(string(comm))
			}
		}
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("after %v %v were stopped, and the run does not end", delay, who)
		}
		closeAll(inR, inW)
		if left := append(processesIn(t, c.ID), cgroupsNamed(t, c.ID)...); len(left) > 0 {
			t.Errorf("after %v %v were stopped: left: %v", delay, who, left)
		}
	}
	settled(t)
	before.compare(t)
}

// often is how often a test that counts on chance, or on a sum, does a thing.
func (suite Suite) often(n int) int {
	if suite.Slow {
		return n / 5
	}
	return n
}

// Orphans: what the command leaves behind ends with it, and does not hold its output.
func (suite Suite) Orphans(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	t.Run("daemons die with the command", func(t *testing.T) {
		c := python(`
import os, sys
r, w = os.pipe()
for i in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(w, b'x')
            while True:
                sys.stdin.read() or __import__('signal').pause()
        os._exit(0)
while len(os.read(r, 1)) + 1 < 2: pass
print('main ends', flush=True)
`)
		o := run(t, t.Context(), l, c, "")
		if o.err != nil || o.Code != 0 || o.stdout != "main ends\n" {
			t.Errorf("%v", o)
		}
		if left := processesIn(t, c.ID); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
	t.Run("orphans are reaped", func(t *testing.T) {
		// Without a reaper the limit of 128 tasks stops this before the 127th, for good.
		const code = `
import errno, os, time
end = time.monotonic() + 30
for i in range(300):
    while True:
        try:
            pid = os.fork()
            break
        except OSError as e:
            if e.errno != errno.EAGAIN or time.monotonic() > end:
                raise SystemExit('%d: %s' % (i, e))
            os.sched_yield()
    if pid == 0:
        try:
            os.fork()
        except OSError:
            pass
        os._exit(0)
    os.waitpid(pid, 0)
while len([n for n in os.listdir('/proc') if n.isdigit()]) > 2:
    if time.monotonic() > end:
        raise SystemExit('zombies: %s' % os.listdir('/proc'))
    os.sched_yield()
print('reaped')
`
		if got := mustRun(t, l, code); got != "reaped\n" {
			t.Error(got)
		}
	})
}

// Concurrent: containers know nothing of each other.
func (suite Suite) Concurrent(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	for _, n := range []int{2, 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var group sync.WaitGroup
			sessions := make([]*session, n)
			for i := range n {
				c := python(fmt.Sprintf("import os\nopen('/tmp/mine-%d', 'w')\n", i) + untilEOF +
					"print(os.listdir('/tmp'), len([n for n in os.listdir('/proc') if n.isdigit()]))")
				c.Limits.Memory = 64 << 20
				group.Go(func() { sessions[i] = background(t, t.Context(), l, c) })
			}
			group.Wait() // all have started, and none has ended
			for i, s := range sessions {
				s.release.Close()
				if o, want := s.wait(t), fmt.Sprintf("ready\n['mine-%d'] 2\n", i); o.err != nil || o.stdout != want {
					t.Errorf("container %d: %v\nwant %q", i, o, want)
				}
			}
		})
	}
}

// NothingIsLeft: what a run leaks, a server that runs for weeks does not survive.
func (suite Suite) NothingIsLeft(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	mustRun(t, l, "print(1)") // what is made once
	before := takeStock(t)
	missing := python("")
	missing.Args = []string{"/no/such/command"}
	for i := range suite.often(60) {
		switch i % 6 {
		case 0:
			missing.ID = newID()
			run(t, t.Context(), l, missing, "")
		case 1:
			ctx, cancel := context.WithCancel(t.Context())
			s := background(t, ctx, l, python(untilEOF))
			cancel()
			s.wait(t)
			s.release.Close()
		case 2:
			run(t, t.Context(), l, python("import os; os.fork() or os.fork(); os.kill(os.getpid(), 9)"), "")
		default:
			mustRun(t, l, "print(1)")
		}
	}
	before.compare(t)
}

// A stock is what a process and the machine have of what containers are made of.
type stock struct {
	Files, Goroutines, Mounts, Children, Cgroups int
}

func takeStock(t testing.TB) stock {
	t.Helper()
	return stock{
		Files: Entries(t, "/proc/self/fd"), Goroutines: Goroutines(t), Mounts: mountsLeft(t),
		Children: Children(t), Cgroups: len(ourCgroups(t)),
	}
}

// settled is the stock when the garbage collector has closed what libcontainer leaves open. It does so behind a collection, so
// several in a row have to find nothing more.
func settled(t testing.TB) stock {
	t.Helper()
	last, same := takeStock(t), 0
	Eventually(t, 5*time.Second, func() string {
		runtime.GC()
		now := takeStock(t)
		if same++; now != last {
			last, same = now, 0
		}
		if same < 5 {
			return "files are still closed"
		}
		return ""
	})
	return last
}

// mountsLeft counts the mounts of this namespace, but for those of podman, which comes and goes.
func mountsLeft(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "/containers/") && !strings.Contains(line, "/run/netns") {
			n++
		}
	}
	return n
}

// compare waits until the stock is as before: goroutines and the kernel end things a moment after they say so.
func (before stock) compare(t testing.TB) {
	t.Helper()
	Eventually(t, 5*time.Second, func() string {
		if diff := cmp.Diff(before, takeStock(t)); diff != "" {
			stacks := make([]byte, 1<<16)
			return "something is left (-before +after):\n" + diff + string(stacks[:runtime.Stack(stacks, true)])
		}
		return ""
	})
}

// BlindedPid1: what keeps pid 1 from seeing that the bridge is gone ends the container. The filter does not let a script do
// that, so there is none here.
func (suite Suite) BlindedPid1(t *testing.T) {
	suite.excepted(t)
	l := suite.New(host.Options{StateDir: filepath.Join(t.TempDir(), "state"), AllowWeakLimits: os.Geteuid() != 0, Unfiltered: true})
	defer l.Close()
	const blind = "import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))\n"
	for _, prefix := range []string{
		blind + "import os, time\n", // at once, while pid 1 may still prepare itself
		"import os, time\n" + blind,
	} {
		// An orphan that dies wakes pid 1, which then waits anew.
		o := run(t, t.Context(), l, python(prefix+"if os.fork() == 0:\n    os.fork()\n    os._exit(0)\ntime.sleep(2)\nprint('still here')"), "")
		if o.err != nil || o.Signal != syscall.SIGKILL || o.stdout != "" {
			t.Errorf("%s%v", prefix, o)
		}
	}
}

// Exited: the end of the command is told before the rest is removed, in the words of Run, and then nothing is left.
func (suite Suite) Exited(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	told := make(chan oci.Exit, 2)
	tell := func(e oci.Exit) { told <- e }
	for _, code := range []string{"pass", "import os, time\nif os.fork() == 0: time.sleep(1000)\nos._exit(3)", "import os; os.kill(os.getpid(), 9)"} {
		c := python(code)
		c.ID = newID()
		var then []string
		exit, err := l.Run(t.Context(), c, oci.Streams{Exited: func(e oci.Exit) { then = cgroupsNamed(t, c.ID); tell(e) }})
		if err != nil || len(told) != 1 {
			t.Fatalf("%v, told %d times", err, len(told))
		}
		if e := <-told; e != exit || exit.Limits == oci.ByCgroup && len(then) == 0 {
			t.Errorf("told %+v when there were the cgroups %v, returned %+v", e, then, exit)
		}
		if left := append(processesIn(t, c.ID), cgroupsNamed(t, c.ID)...); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	c := python("pass")
	c.Args[0] = "/nowhere"
	if _, err := l.Run(t.Context(), c, oci.Streams{Exited: tell}); err == nil || len(told) != 0 {
		t.Errorf("error %v, told %d times of what has not started", err, len(told))
	}
}
