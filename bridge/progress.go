package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// progressEvery is how often a client is told at most; what comes between is left out.
const progressEvery = 100 * time.Millisecond

// progress tells a client how a run goes on. A nil one tells nobody. It is safe for concurrent use.
type progress struct {
	mu     sync.Mutex
	notify func(n int, message string)
	n      int // strictly increases, as the protocol wants
	made   int // calls of tools
	last   time.Time
	ended  bool
}

type phasesKey struct{}

func withPhases(ctx context.Context, p *progress) context.Context {
	return context.WithValue(ctx, phasesKey{}, p)
}

// Phase tells the client of a run what [Options.Image], which got ctx, is doing: a pull may take a while.
func Phase(ctx context.Context, message string) {
	if p, ok := ctx.Value(phasesKey{}).(*progress); ok {
		p.tell(message, false)
	}
}

// phase is always told.
func (p *progress) phase(message string) { p.tell(message, true) }

// call says that a tool is called.
func (p *progress) call() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.made++
	p.mu.Unlock()
	p.tell("", false)
}

// upstream is what a server said of a request of this run's.
func (p *progress) upstream(who string, params json.RawMessage) {
	var m struct {
		Progress, Total json.Number
		Message         string
	}
	if json.Unmarshal(params, &m) != nil {
		return
	}
	text := clip(who, 100) + ":"
	switch {
	case m.Progress != "" && m.Total != "":
		text += fmt.Sprintf(" %s of %s", m.Progress, m.Total)
	case m.Progress != "":
		text += " " + m.Progress.String()
	}
	if m.Message != "" {
		text += " " + clip(oneLine(m.Message), 200)
	}
	p.tell(text, false)
}

func (p *progress) tell(message string, always bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.ended || !always && now.Sub(p.last) < progressEvery {
		return
	}
	if p.made > 0 {
		message = strings.TrimPrefix(fmt.Sprintf("%s; tool calls: %d", message, p.made), "; ")
	}
	p.n++
	p.last = now
	p.notify(p.n, message)
}

// end is called before the result: nothing may come after that.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// notifier sends progress notifications with a token, and is nil without one. They go through the session's queue, so that
// a run never waits for the client to read, and not through the SDK, which would. end comes before the result is handed
// over: what is queued by then is dropped.
func (s *session) notifier(token any) (tell func(int, string), end func()) {
	if token == nil {
		return nil, func() {}
	}
	var last *jsonrpc.Request
	tell = func(n int, message string) {
		params, err := marshal(&mcp.ProgressNotificationParams{ProgressToken: asNumber(token), Progress: float64(n), Message: message})
		if err == nil {
			m := &jsonrpc.Request{Method: "notifications/progress", Params: params}
			s.replace(last, m)
			last = m
		}
	}
	return tell, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(last)
	}
}
