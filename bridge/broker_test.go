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
for f in [lambda: mcp_v.nope] * 50 + [lambda: mcp_v.old.sync(b=1)]:
    try: f()
    except Exception as e: out.append(type(e).__name__)
len(out), *set(out)`)
	if got := string(res.Result); !strings.Contains(got, `[51,"`) || !strings.Contains(got, `"MissingError"`) || !strings.Contains(got, `"ArgumentError"`) || len(f.listed) > 21 {
		t.Errorf("%s, after %d lists: %+v", res.Result, len(f.listed), res)
	}
}

// TestMentioned: of the servers that a script mentions it gets with the run what it mentions of their tools, if those are known
// without asking.
func TestMentioned(t *testing.T) {
	get, put, say := upstream.Tool{Name: "get"}, upstream.Tool{Name: "put-it"}, upstream.Tool{Name: "say"}
	f := newFake().add("a-b", get, put).add("c", get, say).add("new", get).add("fails").add("large", upstream.Tool{Name: "get", Description: strings.Repeat("x", maxMention)})
	for i := range f.infos {
		f.infos[i].Tools = 1
	}
	f.infos[2].Tools = -1 // was never asked
	f.fails["fails"] = errors.New("it is broken")
	b := newBridge(t, func(o *Options) { o.Servers = f })
	for code, want := range map[string]string{
		"get":            "",
		"mcp_a_b.get":    "a-b:get",
		"mcp_a_b.put_it": "a-b:put-it",
		"mcp_servers['a-b']['put-it'], mcp_c.get": "a-b:get a-b:put-it c:get",
		`mcp_servers["c"]`:                        "",
		"mcp_servers.c.say":                       "c:say",
		"from mcp.servers.a_b import get":         "a-b:get",
		"mcp_new.get":                             "",
		"mcp_fails.get":                           "",
		"mcp_large.get":                           "",
		"#" + strings.Repeat(" ", maxMention) + "mcp_c.say": "",
	} {
		var got []string
		for _, s := range b.newBroker(nil).run(t.Context(), nil, code) {
			if s.Loaded || s.Unavailable != "" || s.Tools != nil {
				t.Errorf("%s: %+v", clip(code, 50), s)
			}
			for _, tool := range s.Mentioned {
				got = append(got, s.Name+":"+tool.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", clip(code, 50), got, want)
		}
	}
	if made := b.descriptions.last; len(made) != 3 {
		t.Errorf("what is not known was described: %+v", made)
	}
	f.call = func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"content":[{"type":"text","text":"yes"}]}`), nil
	}
	for code, want := range map[string]struct {
		result string
		lists  int
	}{
		// With the run, and by the first call or question.
		"await mcp_c.say()": {`"yes"`, 2},
		"from mcp import runtime\nawait runtime.call_tool('a-b', 'put_it')":                              {`"yes"`, 2},
		"s = mcp_c\n[await getattr(s, 's' + 'ay')(), await s.get()]":                                     {`["yes","yes"]`, 2},
		"from mcp import runtime\nmcp_c.get\n[s['name'] for s in runtime.list_loaded_server_metadata()]": {`["c"]`, 2},
		"mcp_c.get\ndir(mcp_c)": {`["get","say"]`, 2},
	} {
		f.listed = nil
		if r := runCode(t, b, code); string(r.Result) != want.result || len(f.listed) != want.lists {
			t.Errorf("%s: %s, want %s; after the tools of %q were asked for: %+v", code, r.Result, want.result, f.listed, r)
		}
	}
}

// TestMentionedInVain: what is known of a server that does not work is no way around the reason, and what is known of another
// version of it no way around the right error.
func TestMentionedInVain(t *testing.T) {
	f := newFake().add("c", upstream.Tool{Name: "say", InputSchema: json.RawMessage(`{"type":"object","properties":{"x":{}},"required":["x"]}`)})
	f.infos[0].Tools = 1
	b := newBridge(t, func(o *Options) { o.Servers = f })
	f.call = func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
		t.Error("it was called")
		return nil, errors.New("called")
	}
	const twice = `out = []
for _ in range(2):
    try:
        await mcp_c.say()
    except Exception as e:
        out.append(type(e).__name__)
out`
	f.again = errors.New("it is busy")
	if r := runCode(t, b, twice); string(r.Result) != `["ArgumentError","ArgumentError"]` {
		t.Errorf("%s: %+v", r.Result, r)
	}
	f.add("large", upstream.Tool{Name: "put-it"}, upstream.Tool{Name: "x", Description: strings.Repeat("x", maxPreload)})
	f.call, f.again = fakeCall("large", func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"content":[{"type":"text","text":"yes"}]}`), nil
	}).call, nil
	const computed = "from mcp import runtime\nawait runtime.call_tool('large', 'put' + '_it')"
	if r, err := b.Run(t.Context(), Request{Servers: []string{"large"}, Code: computed}, Output{}); err != nil || string(r.Result) != `"yes"` {
		t.Errorf("%+v %v", r, err)
	}
	f.fails["c"] = errors.New("it is broken")
	r, err := b.Run(t.Context(), Request{Servers: []string{"c"}, Code: "await mcp_c.say(x=1)"}, Output{})
	if err != nil || !strings.Contains(r.Error, "cannot be used: it is broken") {
		t.Errorf("%+v %v", r, err)
	}
}

// TestToolsThatCome: tools that a server gets while the script runs are found, one after the other.
func TestToolsThatCome(t *testing.T) {
	f := newFake().add("c", upstream.Tool{Name: "old"})
	f.infos[0].Tools = 1
	f.now = make(map[string][]upstream.Tool)
	f.call = func(_ context.Context, _, tool string, _ json.RawMessage) (json.RawMessage, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now["c"] = append(f.now["c"], upstream.Tool{Name: tool + "er"})
		return json.RawMessage(`{"content":[{"type":"text","text":"yes"}]}`), nil
	}
	b := newBridge(t, func(o *Options) { o.Servers = f })
	const code = "hasattr(mcp_c, 'typo')\nfor name in 'old', 'older', 'olderer':\n    await getattr(mcp_c, name)()\n[t.name for t in runtime.list_tools_sync('c')]"
	if r := runCode(t, b, "from mcp import runtime\n"+code); string(r.Result) != `["older","olderer"]` {
		t.Errorf("%s: %+v", r.Result, r)
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
