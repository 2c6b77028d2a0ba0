//go:build linux

package ocitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// patience is how long a test waits for what must happen. It is a bound against hanging, not an expectation.
const patience = 60 * time.Second

// idPrefix makes the containers of this process known among those of others on the same machine.
var (
	idPrefix = prefixOf(os.Getpid())
	ids      atomic.Int64
)

func prefixOf(pid int) string { return fmt.Sprintf("t%d-", pid) }

func newID() string { return fmt.Sprintf("%s%d", idPrefix, ids.Add(1)) }

// python is a container that runs code.
func python(code string) oci.Container {
	return oci.Container{
		ID: newID(), Rootfs: tree.Path, Args: []string{tree.Python, "-I", "-S", "-B", "-c", code},
		Env: []string{"HOME=" + oci.Workspace, "PATH=/usr/bin:/bin"}, User: oci.User{UID: 65534, GID: 65534},
		Limits: oci.Limits{Memory: 512 << 20, Pids: 128},
	}
}

// Python is a container that runs code, for a launcher's own tests.
func Python(code string) oci.Container { return python(code) }

// Left are the cgroups of this process's containers that are still there.
func Left(t testing.TB) []string { return ourCgroups(t) }

// launcher makes a launcher that is closed, and whose traces are looked for, when the test ends.
func (suite Suite) launcher(t testing.TB) Launcher {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	l := suite.New(host.Options{StateDir: dir, AllowWeakLimits: os.Geteuid() != 0})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state directory is left behind: %v", err)
		}
		if left := ourCgroups(t); len(left) > 0 {
			t.Errorf("cgroups are left behind: %v", left)
		}
	})
	return l
}

// An outcome is what the host sees of one run.
type outcome struct {
	oci.Exit
	err            error
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("exit %+v, error %v\nstdout:\n%s\nstderr:\n%s", o.Exit, o.err, o.stdout, o.stderr)
}

// run runs c with stdin and collects what it writes. It waits for the end of both streams, so that a process which
// outlived the container would hang the test.
func run(t testing.TB, ctx context.Context, l oci.Launcher, c oci.Container, stdin string, extra ...*os.File) outcome {
	t.Helper()
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	defer closeAll(inR, inW, outR, outW, errR, errW)
	var stdout, stderr bytes.Buffer
	var readers sync.WaitGroup
	readers.Go(func() { _, _ = io.Copy(&stdout, outR) })
	readers.Go(func() { _, _ = io.Copy(&stderr, errR) })
	var writer sync.WaitGroup
	writer.Go(func() { _, _ = io.WriteString(inW, stdin); inW.Close() })

	// What does not end by itself is ended, and then fails the test, which can be read; a hang cannot.
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the test's patience is at its end"))
	defer cancel()
	var o outcome
	o.Exit, o.err = l.Run(ctx, c, oci.Streams{Stdin: inR, Stdout: outW, Stderr: errW, Extra: extra})
	closeAll(inR, outW, errW)
	ended := make(chan struct{})
	go func() { readers.Wait(); writer.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the container is gone, and somebody still holds its streams")
	}
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

// mustRun runs code, which has to succeed, and returns what it printed.
func mustRun(t testing.TB, l oci.Launcher, code string) string {
	t.Helper()
	o := run(t, t.Context(), l, python(code), "")
	if o.err != nil || o.Code != 0 {
		t.Fatalf("%v", o)
	}
	return o.stdout
}

// A session is a container that is running; its script waits for the end of its standard input.
type session struct {
	id       string
	release  *os.File // closing it ends the wait
	outcome  outcome
	finished chan struct{}
}

// background starts code and returns when it has printed its first line. The code ends when its standard input does.
func background(t testing.TB, ctx context.Context, l oci.Launcher, c oci.Container) *session {
	t.Helper()
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	s := &session{id: c.ID, release: inW, finished: make(chan struct{})}
	first := make(chan struct{})
	go func() {
		defer close(s.finished)
		var out bytes.Buffer
		var reader sync.WaitGroup
		reader.Go(func() {
			var once sync.Once
			buf := make([]byte, 4096)
			for {
				n, err := outR.Read(buf)
				out.Write(buf[:n])
				if bytes.Contains(out.Bytes(), []byte("\n")) || err != nil {
					once.Do(func() { close(first) })
				}
				if err != nil {
					return
				}
			}
		})
		s.outcome.Exit, s.outcome.err = l.Run(ctx, c, oci.Streams{Stdin: inR, Stdout: outW})
		closeAll(inR, outW)
		reader.Wait()
		outR.Close()
		s.outcome.stdout = out.String()
	}()
	t.Cleanup(func() { inW.Close(); s.wait(t) })
	select {
	case <-first:
	case <-time.After(patience):
		t.Fatal("the container does not say its first line")
	}
	return s
}

func (s *session) wait(t testing.TB) outcome {
	t.Helper()
	select {
	case <-s.finished:
	case <-time.After(patience):
		t.Fatal("the container does not end")
	}
	return s.outcome
}

// untilEOF is the end of a script for background.
const untilEOF = "\nimport sys\nprint('ready', flush=True)\nsys.stdin.read()\n"

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// cgroupsNamed are the cgroup directories, in every hierarchy, whose name contains part.
func cgroupsNamed(t testing.TB, part string) []string {
	t.Helper()
	var found []string
	seen := make(map[string]bool)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "cgroup" && f[2] != "cgroup2" || seen[f[1]] {
			continue
		}
		seen[f[1]] = true
		// Others make and remove cgroups meanwhile, so errors on the way say nothing.
		_ = filepath.WalkDir(f[1], func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(d.Name(), part) {
				found = append(found, p)
			}
			return nil
		})
	}
	return found
}

func ourCgroups(t testing.TB) []string { return cgroupsNamed(t, "mcp-bridge-"+idPrefix) }

// processesIn are the processes whose cgroup's name contains part.
func processesIn(t testing.TB, part string) []string {
	t.Helper()
	var pids []string
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), part) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	slices.Sort(pids)
	return pids
}

// syscallDupWithoutCloexec makes a copy of fd that a careless child would inherit.
func syscallDupWithoutCloexec(fd uintptr) (uintptr, uintptr, syscall.Errno) {
	return syscall.Syscall(syscall.SYS_DUP, fd, 0, 0)
}
