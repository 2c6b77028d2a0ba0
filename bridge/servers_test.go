package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// fakeServers are MCP servers made of functions. Fields are set before use.
type fakeServers struct {
	infos []upstream.Info
	tools map[string][]upstream.Tool
	fails map[string]error           // of Tools
	waits string                     // a server that still starts
	now   map[string][]upstream.Tool // what Again finds
	again error                      // of Again
	// call answers tools/call, request all else.
	call    func(ctx context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error)
	request func(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error)
	tell    func(progress func(json.RawMessage)) // in each tools/call

	mu     sync.Mutex
	listed []string // servers whose Tools were asked for
}

func newFake() *fakeServers {
	return &fakeServers{tools: make(map[string][]upstream.Tool), fails: make(map[string]error)}
}

// fakeCall is one server with a tool "t".
func fakeCall(server string, call func(ctx context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error)) *fakeServers {
	f := newFake().add(server, upstream.Tool{Name: "t"})
	f.call = call
	return f
}

func (f *fakeServers) add(server string, tools ...upstream.Tool) *fakeServers {
	if !slices.ContainsFunc(f.infos, func(i upstream.Info) bool { return i.Name == server }) {
		f.infos = append(f.infos, upstream.Info{Name: server, Source: "test", Tools: -1})
	}
	f.tools[server] = append(f.tools[server], tools...)
	return f
}

func (f *fakeServers) List() []upstream.Info { return f.infos }

func (f *fakeServers) Tools(ctx context.Context, server string) ([]upstream.Tool, error) {
	if server == f.waits {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed = append(f.listed, server)
	return f.tools[server], f.fails[server]
}

func (f *fakeServers) Running(ctx context.Context, server string) ([]upstream.Tool, error) {
	return f.Tools(ctx, server)
}

// Again has what a server has got since, too.
func (f *fakeServers) Again(ctx context.Context, server string) ([]upstream.Tool, error) {
	f.mu.Lock()
	if now, ok := f.now[server]; ok {
		f.tools[server] = now
	}
	f.mu.Unlock()
	if f.again != nil {
		return nil, f.again
	}
	return f.Tools(ctx, server)
}

func (f *fakeServers) Request(ctx context.Context, server, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error) {
	if method != "tools/call" {
		if f.request == nil {
			return nil, errors.New("no " + method)
		}
		return f.request(ctx, server, method, params)
	}
	if f.tell != nil {
		f.tell(progress)
	}
	var p struct {
		Name      string
		Arguments json.RawMessage
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, err
	}
	return f.call(ctx, server, p.Name, p.Arguments)
}

func (f *fakeServers) Search(query string, limit int) (out []upstream.Match) {
	for _, i := range f.infos {
		for _, t := range f.tools[i.Name] {
			if strings.Contains(t.Name+" "+t.Description, query) && len(out) < limit {
				out = append(out, upstream.Match{Server: i.Name, Tool: t, Score: 1})
			}
		}
	}
	return out
}
