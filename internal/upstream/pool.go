package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/rank"
)

// Defaults of Options, and of servers whose configuration says nothing.
const (
	defaultIdleTimeout  = 5 * time.Minute
	defaultStartTimeout = 30 * time.Second
)

// Options of a [Pool]. All may be zero.
type Options struct {
	// Servers are in order of precedence: of two with one name the first counts.
	Servers []config.Server
	// CatalogDir is where it is remembered what servers offer; empty: nowhere. It is made when something is written.
	CatalogDir string
	// TokenDir is where logins are kept; empty: nowhere.
	TokenDir string
	// IdleTimeout ends a server that has had nothing to do for so long; 0: 5 minutes, negative: never.
	IdleTimeout time.Duration

	// OnRequest answers what servers ask of the client (sampling/createMessage, elicitation/create, ...); nil refuses.
	// An [*Error] is passed on. Its ctx ends when the server cancels its request or ends.
	// Capabilities are those that go with it, a JSON object; it is called for each start of a server.
	OnRequest    func(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error)
	Capabilities func() json.RawMessage

	Version   string        // of the bridge, as servers are told
	Environ   []string      // what servers inherit; nil: our own environment
	StopGrace time.Duration // for each step of ending a server; 0: 1.5 s
	Logger    *slog.Logger  // nil discards
}

// A Pool is all MCP servers of one user. It is safe for concurrent use.
type Pool struct {
	opts    Options
	clients []*client
	byName  map[string]*client
	catalog catalogDir
	starts  *starts

	work   sync.WaitGroup
	mu     sync.Mutex
	closed bool

	ending chan struct{} // closed some time after Close has begun: for what should not be broken off

	indexing sync.Mutex
	index    *rank.Index
}

// New makes a Pool. It starts nothing and reads nothing.
func New(opts Options) *Pool {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.IdleTimeout == 0 {
		opts.IdleTimeout = defaultIdleTimeout
	}
	if opts.Version == "" {
		opts.Version = "unknown"
	}
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	p := &Pool{ending: make(chan struct{}), opts: opts, starts: newStarts(), byName: make(map[string]*client), catalog: catalogDir{dir: opts.CatalogDir, log: opts.Logger}}
	for _, s := range opts.Servers {
		if p.byName[s.Name] != nil {
			continue
		}
		c := &client{pool: p, server: s, log: opts.Logger.With("server", s.Name), masker: newMasker(s)}
		c.tokens = c.authorizer()
		p.clients = append(p.clients, c)
		p.byName[s.Name] = c
	}
	return p
}

// Close ends all servers, at once, and returns when nothing of them is left. Requests that go on fail.
func (p *Pool) Close() {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		time.AfterFunc(tokenGrace, func() { close(p.ending) })
	}
	for _, c := range p.clients {
		c.stop()
	}
	p.work.Wait()
}

// spawn runs f in a goroutine that Close waits for; false if the pool is closed.
func (p *Pool) spawn(f func()) bool {
	done, ok := p.busy()
	if ok {
		go func() {
			defer done()
			f()
		}()
	}
	return ok
}

// busy has Close wait until done is called; false if the pool is closed.
func (p *Pool) busy() (done func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	p.work.Add(1)
	return p.work.Done, true
}

// List describes the servers, in order of precedence. It starts nothing.
func (p *Pool) List() []Info {
	home, _ := os.UserHomeDir()
	list := make([]Info, len(p.clients))
	for i, c := range p.clients {
		list[i] = Info{Name: c.server.Name, Source: source(c.server, home), Unavailable: c.server.Unavailable, Tools: -1}
		if c.server.Unavailable == "" {
			list[i].Description, list[i].Tools = c.summary()
		}
	}
	return list
}

// source says where a configuration was found.
func source(s config.Server, home string) string {
	file := s.File
	if rest, ok := strings.CutPrefix(file, home+string(filepath.Separator)); ok && home != "" {
		file = "~" + string(filepath.Separator) + rest
	}
	switch {
	case s.Host == "":
		return file
	case file == "":
		return s.Host
	}
	return s.Host + ": " + file
}

// find is the client of a name.
func (p *Pool) find(name string) (*client, error) {
	c := p.byName[name]
	if c == nil {
		var names []string
		for _, c := range p.clients {
			names = append(names, c.server.Name)
		}
		return nil, &Error{Message: fmt.Sprintf("there is no MCP server %q; %s", name, Suggest(name, names, "no server is configured"))}
	}
	if c.server.Unavailable != "" {
		return nil, c.errorf("cannot be used: %s", c.server.Unavailable)
	}
	return c, nil
}

// Tools is what a server offers and its configuration allows. It starts the server if the catalog does not know.
func (p *Pool) Tools(ctx context.Context, server string) ([]Tool, error) {
	return p.tools(server, func(c *client) (*catalog, error) { return c.known(ctx) })
}

// Running is Tools of a server that runs, for which it is started if it does not: what the catalog knows may be of
// another version of it.
func (p *Pool) Running(ctx context.Context, server string) ([]Tool, error) {
	return p.tools(server, func(c *client) (*catalog, error) { return c.listed(ctx, false) })
}

// Again is Running, but the server is asked once more, for something is missing in what it has said.
func (p *Pool) Again(ctx context.Context, server string) ([]Tool, error) {
	return p.tools(server, func(c *client) (*catalog, error) { return c.listed(ctx, true) })
}

func (p *Pool) tools(server string, list func(*client) (*catalog, error)) ([]Tool, error) {
	c, err := p.find(server)
	if err != nil {
		return nil, err
	}
	known, err := list(c)
	if err != nil {
		return nil, err
	}
	return slices.Clone(known.tools), nil
}

// Reads are the methods that scripts may use besides tools/call.
var Reads = []string{"resources/list", "resources/templates/list", "resources/read", "prompts/list", "prompts/get"}

// Request makes one request and returns its result as the server sent it. It starts the server if need be. progress may
// be nil; it gets the params of progress notifications that belong to this request, and must not block. The end of ctx
// cancels the request at the server.
func (p *Pool) Request(ctx context.Context, server, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error) {
	c, err := p.find(server)
	if err != nil {
		return nil, err
	}
	if method != "tools/call" && !slices.Contains(Reads, method) {
		return nil, &Error{Code: jsonrpc.CodeMethodNotFound, Message: fmt.Sprintf("%q is not passed on to servers; tools/call and these are: %s", method, strings.Join(Reads, ", "))}
	}
	return c.request(ctx, method, params, progress)
}

// Search ranks the tools of all servers in the catalog, and starts nothing.
func (p *Pool) Search(query string, limit int) []Match {
	var matches []Match
	for _, hit := range p.searchable().Search(query, limit) {
		if t, ok := p.byName[hit.Group].remembered().find(hit.Name); ok {
			matches = append(matches, Match{Server: hit.Group, Tool: t, Score: hit.Score})
		}
	}
	return matches
}

// searchable is the index of all catalogs. It is made when it is first needed.
func (p *Pool) searchable() *rank.Index {
	p.indexing.Lock()
	defer p.indexing.Unlock()
	if p.index == nil {
		p.index = rank.New()
		for _, c := range p.clients {
			if c.server.Unavailable == "" {
				if known := c.remembered(); known != nil {
					p.index.Set(c.server.Name, documents(known.tools))
				}
			}
		}
	}
	return p.index
}

// reindex tells the index, if there is one, of a new catalog.
func (p *Pool) reindex(c *client) {
	p.indexing.Lock()
	defer p.indexing.Unlock()
	if known := c.remembered(); p.index != nil && known != nil {
		p.index.Set(c.server.Name, documents(known.tools))
	}
}

// documents are tools as they are searched.
func documents(tools []Tool) []rank.Document {
	list := make([]rank.Document, len(tools))
	for i, t := range tools {
		list[i] = rank.Document{Name: t.Name, Title: t.Title, Text: t.Description, Schema: t.InputSchema}
	}
	return list
}

// errorf is an error that names the server.
func (c *client) errorf(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf("MCP server %q ", c.server.Name) + c.mask(fmt.Sprintf(format, args...))}
}

var errClosed = errors.New("the bridge is ending")
