package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const manualURI = "resource://mcp-server-code-execution-mode/capabilities"

// TestHandshake: a client that connects waits for nothing, least of all for an image.
func TestHandshake(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	s := startServer(t, "MCP_BRIDGE_IMAGE=oci:/nowhere/at/all", "MCP_BRIDGE_CACHE_DIR="+cache)
	init := s.session.InitializeResult()
	if got := init.ServerInfo.Name; got != "mcp-server-code-execution-mode" {
		t.Errorf("server name %q", got)
	}
	if init.Instructions == "" || len(init.Instructions) > 2000 {
		t.Errorf("instructions have %d bytes; a client shows some, and cuts them at 2 KB", len(init.Instructions))
	}
	//lint:ignore SA1019 that this is not offered any more is the point
	if c := init.Capabilities; c.Tools == nil || c.Resources == nil || c.Logging != nil || c.Prompts != nil {
		t.Errorf("capabilities %+v", c)
	}
	list, err := s.session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if exists(cache) || exists(s.state) {
		t.Error("the handshake has touched the cache or the state directory")
	}

	// The whole answer, by the rule of thumb of four bytes a token.
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if tokens := len(b) / 4; tokens > 600 {
		t.Errorf("tools/list has some %d tokens, at most 600 are allowed:\n%s", tokens, b)
	}
	if len(list.Tools) != 1 {
		t.Fatalf("%d tools", len(list.Tools))
	}
	tool := list.Tools[0]
	if tool.Name != "run_python" || tool.Description == "" {
		t.Errorf("tool %q, description %q", tool.Name, tool.Description)
	}
	schema := func(v any) (properties []string, required []any) {
		m, _ := v.(map[string]any)
		p, _ := m["properties"].(map[string]any)
		for name := range p {
			properties = append(properties, name)
		}
		required, _ = m["required"].([]any)
		return properties, required
	}
	if p, req := schema(tool.InputSchema); len(p) != 3 || !cmp.Equal(req, []any{"code"}) {
		t.Errorf("input schema: properties %v, required %v", p, req)
	}
	if p, req := schema(tool.OutputSchema); len(p) != 13 || !cmp.Equal(req, []any{"status", "summary"}) {
		t.Errorf("output schema: properties %v, required %v", p, req)
	}

	// Without an image every call says so, and the server lives on.
	for range 2 {
		r := s.call(map[string]any{"code": "print(1)"})
		if r.Status != "error" || r.ExitCode != nil || !strings.Contains(r.Error, "/nowhere/at/all") || !strings.Contains(r.Summary, "index.json") {
			t.Errorf("a missing image gives %+v", r)
		}
	}
}

func TestManual(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MCP_BRIDGE_TIMEOUT=7", "MCP_BRIDGE_MAX_TIMEOUT=77", "MCP_BRIDGE_MEMORY=333m", "MCP_BRIDGE_PIDS=44")
	list, err := s.session.ListResources(t.Context(), nil)
	if err != nil || len(list.Resources) != 1 || list.Resources[0].URI != manualURI {
		t.Fatalf("resources/list: %+v, %v", list, err)
	}
	r, err := s.session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: manualURI})
	if err != nil || len(r.Contents) != 1 {
		t.Fatalf("resources/read: %+v, %v", r, err)
	}
	text := r.Contents[0].Text
	if r.Contents[0].MIMEType != "text/markdown" || strings.Contains(text, "{{") {
		t.Errorf("type %q, text %s", r.Contents[0].MIMEType, text)
	}
	for _, want := range []string{"7 seconds", "1 to 77", "333 MiB", "44 processes"} {
		if !strings.Contains(text, want) {
			t.Errorf("the manual does not say %q", want)
		}
	}
	if _, err := s.session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: manualURI + "/nothing"}); err == nil {
		t.Error("a resource that is not there can be read")
	}

	// What is said of the sandbox is what a script finds there.
	needSandbox(t)
	got := s.call(map[string]any{"code": `import os, socket
def sized(d):
    s = os.statvfs(d)
    return "` + "`%s`" + ` (%s%d MiB)" % (d, "current directory, home; " * (d == os.getcwd() == os.environ["HOME"]), s.f_blocks * s.f_frsize >> 20)
print(sized("/workspace"), "and", sized("/tmp"))
try: socket.create_server(("127.0.0.1", 0))
except OSError: print("no network, not even 127.0.0.1")
`})
	if len(got.Stdout) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, want := range got.Stdout {
		if !strings.Contains(text, want) {
			t.Errorf("the manual does not say %q", want)
		}
	}
}

func TestOutputModes(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	const code = "print('text')\n{'a': [1, 2]}"
	for mode, want := range map[string]string{
		"toon":    "```toon\nstatus: success\nsummary: The script ended successfully.\nexitCode: 0\nresult:\n  a[2]: 1,2\nstdout[1]: text\n```",
		"json":    `{"status":"success","summary":"The script ended successfully.","exitCode":0,"result":{"a":[1,2]},"stdout":["text"]}`,
		"compact": "text\n[bridge: result] {\"a\":[1,2]}",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, "MCP_BRIDGE_OUTPUT_MODE="+mode)
			r := s.call(map[string]any{"code": code})
			if r.Limits != "" {
				t.Skip("this host's results have more fields")
			}
			if diff := cmp.Diff(want, r.text); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			if r.Status != "success" || r.exit() != 0 || !cmp.Equal(r.Stdout, []string{"text"}) || string(r.Result) != `{"a":[1,2]}` {
				t.Errorf("structured content: %+v", r)
			}
		})
	}
}

// TestBadInput: a call that is wrong is answered with what is wrong, and the next one works.
func TestBadInput(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t, "MCP_BRIDGE_MAX_TIMEOUT=90")
	type args = map[string]any
	for _, tt := range []struct {
		name   string
		args   any
		status string
		want   string // in the summary
	}{
		{"no arguments", nil, "validation_error", "code is missing"},
		{"no code", args{"timeout": 3}, "validation_error", "code is missing"},
		{"code is null", args{"code": nil}, "validation_error", "code is missing"},
		{"empty code", args{"code": ""}, "validation_error", "code is empty"},
		{"blank code", args{"code": " \n\t"}, "validation_error", "code is empty"},
		{"code is a number", args{"code": 42}, "validation_error", "code must be a string, not a number"},
		{"code is an array", args{"code": []string{"print(1)"}}, "validation_error", "code must be a string, not an array"},
		{"code is an object", args{"code": args{}}, "validation_error", "code must be a string, not an object"},
		{"unknown argument", args{"code": "print(1)", "cod": "x"}, "validation_error", `unknown argument "cod"`},
		{"hostile argument", args{"code": "print(1)", "\x1b[31m\n" + strings.Repeat("x", 1000): 1}, "validation_error", "unknown argument"},
		{"arguments are an array", json.RawMessage(`["print(1)"]`), "validation_error", "must be an object"},
		{"arguments are a string", json.RawMessage(`"print(1)"`), "validation_error", "must be an object"},
		{"unknown server", args{"code": "print(1)", "servers": []string{"github"}}, "validation_error", `no MCP server "github"`},
		{"servers is a string", args{"code": "print(1)", "servers": "github"}, "validation_error", "servers must be an array"},
		{"servers are numbers", args{"code": "print(1)", "servers": []int{1}}, "validation_error", "servers must be an array"},
		{"no servers", args{"code": "print(1)", "servers": []string{}}, "success", ""},
		{"timeout is a string", args{"code": "print(1)", "timeout": "5"}, "validation_error", "timeout must be a whole number"},
		{"timeout has a fraction", args{"code": "print(1)", "timeout": 1.5}, "validation_error", "timeout must be a whole number"},
		{"timeout is true", args{"code": "print(1)", "timeout": true}, "validation_error", "timeout must be a whole number"},
		{"timeout in words of JSON", json.RawMessage(`{"code":"print(1)","timeout":2.0}`), "success", ""},
		{"timeout null", args{"code": "print(1)", "timeout": nil}, "success", ""},
		{"timeout 0", args{"code": "print(1)", "timeout": 0}, "success", "The timeout was set to 1 s; it may be 1 to 90"},
		{"timeout below", args{"code": "print(1)", "timeout": -3}, "success", "The timeout was set to 1 s; it may be 1 to 90"},
		{"timeout above", args{"code": "print(1)", "timeout": 1000000}, "success", "The timeout was set to 90 s; it may be 1 to 90"},
		{"timeout beyond", json.RawMessage(`{"code":"print(1)","timeout":1e300}`), "success", "The timeout was set to 90 s; it may be 1 to 90"},
		{"too much code", args{"code": strings.Repeat("# 16 bytes long\n", 20<<20/16)}, "validation_error", "at most 8388608"},
		{"NUL", args{"code": "print(1)\x00"}, "error", "null byte"},
		{"half a surrogate pair", json.RawMessage(`{"code":"print(ascii('\ud800'))"}`), "success", ""},
		{"syntax error", args{"code": "print(1"}, "error", "SyntaxError"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := s.tryCall(t.Context(), tt.args)
			if err != nil {
				t.Fatalf("no result: %v", err)
			}
			if r.Status != tt.status || !strings.Contains(r.Summary, tt.want) {
				t.Errorf("status %s, summary %q; want %s, %q", r.Status, r.Summary, tt.status, tt.want)
			}
			if strings.ContainsAny(r.Summary, "\x1b\n") || len(r.Summary) > 1000 {
				t.Errorf("the summary is no sentence: %.2000q", r.Summary)
			}
			if tt.status == "validation_error" && (r.ExitCode != nil || r.Stdout != nil) {
				t.Errorf("something has run: %+v", r)
			}
			s.checkAlive()
		})
	}
	t.Run("another tool", func(t *testing.T) {
		if _, err := s.session.CallTool(t.Context(), &mcp.CallToolParams{Name: "run_ruby"}); err == nil {
			t.Error("no error")
		}
		s.checkAlive()
	})
	s.checkIdle()
}

// TestParallelCalls: runs go on at the same time, no more than allowed, and see nothing of each other.
func TestParallelCalls(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t, "MCP_BRIDGE_MAX_CONCURRENCY=3")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	// Three that take all places at once; a fourth has to wait, and can be cancelled while it does.
	m := newMark()
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			if _, err := s.tryCall(ctx, map[string]any{"code": m.say() + "while True: pass"}); !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled call: %v", err)
			}
		})
	}
	m.wait(t, 3)
	late, stop := context.WithCancel(t.Context())
	lateMark := newMark()
	calls.Go(func() {
		if _, err := s.tryCall(late, map[string]any{"code": lateMark.say()}); !errors.Is(err, context.Canceled) {
			t.Errorf("a call that was cancelled while it waited: %v", err)
		}
	})
	stop()
	cancel()
	within(t, "cancelled calls", func() bool { calls.Wait(); return true })
	m.checkGone(t)

	const n = 12
	for i := range n {
		calls.Go(func() {
			code := fmt.Sprintf("import os\nprint(os.listdir('/workspace'), os.listdir('/tmp'))\nopen('/tmp/%d', 'w').close()\nopen('%d', 'w').close()\n%d", i, i, i)
			r, err := s.tryCall(t.Context(), map[string]any{"code": code})
			if err != nil || string(r.Result) != fmt.Sprint(i) || !cmp.Equal(r.Stdout, []string{"[] []"}) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
		})
	}
	calls.Wait()
	s.checkIdle()
	if len(lateMark.processes()) > 0 {
		t.Error("a call that was cancelled while it waited has run")
	}
}

// TestCancel: a cancelled run is gone, soon and in whatever it did, and the next call works.
func TestCancel(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t)
	for name, code := range map[string]string{
		"a loop":      "while True: pass",
		"a C call":    "import time; time.sleep(1000)",
		"a child":     "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(1000)'])",
		"deaf":        "import signal, time\nfor i in range(1, 65):\n  try: signal.signal(i, signal.SIG_IGN)\n  except (OSError, ValueError): pass\ntime.sleep(1000)",
		"many output": "while True: print('x' * 1000)",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMark()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := s.tryCall(ctx, map[string]any{"code": m.say() + code})
				done <- err
			}()
			p := m.wait(t, 1)
			groups := cgroupsOf(t, p[0].pid)
			cancel()
			if err := within(t, "a cancelled call", func() error { return <-done }); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			m.checkGone(t)
			if err := eventually(func() error { return noneExist(groups) }); err != nil {
				t.Error(err)
			}
			s.checkAlive()
		})
	}
	s.checkIdle()
}

// TestCancelWhileStarting: a cancel that comes before the script has started leaves nothing of the launch either. When
// it comes is left to chance, because from outside no phase of a launch can be seen.
func TestCancelWhileStarting(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startServer(t)
	s.checkAlive()
	s.checkIdle()
	fds := s.idleFiles()
	const workers, each = 4, 30
	var calls sync.WaitGroup
	for worker := range workers {
		calls.Go(func() {
			random := rand.New(rand.NewPCG(20, uint64(worker)))
			for range each {
				ctx, cancel := context.WithCancel(t.Context())
				stop := time.AfterFunc(time.Duration(random.IntN(100))*time.Millisecond, cancel)
				if _, err := s.tryCall(ctx, map[string]any{"code": "while True: pass"}); !errors.Is(err, context.Canceled) {
					t.Errorf("a cancelled call: %v", err)
				}
				stop.Stop()
				cancel()
			}
		})
	}
	calls.Wait()
	s.checkIdle()
	if err := eventually(func() error {
		if now := openFiles(s.pid()); len(now) != len(fds) {
			return fmt.Errorf("open before %v, after %v", fds, now)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	s.checkAlive()
}

// TestFdsOfServer: nothing of the bridge's own is open in the sandbox, and a script's descriptors are three and some.
func TestFdsOfServer(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	secret, err := os.CreateTemp(t.TempDir(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	s := &server{t: t, stderr: &buffer{}, state: filepath.Join(t.TempDir(), "state")}
	cmd := bridgeCommand(t, environment(s.state))
	cmd.ExtraFiles = []*os.File{secret} // as a client may do that does not close its own
	s.connect(cmd)
	t.Cleanup(s.close)
	r := s.call(map[string]any{"code": "import os\nfor fd in os.listdir('/proc/self/fd'):\n  try: print(os.readlink('/proc/self/fd/' + fd))\n  except OSError: pass"})
	if r.Status != "success" || len(r.Stdout) == 0 {
		t.Fatalf("%+v", r)
	}
	for _, target := range r.Stdout {
		if !strings.HasPrefix(target, "pipe:") && target != "/dev/null" && !strings.HasPrefix(target, "/proc/") {
			t.Errorf("a script has %s open", target)
		}
	}
}
