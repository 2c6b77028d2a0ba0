package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

func newPodman(t testing.TB, stateDir string) *Engine {
	t.Helper()
	return NewEngine(EngineOptions{Options: host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0}, Kind: Podman})
}

// containersOf are podman's containers, with their monitors, that have to do with a state directory's owner.
func containersOf(t testing.TB, owner string) []string {
	t.Helper()
	return engineContainersOf(t, Podman, owner)
}

func engineContainersOf(t testing.TB, kind EngineKind, owner string) (found []string) {
	t.Helper()
	out, err := exec.Command(string(kind), "ps", "--all", "--quiet", "--filter", "label="+engineLabel+"="+owner).Output()
	if err != nil {
		t.Fatal(err)
	}
	found = strings.Fields(string(out))
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), owner) {
			found = append(found, strings.ReplaceAll(string(b[:min(len(b), 200)]), "\x00", " "))
		}
	}
	return found
}

// TestEngineLeavesNothing: no container, monitor, descriptor or goroutine, however it ends.
func TestEngineLeavesNothing(t *testing.T) {
	needs(t, "podman")
	e := newPodman(t, filepath.Join(t.TempDir(), "state"))
	run := func(ctx context.Context, code, id string) {
		c := ocitest.Python(code)
		c.ID = id
		_, _ = e.Run(ctx, c, oci.Streams{})
	}
	run(t.Context(), "pass", "first") // what is made once
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	files, routines, owner := descriptors(), runtime.NumGoroutine(), e.state.Name()
	run(t.Context(), "import os; os.kill(os.getpid(), 11)", "crash")
	run(t.Context(), "import os; os._exit(3)", "exit")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	run(ctx, "while True: pass", "timeout")
	early, cancelEarly := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelEarly()
	run(early, "while True: pass", "early")
	if left := containersOf(t, owner); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	deadline := time.Now().Add(10 * time.Second)
	for descriptors() > files || runtime.NumGoroutine() > routines {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors and %d goroutines, before there were %d and %d", descriptors(), runtime.NumGoroutine(), files, routines)
		}
		runtime.Gosched()
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestEngineStreams: what is large arrives whole, a stream that nobody reads holds up no other, and one whose reader has gone
// ends its writer.
func TestEngineStreams(t *testing.T) {
	needs(t, "podman")
	e := newPodman(t, filepath.Join(t.TempDir(), "state"))
	defer e.Close()
	files := make([]*os.File, 10)
	for i := 0; i < len(files); i += 2 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		files[i], files[i+1] = r, w
		defer r.Close()
		defer w.Close()
	}
	in, out, errs, extraIn, extraOut := files[0:2], files[2:4], files[4:6], files[6:8], files[8:10]
	in[1].Close()
	errs[0].Close() // nobody will read it
	c := ocitest.Python(`
import os, threading
def say():
    try:
        while True: os.write(2, b"x" * 65536)
    except BrokenPipeError:
        pass
thread = threading.Thread(target=say)
thread.start()
talk = threading.Thread(target=lambda: [os.write(1, b"y" * (1 << 20)) for i in range(10)])
talk.start()
thread.join()
while True:  # although nobody reads standard output yet
    b = os.read(3, 65536)
    if not b: break
    while b: b = b[os.write(4, b):]
os.close(4)
talk.join()
`)
	type outcome struct {
		exit oci.Exit
		err  error
	}
	ended := make(chan outcome, 1)
	go func() {
		exit, err := e.Run(t.Context(), c, oci.Streams{Stdin: in[0], Stdout: out[1], Stderr: errs[1], Extra: []*os.File{extraIn[0], extraOut[1]}})
		out[1].Close()
		extraOut[1].Close()
		ended <- outcome{exit, err}
	}()
	go func() {
		for range 32 {
			_, _ = extraIn[1].Write(make([]byte, 1<<17))
		}
		extraIn[1].Close()
	}()
	back, err := io.ReadAll(io.LimitReader(extraOut[0], 4<<20))
	if err != nil || len(back) != 4<<20 {
		t.Fatalf("%d bytes came back, %v", len(back), err)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, out[0])
	if err != nil || n != 10<<20 {
		t.Errorf("%d bytes were printed, %v", n, err)
	}
	if o := <-ended; o.err != nil || o.exit.Code != 0 {
		t.Errorf("%+v", o)
	}
}

// TestEngineOddNames: a path may have spaces and what has a meaning to podman, or else it is said.
func TestEngineOddNames(t *testing.T) {
	needs(t, "podman")
	for name, ok := range map[string]bool{"with space": true, "it's \"quoted\"": true, "ümläut": true, "co:lon": true, "com,ma": false, "-dash": true} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-odd-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			c := ocitest.Python("print('runs')")
			rootfs := filepath.Join(dir, name)
			if err := os.Mkdir(rootfs, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("cp", "-al", "--", c.Rootfs+"/.", rootfs).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			c.Rootfs, c.Env = rootfs, append(c.Env, "ODD=a b\n$(c)", "EMPTY=")
			e := newPodman(t, filepath.Join(dir, "state of "+name))
			defer e.Close()
			exit, err := e.Run(t.Context(), c, oci.Streams{})
			switch {
			case ok && (err != nil || exit.Code != 0):
				t.Errorf("%+v, %v", exit, err)
			case !ok && (err == nil || !strings.Contains(err.Error(), "podman")):
				t.Errorf("%+v, %v; want an error that says why", exit, err)
			}
		})
	}
}

// TestEngineAnswersEarly: how a command has ended is told, and its streams end, when nothing of the container runs any more and
// all that it printed has been taken, however long the client takes behind that; Run returns the same. Who is told cancels, as
// the bridge does.
func TestEngineAnswersEarly(t *testing.T) {
	needs(t, "podman")
	t.Chdir(t.TempDir())
	dir := t.TempDir()
	done, may, program := filepath.Join(dir, "done"), filepath.Join(dir, "may"), filepath.Join(dir, "podman")
	for _, fifo := range []string{done, may} {
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The client of a container says that it is done, and ends when it may.
	script := fmt.Sprintf("#!/bin/sh\npodman \"$@\"\ncode=$?\nfor a; do case $a in run) : >%s; : <%s; break ;; ps|rm|kill) break ;; esac; done\nexit $code\n", done, may)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	open := func(fifo string, how int) { // waits for the other end to be opened
		f, err := os.OpenFile(fifo, how, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	options := host.Options{StateDir: filepath.Join(dir, "state"), AllowWeakLimits: os.Geteuid() != 0}
	e := NewEngine(EngineOptions{Options: options, Kind: Podman, Program: program})
	defer e.Close()
	const much = 200_000 // more than a pipe holds, and less than the multiplexer is let to send
	for code, want := range map[string]oci.Exit{
		"print('x' * 200_000, end='')": {},
		"import os, sys\nprint('x' * 200_000, end='', flush=True)\nif os.fork() == 0:\n    while True: pass\nos._exit(3)": {Code: 3},
		"import os\nprint('x' * 200_000, end='', flush=True)\nos.kill(os.getpid(), 15)":                                   {Code: 128 + 15, Signal: 15},
		"print('x' * 200_000, end='', flush=True)\nb = []\nwhile True: b.append(bytearray(1 << 20))":                      {Code: 137, Signal: 9, OOM: true},
	} {
		if want.OOM && os.Geteuid() != 0 && !unifiedCgroups() {
			continue
		}
		c := ocitest.Python(code)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		type outcome struct {
			exit oci.Exit
			err  error
		}
		ctx, cancel := context.WithCancel(t.Context())
		told, returned := make(chan oci.Exit, 2), make(chan outcome, 1)
		go func() {
			exit, err := e.Run(ctx, c, oci.Streams{Stdout: w, Exited: func(e oci.Exit) { w.Close(); told <- e; cancel() }})
			returned <- outcome{exit, err}
		}()
		open(done, os.O_RDONLY)
		if len(told) > 0 {
			t.Errorf("%q: told of its end before all was read", code)
		}
		out, _ := io.ReadAll(r)
		exit := <-told
		select {
		case o := <-returned:
			t.Errorf("%q: Run has returned %+v while the client was there", code, o)
		default:
		}
		open(may, os.O_WRONLY)
		o := <-returned
		r.Close()
		want.Limits = exit.Limits
		if len(out) != much || exit != want || o.exit != want || o.err != nil || len(told) > 0 {
			t.Errorf("%q: printed %d bytes, told %+v and %d times more, returned %+v, want %+v", code, len(out), exit, len(told), o, want)
		}
	}
	if left := containersOf(t, e.state.Name()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, err := filepath.Glob("*"); err != nil || len(left) > 0 { // podman's monitor makes a file of a kill for want of memory
		t.Errorf("left in the working directory: %v, %v", left, err)
	}
}

// TestEngineUnenforced: a podman that leaves the limits out, as one without a session of systemd does, is seen to do so before
// the container gets anything to run.
func TestEngineUnenforced(t *testing.T) {
	needs(t, "podman")
	if os.Geteuid() != 0 && !unifiedCgroups() {
		t.Skip("podman has no limits for a user on cgroup v1, which is known before")
	}
	program := filepath.Join(t.TempDir(), "podman")
	const lax = `#!/bin/bash
args=()
while [ $# -gt 0 ]; do
    case $1 in
    --memory | --memory-swap | --pids-limit) shift ;;
    *) args+=("$1") ;;
    esac
    shift
done
exec podman "${args[@]}"
`
	if err := os.WriteFile(program, []byte(lax), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, allow := range []bool{false, true} {
		e := NewEngine(EngineOptions{Kind: Podman, Program: program, Options: host.Options{StateDir: filepath.Join(t.TempDir(), "state"), AllowWeakLimits: allow}})
		c := ocitest.Python("print('it runs')")
		c.Limits = oci.Limits{Memory: 64 << 20, Pids: 32}
		for range 2 {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			exit, err := e.Run(t.Context(), c, oci.Streams{Stdout: w})
			w.Close()
			out, _ := io.ReadAll(r)
			r.Close()
			var missing *oci.HostError
			switch {
			case allow && (err != nil || exit.Limits != oci.ByRlimits || string(out) != "it runs\n"):
				t.Errorf("%+v, %v: %q; want weak limits", exit, err, out)
			case !allow && (!errors.As(err, &missing) || !strings.Contains(missing.Fix, "MCP_BRIDGE_ALLOW_WEAK_LIMITS") || len(out) > 0):
				t.Errorf("%+v, %v: %q; want a HostError", exit, err, out)
			}
		}
		if left := containersOf(t, e.state.Name()); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestEngineEnforced: a process without limits is seen to have none, and one that ends is not blamed, though the kernel says of
// it, on cgroup v1, that it is in no cgroup of its own.
func TestEngineEnforced(t *testing.T) {
	for _, ended := range []bool{false, true} {
		cmd := exec.Command("cat")
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if ended {
			in.Close()
			if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
		}
		pidFile := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(pidFile, fmt.Append(nil, cmd.Process.Pid), 0o600); err != nil {
			t.Fatal(err)
		}
		w := watchFirst(pidFile)
		if err := w.enforced(oci.Limits{Memory: 1, Pids: 1}); (err == nil) != ended {
			t.Errorf("ended %t: %v", ended, err)
		}
		in.Close()
		_ = cmd.Wait()
		w.close()
		if err := w.enforced(oci.Limits{Memory: 1, Pids: 1}); err != nil {
			t.Errorf("gone: %v", err)
		}
	}
}
