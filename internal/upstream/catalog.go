package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// Bounds of what one server may offer.
const (
	maxPages       = 1000
	maxTools       = 10_000
	maxCatalog     = 32 << 20 // bytes of its tools
	maxName        = 1024
	maxDescription = 200 // of a server, in List
)

// A catalog is what a server offers, as far as it is known.
type catalog struct {
	tools  []Tool         // those that the configuration allows
	byName map[string]int // into tools
}

// find looks a tool up; k may be nil.
func (k *catalog) find(name string) (Tool, bool) {
	if k != nil {
		if i, ok := k.byName[name]; ok {
			return k.tools[i], true
		}
	}
	return Tool{}, false
}

// newCatalog is the catalog of what a server offers and a configuration allows.
func (c *client) newCatalog(r record) *catalog {
	k := &catalog{byName: make(map[string]int, len(r.Tools))}
	for _, t := range r.Tools {
		if c.server.Permits(t.Name) {
			k.byName[t.Name] = len(k.tools)
			k.tools = append(k.tools, t)
		}
	}
	return k
}

// summary is what List says, from the beginning of the catalog's file only.
func (c *client) summary() (description string, tools int) {
	c.catalogMu.Lock()
	defer c.catalogMu.Unlock()
	c.look()
	switch {
	case c.head == nil:
		return "", -1
	case c.server.Allow == nil && c.server.Deny == nil:
		return c.head.Description, c.head.Tools
	}
	if k := c.load(); k != nil {
		return c.head.Description, len(k.tools)
	}
	return "", -1
}

// look reads the beginning of the catalog on disk, once; c.catalogMu is held.
func (c *client) look() {
	if !c.looked {
		c.looked = true
		c.head = c.pool.catalog.head(c.server)
	}
}

// load reads all of the catalog on disk, once; c.catalogMu is held.
func (c *client) load() *catalog {
	c.look()
	if c.catalog == nil && c.head != nil {
		h, r, ok := c.pool.catalog.read(c.server)
		if !ok {
			c.head = nil
			return nil
		}
		c.head, c.catalog = &h, c.newCatalog(r)
	}
	return c.catalog
}

// remembered is the catalog as far as it is known without asking the server; nil if it is not.
func (c *client) remembered() *catalog {
	c.catalogMu.Lock()
	defer c.catalogMu.Unlock()
	return c.load()
}

// modern says if the server spoke the modern era when it was last started. If that is not known: over HTTP any server
// answers what it does not know, so the modern era can be tried.
func (c *client) modern() bool {
	c.catalogMu.Lock()
	defer c.catalogMu.Unlock()
	c.look()
	if c.head == nil {
		return c.server.Transport == config.HTTP || c.server.Transport == config.Remote
	}
	return c.head.Modern
}

// known is the catalog; the server is started if it is not remembered.
func (c *client) known(ctx context.Context) (*catalog, error) {
	if k := c.remembered(); k != nil {
		return k, nil
	}
	return c.listed(ctx, false)
}

// recent is how old a list may be that is not asked for again although something is missing in it.
const recent = time.Second

// listed is the catalog as the server, which is started if need be, has told it; again if it has to say it now, whether it
// has announced a change or not.
func (c *client) listed(ctx context.Context, again bool) (*catalog, error) {
	s, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer c.release(s, false)
	select {
	case <-s.listed:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err = s.listErr
	if err == nil || c.loginHint(err) != "" { // there may have been a login since
		err = c.refresh(ctx, s, err != nil && c.remembered() == nil || again)
	}
	if err != nil {
		return nil, c.errorf("cannot list its tools: %v%s", err, c.loginHint(err))
	}
	return c.remembered(), nil
}

// refresh lists the tools, if the server has said since that they have changed, or always. The answer is remembered, on
// disk too.
func (c *client) refresh(ctx context.Context, s *session, always bool) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	changes := s.changes.Load()
	if changes == s.seen && (!always || time.Since(s.asked) < recent) {
		return nil
	}
	tools, err := c.list(ctx, s)
	if err != nil {
		return err
	}
	s.seen, s.asked = changes, time.Now()
	hello := s.conn.Hello()
	r := record{Tools: tools}
	// Which of two eras a server speaks where the user can be asked says nothing of where nobody can.
	modern := hello.Modern || wire.Asks(c.capabilities()) && c.modern()
	h := head{Modern: modern, Tools: len(tools), Description: describe(hello)}
	known := c.newCatalog(r)
	c.catalogMu.Lock()
	c.looked, c.head, c.catalog = true, &h, known
	c.catalogMu.Unlock()
	c.pool.reindex(c)
	if err := c.pool.catalog.write(c.server, h, r); err != nil {
		c.log.Warn("cannot remember what a server offers", "error", err)
	}
	return nil
}

// list asks for all pages of the tools.
func (c *client) list(ctx context.Context, s *session) ([]Tool, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var tools []Tool
	names, cursors := make(map[string]bool), make(map[string]bool)
	params, size := json.RawMessage("{}"), 0
	for range maxPages {
		result, err := s.conn.Request(ctx, "tools/list", params, nil)
		if refused := (*wire.Error)(nil); errors.As(err, &refused) && refused.Code == jsonrpc.CodeMethodNotFound {
			return nil, nil // it has no tools
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("it did not answer in %v", listTimeout)
		}
		if err != nil {
			return nil, err
		}
		if size += len(result); size > maxCatalog {
			return nil, fmt.Errorf("they take more than %d MiB", maxCatalog>>20)
		}
		page, cursor, err := decodePage(result)
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			if names[t.Name] {
				c.log.Debug("a tool is listed twice", "tool", t.Name)
				continue
			}
			if !c.offered(t, s.conn.Hello().Modern) {
				continue
			}
			names[t.Name] = true
			tools = append(tools, t)
		}
		switch {
		case len(tools) > maxTools:
			return nil, fmt.Errorf("there are more than %d", maxTools)
		case cursor == "":
			return tools, nil
		case cursors[cursor]:
			return nil, fmt.Errorf("it gives the same page again and again (cursor %.50q)", cursor)
		}
		cursors[cursor] = true
		quoted, _ := json.Marshal(cursor) // a string can be encoded
		params = wire.Object([]wire.Member{{Name: "cursor", Value: quoted}})
	}
	return nil, fmt.Errorf("they take more than %d pages", maxPages)
}

// decodePage reads one page. A tool that cannot be one is left out; a member of a wrong type is as if it was not there.
func decodePage(result json.RawMessage) (tools []Tool, cursor string, err error) {
	var page map[string]json.RawMessage
	if err := json.Unmarshal(result, &page); err != nil {
		return nil, "", err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(page["tools"], &list); err != nil {
		return nil, "", fmt.Errorf("its answer has no list of tools: %q", cut(string(result), 100))
	}
	if raw := page["nextCursor"]; len(raw) > 0 {
		_ = json.Unmarshal(raw, &cursor) // null and wrong types are the end
	}
	for _, raw := range list {
		if t, ok := decodeTool(raw); ok {
			tools = append(tools, t)
		}
	}
	return tools, cursor, nil
}

func decodeTool(raw json.RawMessage) (t Tool, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return t, false
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(fields[name], &s) // of a wrong type: as if it was not there
		return s
	}
	object := func(name string) json.RawMessage {
		if v := fields[name]; len(v) > 0 && v[0] == '{' {
			return v
		}
		return nil
	}
	t = Tool{
		Name: text("name"), Title: text("title"), Description: text("description"),
		InputSchema: object("inputSchema"), OutputSchema: object("outputSchema"), Annotations: object("annotations"),
	}
	return t, t.Name != "" && len(t.Name) <= maxName
}

// describe is one line of what a server says of itself.
func describe(h wire.Hello) string {
	var info map[string]json.RawMessage
	_ = json.Unmarshal(h.ServerInfo, &info) // whatever it is, the instructions may do
	member := func(name string) (s string) {
		_ = json.Unmarshal(info[name], &s) // as above
		return s
	}
	s := strings.TrimSpace(cmp.Or(member("description"), h.Instructions, member("title")))
	s, _, _ = strings.Cut(s, "\n")
	return cut(strings.Join(strings.Fields(s), " "), maxDescription)
}

// cut is a prefix of whole letters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// valid says if a record that was read can have been written by us.
func (r record) valid(h head) bool {
	names := make(map[string]bool, len(r.Tools))
	return len(r.Tools) == h.Tools && len(r.Tools) <= maxTools && !slices.ContainsFunc(r.Tools, func(t Tool) bool {
		twice := names[t.Name]
		names[t.Name] = true
		return twice || t.Name == "" || len(t.Name) > maxName
	})
}
