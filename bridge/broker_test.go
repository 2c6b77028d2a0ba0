package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// TestNewVersion: what is known of a server may be of an older version of it; it is asked before anything is refused.
func TestNewVersion(t *testing.T) {
	for name, code := range map[string]string{
		"attribute":     `await mcp_v.new(c=1)`,
		"sync":          `mcp_v.new.sync(c=1)`,
		"by name":       `await mcp_servers["v"]["new"](c=1)`,
		"call_tool":     `await runtime.call_tool("v", "new", {"c": 1})`,
		"import":        "from mcp.servers.v import new\nawait new(c=1)",
		"an argument":   `await mcp_v.old(b=1)`,
		"argument sync": `mcp_v.old.sync(b=1)`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake().add("v", upstream.Tool{Name: "old", InputSchema: schemaOf("a?:integer")})
			f.now = map[string][]upstream.Tool{"v": {
				{Name: "old", InputSchema: schemaOf("a?:integer", "b?:integer")}, {Name: "new", InputSchema: schemaOf("c:integer")},
			}}
			f.call = func(_ context.Context, _, tool string, arguments json.RawMessage) (json.RawMessage, error) {
				return textResult(tool + string(arguments)), nil
			}
			b := newBridge(t, func(o *Options) { o.Servers = f })
			res := runCode(t, b, "from mcp import runtime\n"+code)
			if got := string(res.Result); got != `"new{\"c\":1}"` && got != `"old{\"b\":1}"` {
				t.Errorf("%+v", res)
			}
		})
	}
	f := newFake().add("v", upstream.Tool{Name: "old", InputSchema: schemaOf("a?:integer")})
	b := newBridge(t, func(o *Options) { o.Servers = f })
	res := runCode(t, b, `out = []
for f in (lambda: mcp_v.nope, lambda: mcp_v.nope2, lambda: mcp_v.old.sync(b=1)):
    try: f()
    except Exception as e: out.append(type(e).__name__)
out`)
	if string(res.Result) != `["MissingError","MissingError","ArgumentError"]` || len(f.listed) > 2 {
		t.Errorf("%s, after %d lists: %+v", res.Result, len(f.listed), res)
	}
}

// TestMentioned: of the servers that a script mentions it gets the tools with the run, if they are known without asking.
func TestMentioned(t *testing.T) {
	f := newFake().add("a-b", upstream.Tool{Name: "t"}).add("c", upstream.Tool{Name: "t"}).add("new", upstream.Tool{Name: "t"}).add("fails")
	for i := range f.infos {
		f.infos[i].Tools = 1
	}
	f.infos[2].Tools = -1 // was never asked
	f.fails["fails"] = errors.New("it is broken")
	b := newBridge(t, func(o *Options) { o.Servers = f })
	for code, want := range map[string]string{
		"print(1)":                      "",
		"mcp_a_b.t":                     "a-b",
		"mcp_servers['a-b'], mcp_c.t":   "a-b c",
		`mcp_servers["c"]`:              "c",
		"mcp_servers.c":                 "c",
		"from mcp.servers.a_b import *": "a-b",
		"mcp_new.t":                     "",
		"mcp_fails.t":                   "",
		"#" + strings.Repeat(" ", maxMention) + "mcp_c": "",
	} {
		var got []string
		for _, s := range b.newBroker(nil).run(t.Context(), nil, code) {
			if s.Loaded || s.Unavailable != "" {
				t.Errorf("%s: %+v", code, s)
			}
			if s.Tools != nil {
				got = append(got, s.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: the tools of %q, want those of %q", clip(code, 50), got, want)
		}
	}
	f.infos[1].Tools, f.listed = 1, nil
	f.call = func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"content":[{"type":"text","text":"yes"}]}`), nil
	}
	if r := runCode(t, b, "await mcp_c.t()"); string(r.Result) != `"yes"` || len(f.listed) != 1 {
		t.Errorf("%+v, after the tools of %q were asked for", r, f.listed)
	}
}

// TestSilentServer: a server that says nothing makes nobody wait but who names it, and a script that is stopped while it
// waits for an answer says for whose.
func TestSilentServer(t *testing.T) {
	f := newFake().add("v", upstream.Tool{Name: "t"})
	f.infos = append(f.infos, upstream.Info{Name: "silent", Tools: -1})
	silent := silentServers{f, make(chan struct{}, 8)}
	b := newBridge(t, func(o *Options) { o.Servers, o.MaxConcurrency = silent, 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan Result, 3)
	for range cap(ended) {
		go func() {
			r, _ := b.Run(ctx, Request{Code: "1", Servers: []string{"silent"}}, Output{})
			ended <- r
		}()
	}
	for range cap(ended) {
		<-silent.asked
	}
	if r := runCode(t, b, "5"); string(r.Result) != "5" {
		t.Errorf("%+v", r)
	}
	cancel()
	for range cap(ended) {
		if r := <-ended; r.Status != StatusCancelled {
			t.Errorf("%+v", r)
		}
	}

	var called atomic.Bool
	f.call = func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
		called.Store(true)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	r, err := Result{Status: StatusTimeout}, error(nil)
	for !called.Load() && r.Status == StatusTimeout { // on a busy machine a script may take a second to come to its call
		r, err = b.Run(t.Context(), Request{Code: "await mcp_v.t()", Timeout: time.Second}, Output{})
	}
	if want := `The script was stopped because it ran longer than its timeout of 1 s: it waited for the answer to "t" of "v".`; err != nil || r.Summarize() != want {
		t.Errorf("%v, %+v", err, r)
	}
}

// silentServers answer to nothing that starts a server.
type silentServers struct {
	*fakeServers
	asked chan struct{}
}

func (s silentServers) Running(ctx context.Context, _ string) ([]upstream.Tool, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestFailureWithoutContent: an answer that says no more than that it is an error is one.
func TestFailureWithoutContent(t *testing.T) {
	b := newBridge(t, func(o *Options) {
		o.Servers = fakeCall("v", func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(`{"isError":true}`), nil
		})
	})
	res := runCode(t, b, "from mcp import runtime\ntry: await mcp_v.t()\nexcept runtime.MCPError as e: print(e)")
	if len(res.Stdout) != 1 || res.Stdout[0] != "the tool failed and said nothing" {
		t.Errorf("%+v", res)
	}
}
