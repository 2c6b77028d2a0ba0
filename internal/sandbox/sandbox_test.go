package sandbox

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// launcher is a launcher that is a function.
type launcher func(ctx context.Context, s oci.Streams) (oci.Exit, error)

func (f launcher) Run(ctx context.Context, _ oci.Container, s oci.Streams) (oci.Exit, error) {
	return f(ctx, s)
}

func start(t *testing.T, warm bool, f launcher) *Sandbox {
	t.Helper()
	s, err := Start(t.Context(), Recipe{Launcher: f, Python: "/python"}, warm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		<-s.Gone()
	})
	return s
}

func TestExitBeforeGone(t *testing.T) {
	removed := make(chan struct{})
	want := oci.Exit{Code: 3, Limits: oci.ByCgroup}
	s := start(t, false, func(_ context.Context, s oci.Streams) (oci.Exit, error) {
		_, _ = io.WriteString(s.Stdout, "last words")
		s.Exited(want)
		<-removed
		return want, nil
	})
	if exit, err := s.Exit(); exit != want || err != nil {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("one that has ended is no protocol error: %v", err)
	}
	if b, err := io.ReadAll(s.Stdout); string(b) != "last words" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	select {
	case <-s.Gone():
		t.Error("gone before it was removed")
	default:
	}
	close(removed)
	<-s.Gone()
}

func TestStartFails(t *testing.T) {
	fail := &oci.StartError{Step: "exec", Err: syscall.ENOENT}
	s := start(t, true, func(context.Context, oci.Streams) (oci.Exit, error) { return oci.Exit{}, fail })
	if _, err := s.Exit(); !errors.Is(err, fail) {
		t.Errorf("%v", err)
	}
	select {
	case <-s.Warm():
		t.Error("warm")
	default:
	}
}

// TestNonsense: a guest that breaks the protocol before it has a script is ended.
func TestNonsense(t *testing.T) {
	s := start(t, true, func(ctx context.Context, s oci.Streams) (oci.Exit, error) {
		go func() { _, _ = io.Copy(io.Discard, s.Extra[0]) }() // ends with the pipe
		_, _ = io.WriteString(s.Extra[1], "nonsense\n")
		<-ctx.Done()
		return oci.Exit{Code: 137, Signal: syscall.SIGKILL}, nil
	})
	if err := s.Ready(); !errors.As(err, new(*guest.ProtocolError)) {
		t.Errorf("%v", err)
	}
	if exit, _ := s.Exit(); exit.Signal != syscall.SIGKILL {
		t.Errorf("%+v", exit)
	}
}

// TestPreloading: while modules of the user's choice are imported, nobody has to wait for that, and if that is the end of it
// the error names them.
func TestPreloading(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan string)
	l := launcher(func(ctx context.Context, s oci.Streams) (oci.Exit, error) {
		_, _ = io.WriteString(s.Extra[1], `{"type":"ready","protocol":1,"python":"3.13.0"}`+"\n")
		go func() { // ends with the pipe
			lines := bufio.NewScanner(s.Extra[0])
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				if strings.Contains(lines.Text(), `"preload":["numpy","pandas"]`) {
					asked <- struct{}{}
				}
			}
		}()
		_, _ = io.WriteString(s.Extra[1], <-answer)
		<-ctx.Done()
		return oci.Exit{Code: 3}, nil
	})
	preloading := func() *Sandbox {
		s, err := Start(t.Context(), Recipe{Launcher: l, Python: "/python", Warming: guest.Warming{Preload: []string{"numpy", "pandas"}}}, true)
		if err != nil {
			t.Fatal(err)
		}
		<-asked
		if s.Take() {
			t.Error("taken while it imports what may take long")
		}
		return s
	}
	s := preloading()
	answer <- `{"type":"warm"}` + "\n"
	<-s.Warm()
	if !s.Take() {
		t.Error("not taken when it is warm")
	}
	s.Close()
	s = preloading()
	s.Kill(nil)
	answer <- ""
	<-s.Gone()
	if err := s.Err(); err == nil || err.Error() != "while it imported numpy, pandas, as it was told to: its Python ended with exit code 3" {
		t.Errorf("%v", err)
	}
	s.Close()
}

func TestSame(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	recipe := func(with func(*Recipe)) Recipe {
		r := Recipe{Python: "/p", Runner: []byte("x"), Container: oci.Container{Rootfs: root, Env: []string{"A=1"}}}
		if with != nil {
			with(&r)
		}
		r.Pin()
		return r
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	first := recipe(nil)
	if !first.Same(recipe(func(r *Recipe) { r.Runner = nil })) {
		t.Error("the compiled runner makes a difference")
	}
	for name, with := range map[string]func(*Recipe){
		"python": func(r *Recipe) { r.Python = "/q" },
		"env":    func(r *Recipe) { r.Container.Env = []string{"A=2"} },
		"user":   func(r *Recipe) { r.Container.User.UID = 7 },
		"limits": func(r *Recipe) { r.Container.Limits.Pids = 7 },
		"root":   func(r *Recipe) { r.Container.Rootfs = t.TempDir() },
	} {
		if first.Same(recipe(with)) {
			t.Errorf("another %s makes no difference", name)
		}
	}
	// Made anew in its place, while the first one is still held, so that its number is not given away again.
	if err := errors.Join(os.Rename(root, root+".old"), os.Mkdir(root, 0o700)); err != nil {
		t.Fatal(err)
	}
	if first.Same(recipe(nil)) {
		t.Error("another directory in its place makes no difference")
	}
}
