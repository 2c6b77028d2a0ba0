package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// Bounds of what MCP servers may ask of the client.
const (
	maxAsked        = 4   // open requests of one server
	maxAskedMinute  = 100 // requests of one server in any minute
	maxAskedParams  = 4 << 20
	maxAskedMessage = 4000 // bytes that a user is shown
	maxAskedName    = 100
	maxCapability   = 1 << 10
)

// codeNotAnswer is one of the codes that JSON-RPC leaves to servers.
const codeNotAnswer = -32000

// A front is the client of the bridge, as the MCP servers see it: they may ask what it can do, each only so much. It is
// safe for concurrent use.
type front struct {
	mu      sync.Mutex
	session *session // nil without a client
	servers map[string]*asking
}

// asking is what one server asks, and the calls to it that may be why.
type asking struct {
	calls map[*openCall]bool
	asks  map[*ask]bool
	times []time.Time // of its requests in the last minute
}

// An openCall is a call that goes on. Its address tells it from others, so it is not empty.
type openCall struct{ _ byte }

// An ask is one request of a server that is open.
type ask struct {
	calls  map[*openCall]bool // those that were open when it came, and still are
	cancel context.CancelCauseFunc
}

var errCallOver = errors.New("the call of a script that it may have been for is over")

func newFront() *front { return &front{servers: make(map[string]*asking)} }

// of is what a server asks; f.mu is held.
func (f *front) of(server string) *asking {
	a := f.servers[server]
	if a == nil {
		a = &asking{calls: make(map[*openCall]bool), asks: make(map[*ask]bool)}
		f.servers[server] = a
	}
	return a
}

// calling notes a call to a server until it ends. Over stdio nothing says which call a server's request belongs to. So
// it belongs to all that were open when it came, and ends with the last of them.
func (f *front) calling(server string) (end func()) {
	c := new(openCall)
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.of(server)
	a.calls[c] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(a.calls, c)
		for q := range a.asks {
			if q.calls[c] {
				if delete(q.calls, c); len(q.calls) == 0 {
					q.cancel(errCallOver)
				}
			}
		}
	}
}

// begin counts a request of a server, or says why it is one too many.
func (f *front) begin(ctx context.Context, server string) (askCtx context.Context, end func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.of(server)
	now := time.Now()
	for len(a.times) > 0 && now.Sub(a.times[0]) >= time.Minute {
		a.times = a.times[1:]
	}
	switch {
	case len(a.asks) >= maxAsked:
		return nil, nil, refuse(codeNotAnswer, "%d of this server's requests are open, and no more are passed on at once", maxAsked)
	case len(a.times) >= maxAskedMinute:
		return nil, nil, refuse(codeNotAnswer, "this server has made %d requests in a minute, and no more are passed on", maxAskedMinute)
	}
	a.times = append(a.times, now)
	ctx, cancel := context.WithCancelCause(ctx)
	q := &ask{calls: make(map[*openCall]bool, len(a.calls)), cancel: cancel}
	for c := range a.calls {
		q.calls[c] = true
	}
	a.asks[q] = true
	return ctx, func() {
		cancel(nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(a.asks, q)
	}, nil
}

func refuse(code int64, format string, args ...any) *upstream.Error {
	return &upstream.Error{Code: code, Message: "mcp-bridge: " + fmt.Sprintf(format, args...)}
}

func (f *front) client() *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session
}

// enter is the beginning of a client's session. Its end stops what it has begun.
func (f *front) enter(stop func()) *session {
	s := &session{
		waiting: make(map[string]chan *jsonrpc.Response), open: make(map[jsonrpc.ID]bool), stop: stop,
		wake: make(chan struct{}, 1), over: make(chan struct{}), settled: make(chan struct{}), gone: make(chan struct{}), spoken: make(chan struct{}),
	}
	s.speak = sync.OnceFunc(func() { close(s.spoken) })
	s.settle = sync.OnceFunc(func() { close(s.settled) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session = s
	return s
}

// leave is its end.
func (f *front) leave(s *session) {
	s.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == s {
		f.session = nil
	}
}

// ClientCapabilities are what servers may ask of the client that is connected, as it said itself: a JSON object with
// elicitation and sampling, if it has them. It is empty without a client, and with one of the era in which servers ask
// nothing. Roots are not in it: some servers let them replace the directories on their command line.
func (b *Bridge) ClientCapabilities() json.RawMessage {
	has := b.front.client().capabilities()
	told := make(map[string]json.RawMessage)
	for _, name := range []string{"elicitation", "sampling"} {
		if v, ok := has[name]; ok {
			told[name] = v
		}
	}
	out, err := marshal(told)
	if err != nil {
		return json.RawMessage("{}")
	}
	return out
}

// AskClient passes a request of an MCP server's (elicitation/create, sampling/createMessage, roots/list) on to the
// client that is connected, and its answer back as it is. It is refused if the client cannot answer it, or the server
// asks too much. It ends with ctx, with the session, and with the calls to the server that were open when it came. An
// error is an [*upstream.Error].
func (b *Bridge) AskClient(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	s := b.front.client()
	if err := s.may(method); err != nil {
		return nil, err
	}
	params, err := askParams(s.capabilities(), server, method, params)
	if err != nil {
		return nil, err
	}
	ctx, end, err := b.front.begin(ctx, server)
	if err != nil {
		return nil, err
	}
	defer end()
	b.opts.Logger.Debug("a server asks the client", "server", server, "method", method)
	result, err := s.ask(ctx, method, params)
	if e := (*upstream.Error)(nil); err != nil && !errors.As(err, &e) {
		err = refuse(codeNotAnswer, "%s was not answered: %v", method, err)
	}
	return result, err
}

// may says why a server cannot ask that. A nil session is no client.
func (s *session) may(method string) error {
	group, ok := map[string]string{
		"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots",
	}[method]
	switch {
	case !ok:
		return refuse(jsonrpc.CodeMethodNotFound, "%s is not passed on to the client", quote(method))
	case s == nil:
		return refuse(jsonrpc.CodeMethodNotFound, "%s: no client is connected that could answer", method)
	case !s.legacy():
		return refuse(jsonrpc.CodeMethodNotFound, "%s: the client speaks a version of MCP in which servers send no requests, and they are not passed on in another way", method)
	case s.capabilities()[group] == nil:
		return refuse(jsonrpc.CodeMethodNotFound, "%s: the client has no capability %s", method, group)
	}
	return nil
}

// askParams are what the client gets: what the server sent, with its name before what a user is shown.
func askParams(has map[string]json.RawMessage, server, method string, params json.RawMessage) (json.RawMessage, error) {
	if len(params) > maxAskedParams {
		return nil, refuse(jsonrpc.CodeInvalidParams, "the params of %s are longer than %d MiB", method, maxAskedParams>>20)
	}
	var p map[string]json.RawMessage
	if len(params) > 0 {
		if err := json.Unmarshal(params, &p); err != nil {
			return nil, refuse(jsonrpc.CodeInvalidParams, "the params of %s are no JSON object", method)
		}
	}
	if p == nil {
		p = make(map[string]json.RawMessage)
	}
	delete(p, "_meta") // it is between the two that speak; a progress token, for one, is the bridge's to give
	switch method {
	case "elicitation/create":
		var message, mode string
		if json.Unmarshal(p["message"], &message) != nil || p["mode"] != nil && json.Unmarshal(p["mode"], &mode) != nil {
			return nil, refuse(jsonrpc.CodeInvalidParams, "%s needs a message, and its mode is a string", method)
		}
		can := object(has["elicitation"])
		switch {
		case mode == "url" && can["url"] == nil, mode != "url" && can["form"] == nil && can["url"] != nil:
			return nil, refuse(jsonrpc.CodeInvalidParams, "%s: the client does not support the mode %s", method, quote(mode))
		case mode != "" && mode != "url" && mode != "form":
			return nil, refuse(jsonrpc.CodeInvalidParams, "%s: there is no mode %s", method, quote(mode))
		}
		shown, err := marshal("[" + clip(plain(server), maxAskedName) + "] " + clip(plain(message), maxAskedMessage))
		if err != nil {
			return nil, refuse(jsonrpc.CodeInvalidParams, "the message of %s cannot be passed on: %v", method, err)
		}
		p["message"] = shown
	case "sampling/createMessage":
		if (p["tools"] != nil || p["toolChoice"] != nil) && object(has["sampling"])["tools"] == nil {
			return nil, refuse(jsonrpc.CodeInvalidParams, "%s: the client does not sample with tools", method)
		}
	}
	params, err := marshal(p)
	if err != nil {
		return nil, refuse(jsonrpc.CodeInvalidParams, "the params of %s cannot be passed on: %v", method, err)
	}
	return params, nil
}

// plain is text on one line, without what a terminal obeys or what turns the direction of letters: nothing of it can
// look as if the bridge, or another server, had said it.
func plain(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return r == ' ' || unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	}), " ")
}

// capability is v on one line, {} for an object that is too long, and nil for what is none.
func capability(v json.RawMessage) json.RawMessage {
	var line bytes.Buffer
	if object(v) == nil || json.Compact(&line, v) != nil {
		return nil
	}
	if line.Len() > maxCapability {
		return json.RawMessage("{}")
	}
	return line.Bytes()
}
