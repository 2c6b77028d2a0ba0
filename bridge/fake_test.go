package bridge

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// patience bounds what must happen. It is there against hanging, not as an expectation.
const patience = time.Minute

func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if code == 0 {
		code = leaked(before)
	}
	os.Exit(code)
}

// leaked says whether more goroutines are left than there were, after those that are just ending have ended.
func leaked(before int) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if runtime.NumGoroutine() <= before {
			return 0
		}
		<-tick.C
	}
	stacks := make([]byte, 1<<16)
	fmt.Fprintf(os.Stderr, "%d goroutines are left, there were %d:\n%s\n", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	return 1
}

// skipTest skips a test that needs what this machine has not; on CI that is a failure.
func skipTest(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this has to run on CI: %s", reason)
	}
	t.Skip(reason)
}

// hostPython is a launcher without a container: the guest is a child process of the host's own Python. So these tests
// run on every Unix, and what they see is the bridge and the guest, not the sandbox.
type hostPython struct{ dir string }

func (l hostPython) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	if err := ctx.Err(); err != nil {
		return oci.Exit{}, context.Cause(ctx)
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir = c.Env, l.dir
	cmd.ExtraFiles = s.Extra
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children can be killed with it
	if err := cmd.Start(); err != nil {
		return oci.Exit{}, &oci.StartError{Step: "exec", Err: err}
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stop := context.AfterFunc(ctx, kill)
	defer stop()
	err := cmd.Wait()
	kill()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return oci.Exit{}, err
	}
	exit := oci.Exit{Code: cmd.ProcessState.ExitCode(), Limits: oci.ByCgroup}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		exit.Code, exit.Signal = 128+int(ws.Signal()), ws.Signal()
	}
	return exit, nil
}

// python3 is the host's interpreter.
var python3 = sync.OnceValue(func() string {
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.Command(p, "-I", "-S", "-c", "import sys; print(sys.executable if sys.version_info >= (3, 9) else '')").Output()
		if name := strings.TrimSpace(string(out)); err == nil && name != "" {
			return name
		}
	}
	return ""
})

// options are those of a bridge with the host's Python; with changes them.
func options(t testing.TB) Options {
	t.Helper()
	return Options{
		Version: "test", Launcher: hostPython{t.TempDir()},
		Image: func(context.Context) (Image, error) {
			return Image{Root: "/image", Python: python3(), Env: []string{"PATH=/usr/bin:/bin"}}, nil
		},
		Limits: oci.Limits{Memory: 512 << 20, Pids: 128}, User: oci.User{UID: 65534, GID: 65534},
		Timeout: patience, MaxTimeout: 2 * patience, MaxConcurrency: 4, OutputMode: ModeJSON,
	}
}

// newBridge is a bridge that runs real scripts.
func newBridge(t testing.TB, with func(*Options)) *Bridge {
	t.Helper()
	if python3() == "" {
		skipTest(t, "no Python 3.9 or later found")
	}
	o := options(t)
	if with != nil {
		with(&o)
	}
	b := New(o)
	t.Cleanup(b.Wait)
	return b
}

func runCode(t testing.TB, b *Bridge, code string) Result {
	t.Helper()
	r, err := b.Run(t.Context(), Request{Code: code}, Output{})
	if err != nil {
		t.Fatalf("%v (%+v)", err, r)
	}
	return r
}

// A guest is the other end of the pipes, as raw as an attacker has it.
type guestEnd struct {
	ctx            context.Context // of the launcher: ends when the bridge wants this to end
	in             *bufio.Reader   // frames from the host
	out            io.Writer       // frames to the host
	stdout, stderr io.Writer
	container      oci.Container
}

func (g *guestEnd) say(format string, args ...any) { fmt.Fprintf(g.out, format+"\n", args...) }

// next reads a frame of the host's; nil at the end.
func (g *guestEnd) next() map[string]any {
	line, err := g.in.ReadBytes('\n')
	if err != nil {
		return nil
	}
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		return map[string]any{"type": "not JSON: " + err.Error()}
	}
	return m
}

// start is what an honest guest does first: it says that it is ready, waits for its script, and says that it has it.
func (g *guestEnd) start() map[string]any {
	g.say(`{"type":"ready","protocol":1,"python":"3.12.1"}`)
	m := g.next()
	if m["type"] == "warm" {
		g.say(`{"type":"warm"}`)
		m = g.next()
	}
	if m != nil {
		g.say(`{"type":"running"}`)
	}
	return m
}

// synthetic is a launcher whose guest is a function.
type synthetic func(g *guestEnd) (oci.Exit, error)

func (f synthetic) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	g := &guestEnd{
		ctx: ctx, in: bufio.NewReader(s.Extra[0]), out: s.Extra[1], stdout: s.Stdout, stderr: s.Stderr, container: c,
	}
	defer context.AfterFunc(ctx, func() { _ = s.Extra[0].SetReadDeadline(time.Now()) })() // who is killed reads no more
	for part, most := 0, 1; part < most; part++ {                                         // of guest.Boot
		var size [4]byte
		if _, err := io.ReadFull(g.in, size[:]); err != nil {
			return oci.Exit{}, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if part == 0 && n == 0 { // not compiled: a loader and the source come
			most = 3
		}
		if _, err := io.CopyN(io.Discard, g.in, int64(n)); err != nil {
			return oci.Exit{}, err
		}
	}
	exit, err := f(g)
	if exit.Limits == "" {
		exit.Limits = oci.ByCgroup
	}
	return exit, err
}

func newSynthetic(t testing.TB, guest synthetic, with func(*Options)) *Bridge {
	t.Helper()
	o := options(t)
	o.Launcher = guest
	if with != nil {
		with(&o)
	}
	b := New(o)
	t.Cleanup(b.Wait)
	return b
}

// killed is how a launcher ends what it was told to end.
func killed(g *guestEnd) (oci.Exit, error) {
	<-g.ctx.Done()
	return oci.Exit{Code: 137, Signal: syscall.SIGKILL}, nil
}

// within waits for c.
func within(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s does not happen", what)
	}
}
