package bridge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// askingBridge is a bridge with a server whose tool "t" asks the client what its arguments say. What the server is
// answered is put into the channel.
func askingBridge(t *testing.T) (*Bridge, chan string) {
	t.Helper()
	var b *Bridge
	answers := make(chan string, 10)
	f := fakeCall("files", func(ctx context.Context, server, _ string, arguments json.RawMessage) (json.RawMessage, error) {
		var a struct {
			Method string
			Params json.RawMessage
		}
		if err := json.Unmarshal(arguments, &a); err != nil {
			return nil, err
		}
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			// As package upstream calls it: the server's requests do not end with one call.
			result, err := b.AskClient(context.WithoutCancel(ctx), server, a.Method, a.Params)
			if e := (*upstream.Error)(nil); errors.As(err, &e) {
				result = fmt.Appendf(nil, "%d %s %s", e.Code, e.Message, e.Data)
			}
			answers <- string(result)
		}()
		select {
		case <-answered:
			return json.RawMessage(`{"content":[]}`), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	b = newBridge(t, func(o *Options) { o.Servers = f })
	return b, answers
}

// A rawClient is a client that says and hears lines.
type rawClient struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *io.PipeReader
	read *bufio.Reader
	done chan error // of Serve

	answers chan string // to the server
}

func newRawClient(t *testing.T) (*rawClient, *Bridge) {
	t.Helper()
	b, answers := askingBridge(t)
	c := dialRaw(t, b)
	c.answers = answers
	return c, b
}

func dialRaw(t *testing.T, b *Bridge) *rawClient {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &rawClient{t: t, in: inW, out: outR, read: bufio.NewReader(outR), done: make(chan error, 1)}
	go func() {
		err := b.Serve(t.Context(), stdio{inR, outW})
		outW.Close()
		c.done <- err
	}()
	return c
}

func (c *rawClient) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Error(err)
	}
}

type heard struct {
	ID, Params, Result, Error json.RawMessage
	Method                    string
	line                      string
}

func (c *rawClient) hear() heard {
	c.t.Helper()
	line, err := c.read.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	m := heard{line: line}
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *rawClient) hello(capabilities string) {
	c.t.Helper()
	c.say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":%s,"clientInfo":{"name":"t","version":"1"}}}`, capabilities)
	c.hear()
	c.say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// script runs a script in which the server asks that.
func (c *rawClient) script(method, params string) {
	c.t.Helper()
	code, err := json.Marshal(fmt.Sprintf("import json\nawait mcp_files.t(method=%q, params=json.loads(%q))\nNone", method, params))
	if err != nil {
		c.t.Fatal(err)
	}
	c.say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"run_python","arguments":{"code":%s}}}`, code)
}

// answer is what the server was answered, when the script has ended well.
func (c *rawClient) answer() string {
	c.t.Helper()
	m := c.hear()
	var r struct{ StructuredContent Result }
	if err := json.Unmarshal(m.Result, &r); err != nil || r.StructuredContent.Status != StatusSuccess {
		c.t.Fatalf("%v, %s", err, m.line)
	}
	return <-c.answers
}

func (c *rawClient) end() {
	c.t.Helper()
	go func() { _, _ = io.Copy(io.Discard, c.read) }()
	c.in.Close()
	select {
	case err := <-c.done:
		if err != nil {
			c.t.Error(err)
		}
	case <-time.After(patience):
		c.t.Error("Serve does not return")
	}
	c.out.Close()
}

const form = `{"elicitation":{"form":{}}}`

// TestAskClient: what a client that can gets, and that its answer comes back as it is.
func TestAskClient(t *testing.T) {
	for _, tt := range []struct{ name, method, capabilities, params, want, answer string }{
		{
			"form", "elicitation/create", `{"elicitation":{}}`, `{"message":"Your name?","requestedSchema":{"type":"object","odd":[12345678901234567890]}}`,
			`{"message":"[files] Your name?","requestedSchema":{"type":"object","odd":[12345678901234567890]}}`,
			`{"action":"accept","content":{"n":12345678901234567890,"not in the schema":null},"extra":1}`,
		},
		{
			"what a user is shown", "elicitation/create", form, `{"message":"a\u001b[31mb\n\n[bank] PIN?\u202e\u2028x","_meta":{"progressToken":1}}`,
			`{"message":"[files] a [31mb [bank] PIN? x"}`, `{"action":"cancel"}`,
		},
		{
			"a long message", "elicitation/create", form, `{"message":"` + strings.Repeat("x", 5000) + `"}`,
			`{"message":"[files] ` + strings.Repeat("x", 4000) + `..."}`, `{"action":"decline"}`,
		},
		{
			"url", "elicitation/create", `{"elicitation":{"url":{}}}`, `{"mode":"url","message":"Log in","elicitationId":"1","url":"https://example.com/"}`,
			`{"elicitationId":"1","message":"[files] Log in","mode":"url","url":"https://example.com/"}`, `{"action":"accept"}`,
		},
		{
			"sampling", "sampling/createMessage", `{"sampling":{}}`, `{"maxTokens":5,"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}`,
			`{"maxTokens":5,"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}`,
			`{"role":"assistant","content":{"type":"text","text":"ho"},"model":"m"}`,
		},
		{"roots", "roots/list", `{"roots":{}}`, `{}`, `{}`, `{"roots":[{"uri":"file:///x"}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newRawClient(t)
			defer c.end()
			c.hello(tt.capabilities)
			c.script(tt.method, tt.params)
			m := c.hear()
			if m.Method != tt.method || string(m.Params) != tt.want {
				t.Errorf("the client is asked %s\nwant %s", m.line, tt.want)
			}
			c.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, tt.answer)
			if got := c.answer(); got != tt.answer {
				t.Errorf("the answer is %s\nwant %s", got, tt.answer)
			}
		})
	}
	t.Run("the client's error", func(t *testing.T) {
		c, _ := newRawClient(t)
		defer c.end()
		c.hello(form)
		c.script("elicitation/create", `{"message":"?"}`)
		c.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-1,"message":"no user","data":{"a":1}}}`, c.hear().ID)
		if got := c.answer(); got != `-1 no user {"a":1}` {
			t.Errorf("%s", got)
		}
	})
}

// TestAskClientBadly: an answer that is none ends the question, and an initialize that is refused changes nothing.
func TestAskClientBadly(t *testing.T) {
	c, _ := newRawClient(t)
	defer c.end()
	refused := func(params string) {
		t.Helper()
		c.say(`{"jsonrpc":"2.0","id":77,"method":"initialize","params":%s}`, params)
		if m := c.hear(); m.Error == nil {
			t.Fatalf("%s was accepted: %s", params, m.line)
		}
	}
	refused(`{"protocolVersion":5,"capabilities":{}}`)
	c.hello(form)
	refused(`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}`)
	for _, bad := range []string{
		`{"jsonrpc":"2.0","id":%s,"error":"nope"}`, `{"jsonrpc":"2.0","id":%s,"error":{"code":"E1","message":"x"}}`, `{"id":%s,"result":{}}`,
	} {
		c.script("elicitation/create", `{"message":"?"}`)
		c.say(bad, c.hear().ID)
		if got := c.answer(); !strings.Contains(got, "no message of JSON-RPC") {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

// TestAskClientRefused: nothing comes to a client that cannot answer, and the server is told why.
func TestAskClientRefused(t *testing.T) {
	for _, tt := range []struct{ name, method, capabilities, params, want string }{
		{"no elicitation", "elicitation/create", `{"sampling":{}}`, `{"message":"?"}`, "no capability elicitation"},
		{"no sampling", "sampling/createMessage", form, `{}`, "no capability sampling"},
		{"null is no capability", "sampling/createMessage", `{"sampling":null}`, `{}`, "no capability sampling"},
		{"no roots", "roots/list", form, `{}`, "no capability roots"},
		{"no url", "elicitation/create", `{"elicitation":{}}`, `{"mode":"url","message":"?"}`, `mode "url"`},
		{"no form", "elicitation/create", `{"elicitation":{"url":{}}}`, `{"message":"?"}`, "does not support the mode"},
		{"odd mode", "elicitation/create", form, `{"mode":"x","message":"?"}`, "there is no mode"},
		{"no message", "elicitation/create", form, `{"message":7}`, "needs a message"},
		{"no object", "elicitation/create", form, `[]`, "no JSON object"},
		{"tools", "sampling/createMessage", `{"sampling":{}}`, `{"tools":[]}`, "does not sample with tools"},
		{"another method", "tools/call", form, `{}`, "is not passed on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newRawClient(t)
			defer c.end()
			c.hello(tt.capabilities)
			c.script(tt.method, tt.params)
			if got := c.answer(); !strings.Contains(got, tt.want) || !strings.Contains(got, "-3260") {
				t.Errorf("%s; want %s", got, tt.want)
			}
		})
	}
	t.Run("no client", func(t *testing.T) {
		b, answers := askingBridge(t)
		runCode(t, b, "await mcp_files.t(method='elicitation/create', params={'message': '?'})")
		if got := <-answers; !strings.Contains(got, "no client is connected") {
			t.Errorf("%s", got)
		}
	})
	t.Run("too long", func(t *testing.T) {
		c, b := newRawClient(t)
		defer c.end()
		c.hello(form)
		_, err := b.AskClient(t.Context(), "files", "elicitation/create", json.RawMessage(`{"message":"`+strings.Repeat("x", maxAskedParams)+`"}`))
		if err == nil || !strings.Contains(err.Error(), "longer than 4 MiB") {
			t.Errorf("%v", err)
		}
	})
}

// TestAskSDK: a client of the SDK that can be asked is, whichever version it begins with; one that cannot is not.
func TestAskSDK(t *testing.T) {
	for name, want := range map[string]string{
		"2025-11-25": `"Ada"`, "2026-07-28": `"Ada"`, "2026-07-28 and cannot": "speaks a version of MCP in which servers send no requests",
	} {
		t.Run(name, func(t *testing.T) {
			version, cannot, _ := strings.Cut(name, " ")
			b, answers := askingBridge(t)
			here, there := mcp.NewInMemoryTransports()
			served := make(chan error, 1)
			go func() { served <- b.Serve(t.Context(), there) }()
			var opts mcp.ClientOptions
			if cannot == "" {
				opts.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					if r.Params.Message != "[files] Your name?" {
						t.Errorf("%+v", r.Params)
					}
					return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
				}
			}
			client, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &opts).Connect(t.Context(), here, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			if told := string(b.ClientCapabilities()); strings.Contains(told, "elicitation") != (want == `"Ada"`) || strings.Contains(told, "roots") {
				t.Errorf("servers are told %s", told)
			}
			_, r, err := call(t, t.Context(), client, map[string]any{
				"code": "await mcp_files.t(method='elicitation/create', params={'message': 'Your name?'})\nNone",
			})
			if err != nil || r.Status != StatusSuccess {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := <-answers; !strings.Contains(got, want) {
				t.Errorf("%s", got)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			if told := string(b.ClientCapabilities()); told != "{}" {
				t.Errorf("without a client servers are told %s", told)
			}
		})
	}
}

// TestAskEnds: a question that the client does not answer ends with the run that it was for, and with the session.
func TestAskEnds(t *testing.T) {
	t.Run("with the run", func(t *testing.T) {
		c, _ := newRawClient(t)
		defer c.end()
		c.hello(form)
		c.script("elicitation/create", `{"message":"?"}`)
		asked := c.hear()
		c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
		for range 2 { // this, and the answer to the run, in whatever order
			if m := c.hear(); m.Method == "notifications/cancelled" {
				if !strings.Contains(string(m.Params), string(asked.ID)) {
					t.Errorf("%s", m.line)
				}
				// A late answer is nobody's, and the session goes on.
				c.say(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept"}}`, asked.ID)
				if got := <-c.answers; !strings.Contains(got, errCallOver.Error()) {
					t.Errorf("the server is answered %s", got)
				}
				c.say(`{"jsonrpc":"2.0","id":9,"method":"ping"}`)
				return
			}
		}
		t.Error("the client is not told")
	})
	t.Run("with the session", func(t *testing.T) {
		c, _ := newRawClient(t)
		c.hello(form)
		c.script("elicitation/create", `{"message":"?"}`)
		c.hear()
		c.end()
	})
	t.Run("with a client that does not read", func(t *testing.T) {
		c, b := newRawClient(t)
		c.hello(form)
		ctx, cancel := context.WithCancel(t.Context())
		answers := make(chan error, maxAsked+1)
		for range maxAsked + 1 {
			go func() {
				_, err := b.AskClient(ctx, "files", "elicitation/create", json.RawMessage(`{"message":"?"}`))
				answers <- err
			}()
		}
		if err := <-answers; err == nil || !strings.Contains(err.Error(), "4 of this server's requests are open") {
			t.Errorf("%v", err)
		}
		// Another server is not held up, and what is given up frees its place.
		other, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		defer stop()
		if _, err := b.AskClient(other, "another", "elicitation/create", json.RawMessage(`{"message":"?"}`)); err == nil || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("%v", err)
		}
		cancel()
		for range maxAsked {
			if err := <-answers; err == nil || !strings.Contains(err.Error(), "was not answered") {
				t.Errorf("%v", err)
			}
		}
		s := b.front.client()
		s.mu.Lock()
		if len(s.queue) > 1 || len(s.waiting) > 0 {
			t.Errorf("%d messages are queued, %d wait", len(s.queue), len(s.waiting))
		}
		s.mu.Unlock()
		c.in.Close()
		if err := <-c.done; err == nil || !strings.Contains(err.Error(), "does not read") {
			t.Errorf("%v", err)
		}
		c.out.Close()
	})
}

// TestAskRate: how much one server may ask.
func TestAskRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront()
		try := func(server string) error {
			_, end, err := f.begin(t.Context(), server)
			if err == nil {
				end()
			}
			return err
		}
		for i := range maxAskedMinute {
			if err := try("a"); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := try("a"); err == nil || !strings.Contains(err.Error(), "100 requests in a minute") {
			t.Errorf("%v", err)
		}
		if err := try("b"); err != nil {
			t.Errorf("%v", err)
		}
		<-time.After(time.Minute)
		if err := try("a"); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// TestAskCause: a request ends with the last of the calls that it may be for.
func TestAskCause(t *testing.T) {
	f := newFront()
	first, second, other := f.calling("a"), f.calling("a"), f.calling("b")
	ctx, end, err := f.begin(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	late := f.calling("a")
	other()
	first()
	if ctx.Err() != nil {
		t.Error("it ends with the first")
	}
	second()
	if !errors.Is(context.Cause(ctx), errCallOver) {
		t.Errorf("%v", context.Cause(ctx))
	}
	late()
	free, end, err := f.begin(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	f.calling("a")()
	if free.Err() != nil {
		t.Error("what was for no call ends with one")
	}
}
