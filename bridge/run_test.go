package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcp-bridge/mcp-bridge/internal/sandbox"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

var unexported = cmpopts.IgnoreUnexported(Result{})

func TestRun(t *testing.T) {
	b := newBridge(t, nil)
	for _, tt := range []struct {
		name, code string
		want       Result
	}{
		{"print", "print(1)", Result{Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"1"}}},
		{"nothing", "pass", Result{Status: StatusSuccess, ExitCode: exit(0)}},
		{"value", "x = 6\nx * 7", Result{Status: StatusSuccess, ExitCode: exit(0), Result: []byte("42")}},
		{
			"both streams", "import sys\nprint('out')\nprint('err', file=sys.stderr)",
			Result{Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"out"}, Stderr: []string{"err"}},
		},
		{
			"a child's output", "import subprocess, sys\nr = subprocess.run([sys.executable, '-c', 'print(1)'])",
			Result{Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"1"}},
		},
		{"top-level await", "import asyncio\nawait asyncio.sleep(0, 'slept')", Result{Status: StatusSuccess, ExitCode: exit(0), Result: []byte(`"slept"`)}},
		{"exit code", "print('x')\nraise SystemExit(3)", Result{Status: StatusError, ExitCode: exit(3), Stdout: []string{"x"}}},
		{"exit code 0", "raise SystemExit(0)", Result{Status: StatusSuccess, ExitCode: exit(0)}},
		{"exit without cleaning up", "import os\nos._exit(5)", Result{Status: StatusError, ExitCode: exit(5)}},
		{
			"signal", "import os\nos.kill(os.getpid(), 15)",
			Result{Status: StatusError, ExitCode: exit(143), Error: "Python was ended by signal 15 (terminated)"},
		},
		{
			"exception", "print('before')\n\nraise ValueError('too big')",
			Result{Status: StatusError, ExitCode: exit(1), Stdout: []string{"before"}, Error: "ValueError: too big (line 3)"},
		},
		{
			"exception without a message", "raise KeyError",
			Result{Status: StatusError, ExitCode: exit(1), Error: "KeyError (line 1)"},
		},
		{"end of input", "input()", Result{Status: StatusError, ExitCode: exit(1), Error: "EOFError: EOF when reading a line (line 1)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := b.Run(t.Context(), Request{Code: tt.code}, Output{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Error != "" && len(got.Stderr) > 0 && len(tt.want.Stderr) == 0 {
				// The traceback is the guest's, and tested there.
				if !strings.Contains(strings.Join(got.Stderr, "\n"), "script.py") {
					t.Errorf("a traceback that does not show the script: %q", got.Stderr)
				}
				got.Stderr = nil
			}
			if diff := cmp.Diff(tt.want, got, unexported); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunOutputIsPassedOn(t *testing.T) {
	b := newBridge(t, nil)
	var stdout, stderr bytes.Buffer
	r, err := b.Run(t.Context(), Request{Code: "import sys\nprint('a\\n\\nb')\nsys.stderr.buffer.write(b'\\xff')"}, Output{Stdout: &stdout, Stderr: &stderr})
	if err != nil || r.Status != StatusSuccess || stdout.String() != "a\n\nb\n" || stderr.String() != "\xff" {
		t.Errorf("%v, %v, %q, %q; want the raw bytes", r, err, stdout.String(), stderr.String())
	}
}

// firstWrite tells of the first write.
type firstWrite struct {
	c chan struct{}
	io.Writer
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.c != nil {
		close(w.c)
		w.c = nil
	}
	return len(p), nil
}

// TestRunStops: what ends a script from outside keeps what it had printed until then.
func TestRunStops(t *testing.T) {
	for _, tt := range []struct{ name, code string }{
		{"sleeping", "import time\nprint('partial', flush=True)\ntime.sleep(3600)"},
		{"computing", "print('partial', flush=True)\nwhile True: pass"},
		{"catching everything", "print('partial', flush=True)\nimport time\nwhile True:\n  try: time.sleep(3600)\n  except BaseException: pass"},
		{"in a thread", "import threading, time\nprint('partial', flush=True)\nthreading.Thread(target=time.sleep, args=(3600,)).start()"},
		{"in a child", "import subprocess\nprint('partial', flush=True)\nsubprocess.run(['/bin/sleep', '3600'])"},
	} {
		t.Run("timeout "+tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBridge(t, nil)
			r, err := b.Run(t.Context(), Request{Code: tt.code, Timeout: time.Second}, Output{})
			want := Result{Status: StatusTimeout, TimeoutSeconds: 1, Stdout: []string{"partial"}}
			if diff := cmp.Diff(want, r, unexported); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
		t.Run("cancel "+tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBridge(t, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			printed := make(chan struct{})
			go func() { <-printed; cancel() }()
			r, err := b.Run(ctx, Request{Code: tt.code}, Output{Stdout: &firstWrite{c: printed}})
			want := Result{Status: StatusCancelled, Stdout: []string{"partial"}}
			if diff := cmp.Diff(want, r, unexported); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestRunCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := newBridge(t, nil)
	if r, err := b.Run(ctx, Request{Code: "print(1)"}, Output{}); err != nil || r.Status != StatusCancelled || r.Stdout != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// A loner is a context whose end its children hear of one by one, in any order, each by a goroutine of its own.
type loner struct{ context.Context }

func (loner) Value(any) any { return nil }

// TestRunCancelled: a run that is cancelled says so, whether the run or its sandbox hears of it first.
func TestRunCancelled(t *testing.T) {
	for range 200 {
		b, began, _ := sleeper(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-began; cancel() }()
		if r, err := b.Run(loner{ctx}, Request{Code: "pass"}, Output{}); err != nil || r.Status != StatusCancelled {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}

// TestRunLongOutput: what is too long is cut in its middle, and said; it never takes more memory than is kept.
func TestRunLongOutput(t *testing.T) {
	b := newBridge(t, nil)
	t.Run("just what is kept", func(t *testing.T) {
		r := runCode(t, b, "print('x' * (1 << 20), end='')")
		if r.Truncated || len(r.Stdout) != 1 || len(r.Stdout[0]) != 1<<20 {
			t.Errorf("truncated %v, %d lines", r.Truncated, len(r.Stdout))
		}
	})
	t.Run("cut", func(t *testing.T) {
		r := runCode(t, b, "print('first')\nfor i in range(300000): print('%06d' % i)\nprint('last')")
		n := len(r.Stdout)
		if !r.Truncated || n < 3 || r.Stdout[0] != "first" || r.Stdout[n-1] != "last" {
			t.Fatalf("truncated %v, %d lines", r.Truncated, n)
		}
		marks, kept := 0, 0
		for _, line := range r.Stdout {
			if strings.Contains(line, "bytes left out") {
				marks++
			}
			kept += len(line) + 1
		}
		if marks != 1 || kept < maxStream*9/10 || kept > maxStream*11/10 {
			t.Errorf("%d marks, %d bytes kept", marks, kept)
		}
		if !strings.Contains(r.Summarize(), "cut") {
			t.Errorf("the summary %q does not say it", r.Summarize())
		}
	})
	t.Run("100 MB", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var count countWriter
		r, err := b.Run(t.Context(), Request{Code: "import sys\nfor i in range(1600): sys.stdout.write('x' * 65535 + '\\n')"}, Output{Stdout: &count})
		runtime.ReadMemStats(&after)
		if err != nil || r.Status != StatusSuccess || !r.Truncated || count != 1600<<16 {
			t.Errorf("%v, %v, truncated %v, %d bytes", err, r.Status, r.Truncated, count)
		}
		// Everything that was allocated, not what is in use: a bound that no garbage collection makes uncertain.
		if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
			t.Errorf("%d MiB were allocated for an output of which 1 MiB is kept", took>>20)
		}
	})
}

type countWriter int

func (w *countWriter) Write(p []byte) (int, error) { *w += countWriter(len(p)); return len(p), nil }

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestRunBrokenPipe: who reads no longer, such as "| head", wants no more.
func TestRunBrokenPipe(t *testing.T) {
	b := newBridge(t, nil)
	for name, out := range map[string]Output{"stdout": {Stdout: brokenWriter{}}, "stderr": {Stderr: brokenWriter{}}} {
		t.Run(name, func(t *testing.T) {
			r, err := b.Run(t.Context(), Request{Code: "import sys\nwhile True:\n  print(1, flush=True)\n  print(1, file=sys.stderr)"}, out)
			if !errors.Is(err, syscall.EPIPE) || r.Status != StatusCancelled || !strings.Contains(r.Error, "broken pipe") {
				t.Errorf("%+v, %v", r.Status, err)
			}
		})
	}
}

// TestRunFailures: what keeps a script from running is an error of Run, and stands in the result too.
func TestRunFailures(t *testing.T) {
	start := &oci.StartError{Step: "exec python3", Err: fs.ErrNotExist}
	imageError := errors.New("cannot find image x")
	for _, tt := range []struct {
		name string
		with func(*Options)
		want error
	}{
		{"the launcher", func(o *Options) {
			o.Launcher = synthetic(func(*guestEnd) (oci.Exit, error) { return oci.Exit{}, start })
		}, start},
		{"the launcher, before it reads", func(o *Options) { o.Launcher = failing{start} }, start},
		{"the image", func(o *Options) {
			o.Image = func(context.Context) (Image, error) { return Image{}, imageError }
		}, imageError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t)
			tt.with(&o)
			r, err := New(o).Run(t.Context(), Request{Code: "pass"}, Output{})
			if !errors.Is(err, tt.want) || r.Status != StatusError || r.Error != tt.want.Error() || r.ExitCode != nil {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	t.Run("the image, because of a cancellation", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := options(t)
		o.Image = func(ctx context.Context) (Image, error) { cancel(); return Image{}, ctx.Err() }
		if r, err := New(o).Run(ctx, Request{Code: "pass"}, Output{}); err != nil || r.Status != StatusCancelled {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// failing fails at once, with the pipes untouched.
type failing struct{ err error }

func (l failing) Run(context.Context, oci.Container, oci.Streams) (oci.Exit, error) {
	return oci.Exit{}, l.err
}

// TestRunSaysWhatTheHostSaw: the exit is the host's observation, whatever the guest claims.
// TestSlowStart: a start that takes too long is said to, once, with what the launcher knows of it.
func TestSlowStart(t *testing.T) {
	stuck := &oci.StartError{Step: "mount", Err: syscall.EIO}
	for _, tt := range []struct {
		exit   oci.Exit
		launch error
		want   string
	}{
		{oci.Exit{Signal: syscall.SIGKILL}, nil, sandbox.ErrStart.Error()},
		{oci.Exit{}, sandbox.ErrStart, sandbox.ErrStart.Error()}, // why it was ended
		{oci.Exit{}, stuck, sandbox.ErrStart.Error() + ": " + stuck.Error()},
	} {
		r, err := new(run).result(tt.exit, tt.launch, sandbox.ErrStart)
		if !errors.Is(err, sandbox.ErrStart) || r.Error != tt.want {
			t.Errorf("%q, %v, want %q", r.Error, err, tt.want)
		}
	}
}

func TestRunSaysWhatTheHostSaw(t *testing.T) {
	for _, tt := range []struct {
		name, done string
		exit       oci.Exit
		want       Result
	}{
		{"a value and success", `{"type":"done","result":1}`, oci.Exit{}, Result{Status: StatusSuccess, ExitCode: exit(0), Result: []byte("1")}},
		{"a value, but it failed", `{"type":"done","result":1}`, oci.Exit{Code: 3}, Result{Status: StatusError, ExitCode: exit(3), Result: []byte("1")}},
		{"an error, but it succeeded", `{"type":"done","error":{"type":"E","message":"m"}}`, oci.Exit{}, Result{Status: StatusSuccess, ExitCode: exit(0)}},
		{"a value, but it ran out of memory", `{"type":"done","result":1}`, oci.Exit{Code: 137, Signal: 9, OOM: true}, Result{Status: StatusOOM, ExitCode: exit(137), Error: "the memory limit of 512 MiB was reached"}},
		{"a value, but the machine ran out of memory", `{"type":"done","result":1}`, oci.Exit{Code: 137, Signal: 9, OOM: true, Starved: true}, Result{Status: StatusOOM, ExitCode: exit(137), Error: "there was no memory left on the machine, or for the bridge and its sandboxes together; the script's own limit was not reached"}},
		{"a child ran out of memory", `{"type":"done"}`, oci.Exit{OOM: true}, Result{Status: StatusSuccess, ExitCode: exit(0)}},
		{"weak limits", `{"type":"done"}`, oci.Exit{Limits: oci.ByRlimits}, Result{Status: StatusSuccess, ExitCode: exit(0), Limits: "rlimit"}},
		{"a long value", `{"type":"done","result":"x","truncated":true}`, oci.Exit{}, Result{Status: StatusSuccess, ExitCode: exit(0), Result: []byte(`"x"`), Truncated: true, cut: "result"}},
		{"nothing", "", oci.Exit{}, Result{Status: StatusSuccess, ExitCode: exit(0)}},
		{"half a frame", `{"type":"do`, oci.Exit{Code: 1}, Result{Status: StatusError, ExitCode: exit(1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
				g.start()
				if tt.name == "half a frame" {
					_, _ = io.WriteString(g.out, tt.done)
				} else if tt.done != "" {
					g.say("%s", tt.done)
				}
				return tt.exit, nil
			}, nil)
			r, err := b.Run(t.Context(), Request{Code: "pass"}, Output{})
			if diff := cmp.Diff(tt.want, r, unexported); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestRunNotBegun: what ends before it has the script has not run it, whatever its exit code.
func TestRunNotBegun(t *testing.T) {
	for _, code := range []int{0, 1} {
		b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
			_, _ = io.WriteString(g.stdout, "hi\n")
			return oci.Exit{Code: code}, nil
		}, nil)
		r, err := b.Run(t.Context(), Request{Code: "1/0"}, Output{})
		want := fmt.Sprintf("the image's Python ended, with exit code %d, before it had begun the script", code)
		if err == nil || r.Status != StatusError || !strings.HasPrefix(r.Error, want) || !slices.Equal(r.Stdout, []string{"hi"}) {
			t.Errorf("%v %+v", err, r)
		}
	}
}

// TestRunContainer: what a launcher is asked for.
func TestRunContainer(t *testing.T) {
	var ids []string
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		c := g.container
		ids = append(ids, c.ID)
		if _, err := oci.Spec(c, oci.Host{UIDMap: []oci.IDMap{{Host: 7, Size: 70000}}, GIDMap: []oci.IDMap{{Host: 7, Size: 70000}}, Limits: oci.ByCgroup}); err != nil {
			t.Error(err)
		}
		c.ID, c.Args = "", c.Args[:1]
		want := oci.Container{
			Rootfs: "/image", Args: []string{"/usr/bin/python3"}, User: oci.User{UID: 65534, GID: 65534}, Limits: oci.Limits{Memory: 512 << 20, Pids: 128},
			Env: []string{
				"HOME=/workspace", "TMPDIR=/tmp", "LANG=C.UTF-8", "USER=nobody", "LOGNAME=nobody", "PYTHONDONTWRITEBYTECODE=1",
				"X=1", "PATH=/usr/local/bin:/usr/bin:/bin",
			},
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if run := g.start(); run["type"] != "run" || run["code"] != "print('é')" {
			t.Errorf("the script arrives as %v", run)
		}
		return oci.Exit{}, nil
	}, func(o *Options) {
		o.Image = func(context.Context) (Image, error) {
			return Image{Root: "/image", Python: "/usr/bin/python3", Env: []string{"X=1", "HOME=/root"}, Note: "another one"}, nil
		}
	})
	for range 2 {
		if r := runCode(t, b, "print('é')"); r.Image != "another one" {
			t.Errorf("the note of the image is %q", r.Image)
		}
	}
	if ids[0] == ids[1] {
		t.Errorf("two containers have the id %s", ids[0])
	}
}

func TestEnvironmentKeepsTheImagesPath(t *testing.T) {
	got := strings.Join(environment([]string{"PATH=/opt/bin", "LANG=de_DE", "EMPTY="}), " ")
	if strings.Count(got, "PATH=") != 1 || !strings.Contains(got, " PATH=/opt/bin") || strings.Contains(got, "de_DE") || !strings.Contains(got, "EMPTY=") {
		t.Error(got)
	}
}

// TestSaveRunner: compiled code is offered for keeping by a guest that had none, and by the next one, which has compiled the
// rest.
func TestSaveRunner(t *testing.T) {
	var kept [][]byte
	image := Image{Root: "/image", Python: python3(), SaveRunner: func(b []byte) { kept = append(kept, b) }}
	b := newBridge(t, func(o *Options) { o.Image = func(context.Context) (Image, error) { return image, nil } })
	for i := range 2 {
		runCode(t, b, "pass")
		if len(kept) != i+1 || len(kept[i]) == 0 {
			t.Fatalf("%d runners were offered", len(kept))
		}
		image.Runner = kept[i]
	}
	if r := runCode(t, b, "print(1)"); len(kept) != 2 || r.Status != StatusSuccess {
		t.Errorf("with a compiled runner: %d offered, %+v", len(kept), r)
	}
	image.Runner = []byte("nonsense")
	if r := runCode(t, b, "print(1)"); len(kept) != 3 || r.Status != StatusSuccess {
		t.Errorf("with a broken runner: %d offered, %+v", len(kept), r)
	}
}
