package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// Bounds of what a script is told before it asks.
const (
	maxServers  = 1000
	maxPreload  = 16 << 10 // bytes of whole servers in a run frame; of larger ones, most of which no script uses, it asks for what it needs
	maxToolList = 64 << 20 // bytes of the tools of one server
	maxSearch   = 100      // tools in one answer
	maxReason   = 500      // bytes of why a server cannot be used
)

// A broker gives one run the MCP servers: it decides what the run may call, by exact names, and answers its calls.
type broker struct {
	servers Servers // may be nil
	infos   []upstream.Info
	names   []string
	aliases []string
	kept    *SavedTools // may be nil
	say     *progress   // may be nil
	front   *front
	made    *descriptions

	mu       sync.Mutex
	tools    map[string][]guest.Tool
	failed   map[string]error // why a server that was to be loaded cannot be used
	open     map[int64]opened
	display  display
	saved    []string // names of functions that the script has saved
	searched bool
}

// An opened call has no answer yet.
type opened struct {
	call   guest.Call
	cancel context.CancelFunc
}

// servers are the configured servers, as many as a script is told of, and their names.
func (b *Bridge) servers() (infos []upstream.Info, names []string) {
	if b.opts.Servers == nil {
		return nil, nil
	}
	for _, i := range b.opts.Servers.List() {
		if i.Name != "" && len(infos) < maxServers { // a call without a server's name is for the bridge
			infos, names = append(infos, i), append(names, i.Name)
		}
	}
	return infos, names
}

// serverAliases are the names of servers in Python, where mcp_servers is all of them.
func serverAliases(names []string) []string { return aliases(names, "servers") }

func (b *Bridge) newBroker(say *progress) *broker {
	k := &broker{
		servers: b.opts.Servers, kept: b.opts.Tools, say: say, front: b.front, made: &b.descriptions,
		tools: make(map[string][]guest.Tool), failed: make(map[string]error), open: make(map[int64]opened),
	}
	k.infos, k.names = b.servers()
	k.aliases = serverAliases(k.names)
	return k
}

// preloadTimeout is how long a run waits for the servers that it names. One that takes longer is waited for by the
// script, if that uses it, and then by the script's own clock.
const preloadTimeout = 20 * time.Second

// load starts servers and asks them for their tools, all at once. The run has no place of its own yet: a server that says
// nothing makes no other run wait.
func (k *broker) load(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(ctx, preloadTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for _, info := range k.infos {
		if info.Unavailable != "" || !slices.Contains(names, info.Name) {
			continue
		}
		asked.Go(func() {
			if _, err := k.ask(ctx, info.Name, k.servers.Running); err != nil && ctx.Err() == nil {
				k.mu.Lock()
				k.failed[info.Name] = err
				k.mu.Unlock()
			}
		})
	}
	asked.Wait()
}

// loaded is those of the named servers that could be loaded, which a script has as LOADED_MCP_SERVERS, and a sentence on
// the others: a script need not use what it was given, and then nothing else says that it was not.
func (k *broker) loaded(names []string) (loaded []string, note string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var not, late, notes []string
	for _, name := range names {
		_, ready := k.tools[name]
		switch i := slices.Index(k.names, name); {
		case k.infos[i].Unavailable != "" || k.failed[name] != nil:
			not = append(not, quote(name))
		case ready:
			loaded = append(loaded, name)
		default:
			late = append(late, quote(name))
		}
	}
	if len(not) > 0 {
		notes = append(notes, "Not loaded: "+strings.Join(not, ", ")+"; a call of a tool there says why.")
	}
	if len(late) > 0 {
		notes = append(notes, "Not ready yet: "+strings.Join(late, ", ")+"; a call of a tool there waits for it.")
	}
	return loaded, strings.Join(notes, " ")
}

// run is what the run frame says of the servers. One that could not be loaded is listed with the reason.
func (k *broker) run(ctx context.Context, load []string, code string) []guest.Server {
	mentioned := k.mentioned(ctx, code)
	k.mu.Lock()
	defer k.mu.Unlock()
	out, size := make([]guest.Server, len(k.infos)), 0
	for i, info := range k.infos {
		s := &out[i]
		tools, ready := k.tools[info.Name]
		*s = guest.Server{
			Name: info.Name, Alias: k.aliases[i], Source: clip(info.Source, maxReason), Description: clip(info.Description, maxReason),
			Unavailable: clip(info.Unavailable, maxReason), ToolCount: info.Tools, Loaded: slices.Contains(load, info.Name) && ready,
			Mentioned: mentioned[i],
		}
		if err := k.failed[info.Name]; err != nil {
			s.Unavailable, s.Mentioned = clip(err.Error(), maxReason), nil
		} else if s.Loaded {
			s.ToolCount = len(tools)
			if n := sizeOf(tools); size+n <= maxPreload {
				s.Tools, s.Mentioned, size = tools, nil, size+n
			}
		}
	}
	return out
}

// sizeOf is about how many bytes a script is told of them.
func sizeOf(tools []guest.Tool) (n int) {
	for _, t := range tools {
		n += len(t.Name) + len(t.Title) + 2*len(t.Description) + len(t.InputSchema) + len(t.OutputSchema) + len(t.Annotations) + 200
		for _, p := range t.Params {
			n += len(p.Name) + len(p.Type) + len(p.Description) + 100
		}
	}
	return n
}

// list is the tools of a server, as scripts are told of them.
func (k *broker) list(ctx context.Context, server string) ([]guest.Tool, error) {
	k.mu.Lock()
	tools, ok := k.tools[server]
	k.mu.Unlock()
	if ok {
		return tools, nil
	}
	return k.ask(ctx, server, k.servers.Tools)
}

// ask is the tools of a server from one of the methods of [Servers].
func (k *broker) ask(ctx context.Context, server string, list func(context.Context, string) ([]upstream.Tool, error)) ([]guest.Tool, error) {
	found, err := list(ctx, server)
	if err != nil {
		return nil, err
	}
	tools, err := k.made.of(server, found)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tools[server] = tools
	return tools, nil
}

// missing is an error about something that does not exist.
type missing struct{ error }

// begin makes the context of a call, which the guest can cancel until it is ended.
func (k *broker) begin(ctx context.Context, call guest.Call) (callCtx context.Context, end func()) {
	id := call.ID
	ctx, cancel := context.WithCancel(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[id] = opened{call, cancel}
	return ctx, func() {
		cancel()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.open, id)
	}
}

// unanswered names the servers, and what they were asked, of the calls that have no answer, the oldest first.
func (k *broker) unanswered() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, id := range slices.Sorted(maps.Keys(k.open)) {
		if c := k.open[id].call; c.Server != "" && len(names) < maxUnanswered {
			names = append(names, fmt.Sprintf("%s of %s", quote(c.Tool), quote(c.Server)))
		} else if c.Server != "" {
			return strings.Join(names, ", ") + " and more"
		}
	}
	return strings.Join(names, ", ")
}

// maxUnanswered is how many calls an error names.
const maxUnanswered = 3

// waits says whether a call takes one of the run's slots. The end of a call must not wait for what it is to end.
func waits(c guest.Call) bool { return c.Server != "" || c.Tool != "cancel" }

// answer answers a call of the guest's.
func (k *broker) answer(ctx context.Context, c guest.Call) guest.Return {
	var value json.RawMessage
	err := ctx.Err()
	if err != nil {
		return guest.Return{ID: c.ID, Error: &guest.Error{Message: err.Error()}}
	}
	if c.Server == "" {
		var v any
		if v, err = k.method(ctx, c.Tool, c.Arguments); err == nil {
			if raw, ok := v.(json.RawMessage); ok {
				value = raw
			} else {
				value, err = marshal(v)
			}
		}
	} else {
		value, err = k.call(ctx, c)
	}
	if err == nil {
		return guest.Return{ID: c.ID, Value: value}
	}
	e := &guest.Error{Message: err.Error()}
	if as := (*upstream.Error)(nil); errors.As(err, &as) {
		e.Code, e.Data = as.Code, as.Data
	}
	if as := (missing{}); errors.As(err, &as) {
		e.Type = "LookupError"
	}
	return guest.Return{ID: c.ID, Error: e}
}

// call calls a tool.
func (k *broker) call(ctx context.Context, c guest.Call) (json.RawMessage, error) {
	if err := k.check(ctx, c.Server, c.Tool); err != nil {
		return nil, err
	}
	params, err := marshal(struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	}{c.Tool, c.Arguments})
	if err != nil {
		return nil, err
	}
	k.say.call()
	defer k.front.calling(c.Server)()
	return k.servers.Request(ctx, c.Server, "tools/call", params, k.forward(c.Server+"."+c.Tool))
}

// forward passes a server's progress on to the client, if that wants it.
func (k *broker) forward(who string) func(json.RawMessage) {
	if k.say == nil {
		return nil
	}
	return func(params json.RawMessage) { k.say.upstream(who, params) }
}

// check says why a tool cannot be called. A tool that is new since the list was made is found by a second look.
func (k *broker) check(ctx context.Context, server, tool string) error {
	if err := k.has(server); err != nil {
		return err
	}
	named := func(t guest.Tool) bool { return t.Name == tool }
	tools, err := k.list(ctx, server)
	if err != nil || slices.ContainsFunc(tools, named) {
		return err
	}
	if tools, err = k.ask(ctx, server, k.servers.Again); err != nil || slices.ContainsFunc(tools, named) {
		return err
	}
	names := make([]string, len(tools))
	for i, t := range tools {
		names[i] = t.Name
	}
	return missing{fmt.Errorf("the MCP server %s has no tool %s; %s", quote(server), quote(tool), upstream.Suggest(tool, names, "it has none"))}
}

func (k *broker) has(server string) error {
	i := slices.Index(k.names, server)
	if i < 0 {
		return missing{unknownServer(server, k.names)}
	}
	if why := k.infos[i].Unavailable; why != "" {
		return fmt.Errorf("the MCP server %s cannot be used: %s", quote(server), why)
	}
	return nil
}

// method answers a call for the bridge itself. See the comment of package guest for the methods.
func (k *broker) method(ctx context.Context, name string, arguments json.RawMessage) (any, error) {
	var a struct {
		Server, Method, Query, Name, Source string
		Limit                               int
		Again                               bool
		Aside                               bool
		ID                                  int64
		Params, Content                     json.RawMessage
	}
	if err := json.Unmarshal(arguments, &a); err != nil {
		return nil, fmt.Errorf("cannot understand the arguments of %s: %v", quote(name), err)
	}
	switch name {
	case "tools":
		if err := k.has(a.Server); err != nil {
			return nil, err
		}
		look := k.servers.Tools
		if a.Again {
			look = k.servers.Again
		}
		tools, err := k.ask(ctx, a.Server, look)
		return map[string]any{"tools": append([]guest.Tool{}, tools...)}, err
	case "search":
		return k.search(ctx, a.Query, a.Limit, a.Aside)
	case "request":
		if err := k.has(a.Server); err != nil {
			return nil, err
		}
		if !slices.Contains(upstream.Reads, a.Method) {
			return nil, missing{fmt.Errorf("scripts cannot send %s to a server", quote(a.Method))}
		}
		defer k.front.calling(a.Server)()
		return k.servers.Request(ctx, a.Server, a.Method, a.Params, k.forward(a.Server))
	case "stubs":
		if err := k.has(a.Server); err != nil {
			return nil, err
		}
		tools, err := k.servers.Tools(ctx, a.Server)
		if err != nil {
			return nil, err
		}
		return stubs(a.Server, k.aliases[slices.Index(k.names, a.Server)], tools), nil
	case "display":
		k.mu.Lock()
		defer k.mu.Unlock()
		return true, k.display.add(a.Content)
	case "cancel":
		k.mu.Lock()
		defer k.mu.Unlock()
		if o, ok := k.open[a.ID]; ok {
			o.cancel()
		}
		return true, nil
	case "save_tool":
		if k.kept == nil {
			return nil, errors.New("this bridge keeps no tools")
		}
		if err := k.kept.Save(a.Name, a.Source); err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if !slices.Contains(k.saved, a.Name) {
			k.saved = append(k.saved, a.Name)
		}
		return true, nil
	case "user_tools":
		if k.kept == nil {
			return map[string]string{}, nil
		}
		return k.kept.All()
	}
	return nil, missing{fmt.Errorf("there is no method %s", quote(name))}
}

// unsearched is a sentence on the servers that a search has passed over, because nobody has asked them for their tools yet:
// to a script that finds nothing it would seem that there is nothing.
func (k *broker) unsearched() string {
	k.mu.Lock()
	searched := k.searched
	k.mu.Unlock()
	if !searched {
		return ""
	}
	var not []string
	for _, info := range k.servers.List() {
		if info.Tools < 0 && info.Unavailable == "" {
			not = append(not, quote(info.Name))
		}
	}
	if len(not) == 0 {
		return ""
	}
	return clip("A search does not find tools that are not known yet; runtime.list_tools_sync(name) asks for them, of "+strings.Join(not, ", "), 300) + "."
}

// search finds tools of all servers, those included that this run has not loaded. One aside is not the script's own.
func (k *broker) search(ctx context.Context, query string, limit int, aside bool) (any, error) {
	type match struct {
		Server string     `json:"server"`
		Tool   guest.Tool `json:"tool"`
		Score  float64    `json:"score"`
	}
	out := []match{}
	if k.servers == nil {
		return out, nil
	}
	k.mu.Lock()
	k.searched = k.searched || !aside
	k.mu.Unlock()
	for _, m := range k.servers.Search(query, min(max(limit, 1), maxSearch)) {
		if !slices.Contains(k.names, m.Server) {
			continue
		}
		// The catalog has found it, so the catalog knows them all; the tool's alias depends on the others' names.
		tools, err := k.list(ctx, m.Server)
		if err != nil {
			continue
		}
		if i := slices.IndexFunc(tools, func(t guest.Tool) bool { return t.Name == m.Tool.Name }); i >= 0 {
			out = append(out, match{m.Server, tools[i], m.Score})
		}
	}
	return out, nil
}
