package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// withTools gives a bridge two servers, whose tools are a function.
func withTools(call func(ctx context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error)) func(*Options) {
	return func(o *Options) {
		f := newFake()
		for _, server := range []string{"files", "web-search"} {
			f.add(server)
			for _, tool := range []string{"echo", "big", "invalid", "deep", "t", "started"} {
				f.add(server, upstream.Tool{Name: tool})
			}
		}
		f.call = call
		o.Servers = f
	}
}

const imports = "import asyncio\nfrom mcp.runtime import call_tool, call_tool_sync, MCPError\n"

func TestCalls(t *testing.T) {
	b := newBridge(t, withTools(func(_ context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error) {
		switch tool {
		case "echo":
			return json.Marshal(map[string]any{"server": server, "arguments": arguments})
		case "big":
			return json.RawMessage(`"` + strings.Repeat("x", 10<<20) + `"`), nil
		case "invalid":
			return json.RawMessage("{"), nil
		case "deep":
			return json.RawMessage(strings.Repeat("[", 2000) + strings.Repeat("]", 2000)), nil
		}
		return nil, fmt.Errorf("there is no tool %q", tool)
	}))
	for _, tt := range []struct{ name, code, want string }{ // want: result, or the error
		{"value", "call_tool_sync('files', 'echo', {'a': [1, None, 'é']})", `{"arguments":{"a":[1,null,"é"]},"server":"files"}`},
		{"error", "try: await call_tool('files', 'missing')\nexcept MCPError as e: r = str(e)\nr", `"the MCP server \"files\" has no tool \"missing\"; there are \"echo\", \"big\", \"invalid\", \"deep\", \"t\", \"started\""`},
		{"uncaught error", "await call_tool('files', 'missing')", `mcp.runtime.MissingError: the MCP server "files" has no tool "missing"; there are "echo", "big", "invalid", "deep", "t", "started" (line 3)`},
		{"unknown server", "try: await call_tool('file', 'echo')\nexcept Exception as e: r = str(e)\nr", `"there is no MCP server \"file\"; did you mean \"files\"?"`},
		{"unknown server without a match", "try: await call_tool('zzz', 'echo')\nexcept Exception as e: r = str(e)\nr", `"there is no MCP server \"zzz\"; there are \"files\", \"web-search\""`},
		{"10 MB", "len(await call_tool('files', 'big'))", "10485760"},
		{"10 MB to a tool", "len(call_tool_sync('files', 'echo', {'x': 'y' * (10 << 20)})['arguments']['x'])", "10485760"},
		{"an answer that is not JSON", "try: await call_tool('files', 'invalid')\nexcept MCPError as e: r = 'cannot send' in str(e)\nr", "true"},
		{"an answer that is too deep", "try: await call_tool('files', 'deep')\nexcept MCPError as e: r = 'cannot send' in str(e)\nr", "true"},
		{"many", "sum([x['arguments']['i'] for x in await asyncio.gather(*(call_tool('files', 'echo', {'i': i}) for i in range(1000)))])", "499500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := runCode(t, b, imports+tt.code)
			got := string(r.Result)
			if r.Error != "" {
				got = r.Error
			}
			if got != tt.want {
				t.Errorf("%.300s\nwant %s\nstderr %q", got, tt.want, r.Stderr)
			}
		})
	}
}

// TestLastWords: what a script says last is heard, even if more calls than may wait are before it in the pipe, which
// nobody awaits.
func TestLastWords(t *testing.T) {
	b := newBridge(t, withTools(func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	r := runCode(t, b, imports+`
for size in (10 << 20, 10 << 20, 10 << 20, 3 << 20, 1, 1, 1): asyncio.ensure_future(call_tool("files", "t", {"x": "y" * size}))
await asyncio.sleep(0.2)
42`)
	if r.Status != StatusSuccess || string(r.Result) != "42" {
		t.Errorf("%s %s %s %q", r.Status, r.Result, r.Error, r.Stderr)
	}
}

// TestCallsAreConcurrent: each of 100 calls waits for some others, so that what is answered one by one never ends. The
// bridge answers 32 at once, so that is how many wait for each other.
func TestCallsAreConcurrent(t *testing.T) {
	var mu sync.Mutex
	waiting, open := 0, make(chan struct{})
	b := newBridge(t, withTools(func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
		mu.Lock()
		mine := open
		if waiting++; waiting%25 == 0 {
			close(open)
			open = make(chan struct{})
		}
		mu.Unlock()
		select {
		case <-mine:
			return json.RawMessage("1"), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	if r := runCode(t, b, imports+"sum(await asyncio.gather(*(call_tool('files', 't') for i in range(100))))"); string(r.Result) != "100" {
		t.Errorf("%+v", r)
	}
}

// TestCallsEndWithTheRun: nobody waits for an answer any more, so nobody should go on working for it.
func TestCallsEndWithTheRun(t *testing.T) {
	for _, tt := range []struct {
		name, code string
		timeout    time.Duration
		want       Status
	}{
		{"timeout", "await call_tool('files', 't')", time.Second, StatusTimeout},
		{"exit", "asyncio.ensure_future(call_tool('files', 't'))\nawait asyncio.sleep(0)\nwhile not call_tool_sync('web-search', 'started'): pass\nimport os\nos._exit(0)", 0, StatusSuccess},
		{"cancel", "await call_tool('files', 't')", 0, StatusCancelled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			started, ended := make(chan struct{}), make(chan struct{})
			b := newBridge(t, withTools(func(ctx context.Context, server, _ string, _ json.RawMessage) (json.RawMessage, error) {
				if server == "web-search" {
					<-started
					return json.RawMessage("true"), nil
				}
				close(started)
				if tt.name == "cancel" {
					cancel()
				}
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			}))
			r, err := b.Run(ctx, Request{Code: imports + tt.code, Timeout: tt.timeout}, Output{})
			if err != nil || r.Status != tt.want {
				t.Errorf("%+v, %v; want %s", r, err, tt.want)
			}
			select {
			case <-ended:
			default:
				t.Error("the run has ended, and its call has not")
			}
		})
	}
}

// slowKill is a launcher that takes its time to end a container.
type slowKill struct{ hostPython }

func (l slowKill) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(300*time.Millisecond, cancel) })()
	return l.hostPython.Run(late, c, s)
}

// TestEndIsNotHidden: a script is killed before its open calls fail, so that it cannot go on and look like a success.
func TestEndIsNotHidden(t *testing.T) {
	for want, timeout := range map[Status]time.Duration{StatusTimeout: time.Second, StatusCancelled: 0} {
		t.Run(string(want), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := newBridge(t, func(o *Options) {
				withTools(func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
					if want == StatusCancelled {
						cancel()
					}
					<-ctx.Done()
					return nil, ctx.Err()
				})(o)
				o.Launcher = slowKill{hostPython{t.TempDir()}}
			})
			r, err := b.Run(ctx, Request{Code: imports + "try: call_tool_sync('files', 't')\nexcept Exception as e: print(e)", Timeout: timeout}, Output{})
			if err != nil || r.Status != want || len(r.Stdout) > 0 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestNoServers: scripts without tools, and a bridge without any.
func TestNoServers(t *testing.T) {
	b := newBridge(t, nil)
	r := runCode(t, b, imports+"try: call_tool_sync('x', 't')\nexcept Exception as e: r = str(e)\nr")
	if want := `"there is no MCP server \"x\"; none is configured"`; string(r.Result) != want {
		t.Errorf("%s, want %s; %+v", r.Result, want, r)
	}
}

// TestMaxConcurrency: more runs than may go on wait their turn, first come first served, and can be cancelled there.
func TestMaxConcurrency(t *testing.T) {
	var mu sync.Mutex
	var order []string
	running, most := 0, 0
	release := make(chan struct{})
	began := make(chan string, 100)
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		code, _ := g.start()["code"].(string)
		mu.Lock()
		running++
		most = max(most, running)
		order = append(order, code)
		mu.Unlock()
		began <- code
		select {
		case <-release:
		case <-g.ctx.Done():
		}
		mu.Lock()
		running--
		mu.Unlock()
		return oci.Exit{}, nil
	}, func(o *Options) { o.MaxConcurrency = 2 })

	var runs sync.WaitGroup
	start := func(ctx context.Context, code string) <-chan Result {
		done := make(chan Result, 1)
		runs.Go(func() {
			r, err := b.Run(ctx, Request{Code: code}, Output{})
			if err != nil {
				t.Error(err)
			}
			done <- r
		})
		return done
	}
	// The slots are taken one after the other, so that who comes later waits behind.
	for _, code := range []string{"1", "2"} {
		start(t.Context(), code)
		<-began
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	queued := start(ctx, "cancelled")
	cancel(errors.New("gone"))
	select {
	case r := <-queued:
		if r.Status != StatusCancelled {
			t.Errorf("cancelled in the queue: %+v", r)
		}
	case <-time.After(patience):
		t.Fatal("a run that is cancelled in the queue does not return")
	}
	start(t.Context(), "3")
	start(t.Context(), "4")
	for range 4 {
		release <- struct{}{}
	}
	runs.Wait()
	if most != 2 || len(order) != 4 {
		t.Errorf("%d ran at once, %v in all; want 2, and no trace of the cancelled one", most, order)
	}
}

// TestWait: a server that ends waits for its runs.
func TestWait(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	b := newSynthetic(t, func(*guestEnd) (oci.Exit, error) { close(began); <-release; return oci.Exit{}, nil }, nil)
	b.Wait() // for nothing
	go func() { _, _ = b.Run(context.Background(), Request{Code: "pass"}, Output{}) }()
	within(t, "the run", began)
	waited := make(chan struct{})
	go func() { b.Wait(); close(waited) }()
	select {
	case <-waited:
		t.Fatal("Wait returned during a run")
	default:
	}
	close(release)
	within(t, "the end", waited)
}
