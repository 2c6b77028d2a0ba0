package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// hang is after how long a test that waits has failed.
const hang = 30 * time.Second

// roleVar makes the test binary a server.
const roleVar = "MCP_BRIDGE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if role == "conformance" {
			os.Exit(conform(os.Args[len(os.Args)-1]))
		}
		serveHostile(role)
		return
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	code := m.Run()
	if code == 0 {
		code = checkLeft(goroutines, files)
	}
	os.Exit(code)
}

// checkLeft says if the tests have left goroutines, descriptors or processes.
func checkLeft(goroutines, files int) int {
	left := ""
	if !eventually(func() bool {
		left = ""
		if n := runtime.NumGoroutine(); n > goroutines {
			left = fmt.Sprintf("%d goroutines are left, there were %d", n, goroutines)
		}
		// The poller of the runtime and /dev/urandom stay open.
		if n := openFiles(); n > files+4 {
			left += fmt.Sprintf(" %d descriptors are left, there were %d", n, files)
		}
		if p := marked(""); len(p) > 0 {
			left += fmt.Sprintf(" processes are left: %v", p)
		}
		return left == ""
	}, 5*time.Second) {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%s\n%s\n", left, stacks[:runtime.Stack(stacks, true)])
		return 1
	}
	return 0
}

// eventually waits for a condition.
func eventually(ok func() bool, limit time.Duration) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			return false
		}
		<-tick.C
	}
	return true
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !eventually(ok, hang) {
		t.Fatalf("in %v not: %s", hang, what)
	}
}

func exists(file string) func() bool {
	return func() bool { _, err := os.Stat(file); return err == nil }
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// marked are the processes that live with the mark of a server, and with more in their environment.
func marked(more string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !bytes.Contains(env, []byte("MCP_BRIDGE_UPSTREAM=")) || !bytes.Contains(env, []byte(more)) {
			continue
		}
		if status, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil && !strings.Contains(string(status), ") Z ") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hostile is a server of ours that plays a role.
func hostile(t testing.TB, role string, env ...string) config.Server {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := config.Server{
		Name: "hostile", Host: "Test", File: "/etc/test.json", Transport: config.Stdio, Command: exe, Args: []string{"-secret-argument"},
		Env: map[string]string{roleVar: "plain " + role},
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		s.Env[name] = value
	}
	return s
}

// pool makes one that ends with the test.
func pool(t testing.TB, o Options, servers ...config.Server) *Pool {
	t.Helper()
	o.Servers = append(o.Servers, servers...)
	if o.StopGrace == 0 {
		o.StopGrace = 500 * time.Millisecond
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	p := New(o)
	t.Cleanup(p.Close)
	return p
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// call calls a tool.
func call(ctx context.Context, p *Pool, server, tool, arguments string) (string, error) {
	params := fmt.Sprintf(`{"name":%q,"arguments":%s}`, tool, arguments)
	result, err := p.Request(ctx, server, "tools/call", json.RawMessage(params), nil)
	return string(result), err
}

// text calls a tool and wants the text of its first content.
func text(t testing.TB, p *Pool, server, tool, arguments string) string {
	t.Helper()
	result, err := call(limited(t), p, server, tool, arguments)
	if err != nil {
		t.Fatalf("%s.%s(%s): %v", server, tool, arguments, err)
	}
	var r struct{ Content []struct{ Text string } }
	if err := json.Unmarshal([]byte(result), &r); err != nil || len(r.Content) == 0 {
		t.Fatalf("%s.%s(%s): %v: %.300s", server, tool, arguments, err, result)
	}
	return r.Content[0].Text
}

// wantError wants an *Error whose message has these parts.
func wantError(t testing.TB, err error, parts ...string) *Error {
	t.Helper()
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		t.Fatalf("%T %v; want an *Error with %q", err, err, parts)
	}
	for _, part := range parts {
		if !strings.Contains(e.Message, part) {
			t.Errorf("the error is %q; it has no %q", e.Message, part)
		}
	}
	if strings.Contains(e.Message, "secret") {
		t.Errorf("the error shows a secret: %q", e.Message)
	}
	return e
}

// installed is a file of hack/setup test.
func installed(t testing.TB, name string) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("../../.cache/servers", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: hack/setup test installs it", err)
		}
		t.Skipf("%v: hack/setup test installs it", err)
	}
	return file
}

// node is a server of npm.
func node(t testing.TB, name, file string, args ...string) config.Server {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		t.Skip(err)
	}
	return config.Server{Name: name, Transport: config.Stdio, Command: program, Args: append([]string{installed(t, file)}, args...)}
}

// python is a server of PyPI.
func python(t testing.TB, name, module string, args ...string) config.Server {
	t.Helper()
	return config.Server{Name: name, Transport: config.Stdio, Command: installed(t, "venv/bin/python"), Args: append([]string{"-m", module}, args...)}
}

const everything = "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
