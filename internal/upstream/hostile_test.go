package upstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// TestStartFails: what an error says of a server that cannot be started.
func TestStartFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server func(t *testing.T) config.Server
		want   []string
	}{
		{"exits", func(t *testing.T) config.Server { return hostile(t, "exit") }, []string{`MCP server "hostile" cannot be started`, "exit status 3", `cannot find the token\x1b[31m`, "/etc/test.json"}},
		{"dies at initialize", func(t *testing.T) config.Server { return hostile(t, "die-at-initialize") }, []string{"exit status 4"}},
		{"silent", func(t *testing.T) config.Server {
			s := hostile(t, "silent")
			s.StartTimeout = 300 * time.Millisecond
			return s
		}, []string{"does not answer in time", "waiting for nothing", "300ms"}},
		{"answers null", func(t *testing.T) config.Server { return hostile(t, "null-initialize") }, []string{"not an object"}},
		{"no such program", func(t *testing.T) config.Server {
			return config.Server{Name: "x", Transport: config.Stdio, Command: "no-such-program-here", Args: []string{"secret"}}
		}, []string{`"no-such-program-here" is not on PATH`}},
		{"no such directory", func(t *testing.T) config.Server {
			s := hostile(t, "")
			s.Dir = "/no/such/directory"
			return s
		}, []string{"cannot be started", "its working directory cannot be used: stat /no/such/directory: no such file or directory"}},
		{"not a program", func(t *testing.T) config.Server {
			return config.Server{Name: "x", Transport: config.Stdio, Command: "/etc/passwd"}
		}, []string{"permission denied"}},
		{"prints no protocol", func(t *testing.T) config.Server {
			return config.Server{Name: "x", Transport: config.Stdio, Command: "sh", Args: []string{"-c", "echo hello; echo bye >&2"}}
		}, []string{"exit status 0", "bye"}},
		{"unavailable", func(*testing.T) config.Server {
			return config.Server{Name: "x", Unavailable: "$TOKEN is not set"}
		}, []string{`MCP server "x" cannot be used: $TOKEN is not set`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.server(t)
			p := pool(t, Options{}, s)
			_, err := p.Tools(limited(t), s.Name)
			wantError(t, err, tt.want...)
			_, err = call(limited(t), p, s.Name, "x", "{}")
			wantError(t, err, tt.want...)
		})
	}
}

// TestAnswers: answers that are not what they should be end one call at most.
func TestAnswers(t *testing.T) {
	p := pool(t, Options{}, hostile(t, "banner"))
	for _, tt := range []struct{ tool, want, err string }{
		{"string-id", `{"content":[{"type":"text","text":"quoted"}]}`, ""},
		{"float-id", `{"content":[{"type":"text","text":"not whole"}]}`, ""},
		{"twice", `{"content":[{"type":"text","text":"once"}]}`, ""},
		{"odd", `{"content":[{"type":"hologram","x":1},{"type":"image","data":"!!!not base64","mimeType":7}],"structuredContent":{"n":12345678901234567890,"f":1.000,"u":"\u00e9\ud83d"},"x":null}`, ""},
		{"null", `{"content":null}`, ""},
		{"bad-utf8", `{"content":[{"type":"text","text":"a` + "\uFFFD" + `b"}]}`, ""},
		{"result-null", "", "not an object"},
		{"no-result", "", "neither a result nor an error"},
		{"error-text", "", "just a text"},
		{"broken", "", "not JSON"},
		{"broken-spaced", "", "not JSON"},
		{"long-spaced", "", "longer than 64 MiB"},
		{"deep", "", "not JSON"},
		{"long", "", "longer than 64 MiB"},
	} {
		t.Run(tt.tool, func(t *testing.T) {
			result, err := call(limited(t), p, "hostile", tt.tool, "{}")
			if tt.err != "" {
				wantError(t, err, `MCP server "hostile"`, tt.err)
			} else if err != nil || result != tt.want {
				t.Errorf("%q, %v; want %q", result, err, tt.want)
			}
			if got := text(t, p, "hostile", "echo", `{"n":1}`); !strings.Contains(got, `"arguments":{"n":1}`) {
				t.Errorf("the next call: %q", got)
			}
		})
	}
	for _, tool := range []string{"wrong-id", "never"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := call(ctx, p, "hostile", tool, "{}"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", tool, err)
		}
		cancel()
	}
	text(t, p, "hostile", "echo", "{}")
}

// TestByteOrderMark: a server may begin its output with one.
func TestByteOrderMark(t *testing.T) {
	text(t, pool(t, Options{}, hostile(t, "byte-order-mark")), "hostile", "echo", "{}")
}

// TestClosedInput: a server that hears nothing more is started again.
func TestClosedInput(t *testing.T) {
	p := pool(t, Options{}, hostile(t, ""))
	text(t, p, "hostile", "close-input", "{}")
	_, err := call(limited(t), p, "hostile", "echo", "{}")
	wantError(t, err, "it closed its input")
	text(t, p, "hostile", "echo", "{}")
}

// TestDeath: a server that dies says so, is started again, and no call is made twice.
func TestDeath(t *testing.T) {
	log := filepath.Join(t.TempDir(), "starts")
	p := pool(t, Options{}, hostile(t, "", "STARTS="+log))
	for range 2 {
		text(t, p, "hostile", "echo", "{}")
		_, err := call(limited(t), p, "hostile", "die", "{}")
		wantError(t, err, `MCP server "hostile" did not answer "die", which may have been carried out`, "exit status 5", "I am dying")
	}
	if got := text(t, p, "hostile", "die-after-answer", "{}"); got != "last words" {
		t.Errorf("%q", got)
	}
	// What is sent to a server that is about to end may have been carried out, for all we know.
	wait(t, "the end is noticed", func() bool { c := p.byName["hostile"]; c.mu.Lock(); defer c.mu.Unlock(); return c.session == nil })
	text(t, p, "hostile", "echo", "{}")
	_, err := call(limited(t), p, "hostile", "close-output", "{}")
	wantError(t, err, "closed its output")
	text(t, p, "hostile", "echo", "{}")
	starts, err := os.ReadFile(log)
	if n := strings.Count(string(starts), "\n"); err != nil || n != 5 {
		t.Errorf("%d starts, %v; want 5", n, err)
	}
}

// TestBackoff: a server that cannot be started is not started all the time, and says when the next try is.
func TestBackoff(t *testing.T) {
	log := filepath.Join(t.TempDir(), "starts")
	p := pool(t, Options{}, hostile(t, "exit", "STARTS="+log))
	for range 50 {
		_, err := p.Tools(limited(t), "hostile")
		wantError(t, err, "cannot find the token")
		if strings.Contains(err.Error(), "tried again in") {
			starts, err := os.ReadFile(log)
			if n := strings.Count(string(starts), "\n"); err != nil || n > 6 {
				t.Errorf("%d starts, %v", n, err)
			}
			return
		}
	}
	t.Error("it is started again and again")
}

// TestTree: nothing of a server's tree is left, however it ends.
func TestTree(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	for _, end := range []string{"closed", "dies", "idles", "killed", "fails"} {
		for _, role := range []string{"grandchildren", "grandchildren deaf"} {
			t.Run(end+" "+role, func(t *testing.T) {
				t.Parallel()
				tag := "TREE=" + unique()
				o := Options{StopGrace: 200 * time.Millisecond}
				s := hostile(t, role, tag)
				if end == "idles" {
					o.IdleTimeout = 200 * time.Millisecond
				}
				if end == "fails" {
					s.Env[roleVar] += " silent"
					s.StartTimeout = 2 * time.Second
				}
				p := pool(t, o, s)
				if end == "fails" {
					_, err := p.Tools(limited(t), "hostile")
					wantError(t, err, "in time")
				} else {
					text(t, p, "hostile", "echo", "{}")
				}
				if end != "idles" && end != "fails" {
					wait(t, "grandchildren", func() bool { return len(marked(tag)) >= 9 })
				}
				switch end {
				case "closed":
					p.Close()
				case "dies":
					_, _ = call(limited(t), p, "hostile", "die", "{}")
				case "killed":
					session := p.byName["hostile"].session
					for _, pid := range marked(tag) {
						if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(b), "-secret-argument") {
							proc, err := os.FindProcess(pid)
							if err != nil {
								t.Fatal(err)
							}
							if err := proc.Kill(); err != nil {
								t.Fatal(err)
							}
						}
					}
					<-session.conn.Done()
				}
				wait(t, "nothing is left", func() bool { return len(marked(tag)) == 0 })
			})
		}
	}
}

func unique() string { return rand.Text() }

// TestPages: a list of tools that does not end, or is none, is an error of that server; odd tools are left out.
func TestPages(t *testing.T) {
	for role, want := range map[string]string{
		"endless-pages": "more than 1000 pages", "same-page": "the same page again", "list-null": "", "list-types": "ok",
	} {
		t.Run(role, func(t *testing.T) {
			p := pool(t, Options{}, hostile(t, role))
			tools, err := p.Tools(limited(t), "hostile")
			switch want {
			case "":
				if err != nil || len(tools) != 0 {
					t.Errorf("%v, %v", tools, err)
				}
			case "ok":
				if err != nil || len(tools) != 1 || tools[0].Name != "ok" || tools[0].InputSchema != nil || tools[0].Description != "" {
					t.Errorf("%+v, %v", tools, err)
				}
			default:
				wantError(t, err, "cannot list its tools", want)
			}
		})
	}
}

// TestStorm: ten thousand changes are a few refreshes.
func TestStorm(t *testing.T) {
	p := pool(t, Options{}, hostile(t, ""))
	text(t, p, "hostile", "echo", "{}")
	for range 5 {
		text(t, p, "hostile", "storm", "{}")
	}
	pages := text(t, p, "hostile", "storm", "{}")
	if len(pages) > 1 {
		t.Errorf("the tools were listed %s times", pages)
	}
}

// TestGrows: a tool that a server has made can be called at once.
func TestGrows(t *testing.T) {
	dir := t.TempDir()
	p := pool(t, Options{CatalogDir: dir}, hostile(t, "grows"))
	_, err := call(limited(t), p, "hostile", "grown", "{}")
	if e := wantError(t, err, `has no tool "grown"; did you mean "grow"`); e.Code != -32602 {
		t.Errorf("code %d", e.Code)
	}
	text(t, p, "hostile", "grow", "{}")
	if got := text(t, p, "hostile", "grown", "{}"); got != "I was not there before" {
		t.Errorf("%q", got)
	}
	wait(t, "it is in the catalog on disk", func() bool {
		tools, err := pool(t, Options{CatalogDir: dir}, hostile(t, "grows")).Tools(limited(t), "hostile")
		return err == nil && slices.ContainsFunc(tools, func(t Tool) bool { return t.Name == "grown" })
	})
}

// TestLateChange: a server that has announced a change when it is ended has done nothing to warn of.
func TestLateChange(t *testing.T) {
	var log bytes.Buffer
	p := New(Options{Servers: []config.Server{hostile(t, "")}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer p.Close()
	text(t, p, "hostile", "grow", "{}")
	p.Close()
	if log.Len() > 0 {
		t.Errorf("%s", &log)
	}
}

// TestOneBadServer: the others do not notice.
func TestOneBadServer(t *testing.T) {
	var servers []config.Server
	for i, role := range []string{"silent", "list-never", "exit", "endless-pages", "banner", ""} {
		s := hostile(t, role)
		s.Name = fmt.Sprintf("s%d", i)
		servers = append(servers, s)
	}
	p := pool(t, Options{StopGrace: 100 * time.Millisecond}, servers...)
	var work sync.WaitGroup
	bad, stop := context.WithCancel(t.Context())
	for _, s := range servers[:4] {
		work.Go(func() { _, _ = call(bad, p, s.Name, "echo", "{}") })
	}
	begin := time.Now()
	for _, s := range servers[4:] {
		text(t, p, s.Name, "echo", "{}")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the good ones took %v", took)
	}
	stop()
	work.Wait()
}

// TestClose does not wait for calls, and they fail.
func TestClose(t *testing.T) {
	p := pool(t, Options{StopGrace: 100 * time.Millisecond}, hostile(t, "deaf"))
	text(t, p, "hostile", "echo", "{}")
	failed := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := call(t.Context(), p, "hostile", "never", "{}")
			failed <- err
		}()
	}
	c := p.byName["hostile"]
	wait(t, "ten calls", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.session.inflight == 10 })
	begin := time.Now()
	p.Close()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
	for range 10 {
		wantError(t, <-failed, "hostile")
	}
	_, err := call(limited(t), p, "hostile", "echo", "{}")
	wantError(t, err, "the bridge is ending")
}

// TestCancel: a call that is cancelled returns at once, and the server is told; the start of a server goes on for others.
func TestCancel(t *testing.T) {
	asked, told := filepath.Join(t.TempDir(), "asked"), filepath.Join(t.TempDir(), "cancelled")
	p := pool(t, Options{}, hostile(t, "", "ASKED="+asked, "CANCELLED="+told))
	first, cancel := context.WithCancel(t.Context())
	go cancel()
	_, _ = p.Tools(first, "hostile")
	text(t, p, "hostile", "echo", "{}")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { eventually(exists(asked), hang); cancel() }()
	if _, err := call(ctx, p, "hostile", "never", "{}"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	wait(t, "the server is told", exists(told))

	s := hostile(t, "")
	s.CallTimeout = 50 * time.Millisecond
	_, err := call(limited(t), pool(t, Options{}, s), "hostile", "never", "{}")
	wantError(t, err, `did not answer "never" in 50ms`)
}

// TestProgress: a request gets its own progress.
func TestProgress(t *testing.T) {
	p := pool(t, Options{}, hostile(t, ""))
	var got []string
	_, err := p.Request(limited(t), "hostile", "tools/call", json.RawMessage(`{"name":"progress","_meta":{"progressToken":"mine","x":1}}`), func(params json.RawMessage) {
		var v struct{ Progress json.Number }
		_ = json.Unmarshal(params, &v)
		got = append(got, v.Progress.String())
	})
	if err != nil || !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestAsked: what a server may ask.
func TestAsked(t *testing.T) {
	ask := func(p *Pool, method string) string {
		return text(t, p, "hostile", "ask", fmt.Sprintf(`{"method":%q}`, method))
	}
	p := pool(t, Options{}, hostile(t, ""))
	for method, want := range map[string]string{
		"ping": `"result":{}`, "roots/list": `"result":{"roots":[]}`, "sampling/createMessage": "no model", "elicitation/create": "no way to ask",
		"x": `-32601`,
	} {
		if got := ask(p, method); !strings.Contains(got, want) || !strings.Contains(got, `"id":"q1"`) {
			t.Errorf("%s: %q", method, got)
		}
	}
	p = pool(t, Options{OnRequest: func(_ context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
		if method == "x" {
			return nil, &Error{Code: 7, Message: "not that"}
		}
		return json.Marshal(map[string]string{"from": server, "method": method, "params": string(params)})
	}}, hostile(t, ""))
	if got := ask(p, "elicitation/create"); !strings.Contains(got, `"from":"hostile"`) {
		t.Errorf("%q", got)
	}
	if got := ask(p, "x"); !strings.Contains(got, `{"code":7,"message":"not that"}`) {
		t.Errorf("%q", got)
	}
}

// TestWithdrawn: what a server asks and cancels ends, and is not answered.
func TestWithdrawn(t *testing.T) {
	ended := make(chan error, 1)
	p := pool(t, Options{OnRequest: func(ctx context.Context, _, _ string, params json.RawMessage) (json.RawMessage, error) {
		if strings.Contains(string(params), "last") {
			ended <- <-ended // answered after the other has ended
			return json.RawMessage(`{"action":"decline"}`), nil
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}}, hostile(t, ""))
	if got := text(t, p, "hostile", "ask-and-withdraw", "{}"); !strings.Contains(got, `"id":"q3"`) || strings.Contains(got, `"id":"q2"`) {
		t.Errorf("%q", got)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "cancelled its request") {
		t.Errorf("%v", err)
	}
}

// TestEnvironment: what a server inherits.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	s := hostile(t, "", "MINE=1", "PATH=/nowhere")
	s.Dir = dir
	p := pool(t, Options{Environ: []string{"GOMAXPROCS=1", "KEPT=yes", "PATH=/bin", "MINE=0"}}, s)
	for name, want := range map[string]string{
		"GOMAXPROCS": "1 true ", "KEPT": "yes true ", "MINE": "1 true ", "PATH": "/nowhere true ", "MCP_BRIDGE_GUARD": "1 true ",
	} {
		if got := text(t, p, "hostile", "environment", fmt.Sprintf(`{"name":%q}`, name)); got != want+filepath.Base(dir) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestIdle: a server that idles is ended, and started again when it is needed.
func TestIdle(t *testing.T) {
	tag := "IDLE=" + unique()
	p := pool(t, Options{IdleTimeout: 100 * time.Millisecond}, hostile(t, "", tag))
	for range 2 {
		text(t, p, "hostile", "echo", "{}")
		wait(t, "it is ended", func() bool { return len(marked(tag)) == 0 })
	}
	// A call is not idling.
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := call(ctx, p, "hostile", "never", "{}"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
