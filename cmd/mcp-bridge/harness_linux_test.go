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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// hang is the deadline of everything that happens soon or never. Nothing is measured by it.
const hang = 60 * time.Second

// base holds what all tests share, above all the cache: the image is unpacked once.
var base string

func setUp() (tearDown func() error, err error) {
	// What a bridge leaves behind when it dies becomes a child of this process, and is found by checkNothingLeft.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become a subreaper: %w", err)
	}
	if base, err = os.MkdirTemp("", "mcp-bridge-test-"); err != nil {
		return nil, err
	}
	// A container's user, who is nobody here, must get to the image.
	if err := os.Chmod(base, 0o755); err != nil {
		return nil, err
	}
	return func() error {
		left := eventually(func() error { return noneAlive(descendants(os.Getpid())) })
		return errors.Join(left, removeAll(base))
	}, nil
}

// removeAll also removes what an image has made read-only.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// testImage is the image that the tests run: one of Debian's Python where `make test` has made it, or else this host's
// Python, which is everywhere.
func testImage() string {
	if image := os.Getenv("MCP_BRIDGE_TEST_IMAGE"); image != "" {
		return image
	}
	dir := repoPath(".cache/python-image")
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
		return "oci:" + dir
	}
	return "host"
}

func repoPath(p string) string {
	wd, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return filepath.Join(wd, "../..", p)
}

// environment is that of a mcp-bridge under test: nothing of the tester's but what programs are found by, and the
// launcher to be tested. A host that cannot limit memory still lets most of this be tested; what cannot is asked for with needCgroup.
func environment(stateDir string, more ...string) []string {
	return append([]string{
		runMain + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(base, "home"), "TMPDIR=" + os.TempDir(),
		"USER=" + os.Getenv("USER"), chosenRuntime(),
		"MCP_BRIDGE_CACHE_DIR=" + filepath.Join(base, "cache"), "MCP_BRIDGE_STATE_DIR=" + stateDir,
		"MCP_BRIDGE_IMAGE=" + testImage(), "MCP_BRIDGE_ALLOW_WEAK_LIMITS=1",
		"MCP_BRIDGE_LOG_LEVEL=error",         // stderr is compared, and weak limits are warned of
		"MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT=1s", // the pool is on, and must be gone soon after the last run
	}, more...)
}

// chosenRuntime is the launcher that is tested: the program's own choice, if MCP_BRIDGE_RUNTIME is not set.
func chosenRuntime() string { return config.EnvRuntime + "=" + os.Getenv(config.EnvRuntime) }

// bridgeCommand is mcp-bridge, played by this test binary.
func bridgeCommand(t testing.TB, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...) // ended by what is tested, or by a cleanup
	cmd.Env = env
	return cmd
}

// probe runs one script once, to find out what this host can do.
var probe = sync.OnceValues(func() (result, error) {
	exe, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*hang)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "run", "--format", "json", "-c", "pass")
	cmd.Env = environment(filepath.Join(base, "probe"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%w\n%s%s", err, out, stderr.String())
	}
	var r result
	return r, json.Unmarshal(out, &r)
})

// needSandbox skips on hosts where no script can run. It also fills the cache before tests do so in parallel.
func needSandbox(t testing.TB) {
	t.Helper()
	if _, err := probe(); err != nil {
		skipOrFail(t, "no script can run here: "+err.Error())
	}
}

// needCgroup skips where memory is not limited by a cgroup, so that nothing can run out of it.
func needCgroup(t *testing.T) {
	t.Helper()
	needSandbox(t)
	if r, _ := probe(); r.Limits != "" {
		t.Skip("limits are enforced by " + r.Limits)
	}
}

// skipOrFail skips for a reason that CI can do something about.
func skipOrFail(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must not skip this: " + reason)
	}
	t.Skip(reason)
}

// eventually waits until check says nothing any more, and gives what it still said at the deadline. It polls, because
// the kernel does not tell strangers that a process or a cgroup is gone.
func eventually(check func() error) error {
	deadline := time.After(hang / 3)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return err
		case <-poll.C:
		}
	}
}

// within runs f, and fails if that hangs.
func within[T any](t testing.TB, what string, f func() T) T {
	t.Helper()
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case v := <-done:
		return v
	case <-time.After(hang):
		t.Fatalf("%s: still not after %v", what, hang)
		panic("unreachable")
	}
}

// result is the structured content of a result. It is not bridge.Result, so that a renamed field is noticed.
type result struct {
	Status         string          `json:"status"`
	Summary        string          `json:"summary"`
	ExitCode       *int            `json:"exitCode"`
	Stdout         []string        `json:"stdout"`
	Stderr         []string        `json:"stderr"`
	Result         json.RawMessage `json:"result"`
	Servers        []string        `json:"servers"`
	Error          string          `json:"error"`
	TimeoutSeconds int             `json:"timeoutSeconds"`
	Truncated      bool            `json:"truncated"`
	Image          string          `json:"image"`
	Limits         string          `json:"limits"`

	isError bool
	text    string
}

func (r result) exit() int {
	if r.ExitCode == nil {
		return -1
	}
	return *r.ExitCode
}

// buffer is a bytes.Buffer that a process writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// server is a mcp-bridge with a client of the Go SDK.
type server struct {
	t       testing.TB
	cmd     *exec.Cmd
	session *mcp.ClientSession
	stderr  *buffer
	state   string // MCP_BRIDGE_STATE_DIR
	ended   bool   // closed, or killed by the test
	warm    int    // sandboxes that have become so, as far as waited for
}

// startServer starts a bridge, which ends with the test, and then has left nothing.
func startServer(t testing.TB, env ...string) *server {
	t.Helper()
	return startServerBy(t, func(*exec.Cmd) {}, env...)
}

// startServerBy is startServer with a command that change has changed.
func startServerBy(t testing.TB, change func(*exec.Cmd), env ...string) *server {
	t.Helper()
	s := &server{t: t, stderr: &buffer{}, state: filepath.Join(t.TempDir(), "state")}
	before := cgroups()
	cmd := bridgeCommand(t, environment(s.state, env...))
	change(cmd)
	s.connect(cmd)
	t.Cleanup(func() {
		s.close()
		checkNothingLeft(t, s.cmd.Process.Pid, s.state, before)
	})
	return s
}

func (s *server) connect(cmd *exec.Cmd) {
	s.t.Helper()
	s.cmd = cmd
	s.cmd.Stderr = s.stderr
	ctx, cancel := context.WithTimeout(s.t.Context(), hang)
	defer cancel()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	var err error
	if s.session, err = client.Connect(ctx, &mcp.CommandTransport{Command: s.cmd, TerminateDuration: hang}, nil); err != nil {
		s.t.Fatalf("cannot connect: %v\n%s", err, s.stderr)
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// close ends the session, and expects the bridge to end well.
func (s *server) close() {
	s.t.Helper()
	if s.ended {
		return
	}
	s.ended = true
	if err := within(s.t, "the end of the bridge", s.session.Close); err != nil {
		s.t.Errorf("mcp-bridge did not end well: %v\n%s", err, s.stderr)
	}
	if s.t.Failed() {
		s.t.Logf("stderr of mcp-bridge:\n%s", s.stderr)
	}
}

// tryCall calls run_python.
func (s *server) tryCall(ctx context.Context, arguments any) (result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hang, errors.New("the call hangs"))
	defer cancel()
	r, err := s.session.CallTool(ctx, &mcp.CallToolParams{Name: "run_python", Arguments: arguments})
	if err != nil {
		return result{}, err
	}
	b, err := json.Marshal(r.StructuredContent)
	if err != nil {
		return result{}, err
	}
	out := result{isError: r.IsError}
	if err := json.Unmarshal(b, &out); err != nil {
		return result{}, err
	}
	for _, c := range r.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			out.text += text.Text
		}
	}
	if out.isError != (out.Status != "success") {
		return out, fmt.Errorf("isError is %v, status %s", out.isError, out.Status)
	}
	return out, nil
}

// call calls run_python and expects an answer, of whatever kind.
func (s *server) call(arguments any) result {
	s.t.Helper()
	r, err := s.tryCall(s.t.Context(), arguments)
	if err != nil {
		s.t.Fatalf("run_python(%.200v): %v\n%s", arguments, err, s.stderr)
	}
	return r
}

// checkAlive makes a call that must succeed.
func (s *server) checkAlive() {
	s.t.Helper()
	r := s.call(map[string]any{"code": "print('alive')"})
	if r.Status != "success" || strings.Join(r.Stdout, "\n") != "alive" {
		s.t.Errorf("the next call does not work: %+v\n%s", r, s.stderr)
	}
}

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%v\n%.1000s", err, b)
	}
}
