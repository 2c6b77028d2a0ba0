package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// permit is nil for a tool that may be called. What the catalog does not know, the server may have made since: it is
// asked before the call is refused.
func (c *client) permit(ctx context.Context, tool string) error {
	if !c.server.Permits(tool) {
		return c.errorf("may not be asked for %q: its entry in %s does not allow that tool", tool, c.server.File)
	}
	if _, ok := c.remembered().find(tool); ok {
		return nil
	}
	known, err := c.listed(ctx, true)
	if err != nil {
		return err
	}
	if _, ok := known.find(tool); ok {
		return nil
	}
	var names []string
	for _, t := range known.tools {
		names = append(names, t.Name)
	}
	e := c.errorf("has no tool %q; %s", tool, Suggest(tool, names, "it has none"))
	e.Code = jsonrpc.CodeInvalidParams
	return e
}

// canonicalCall is the params of a tools/call, written anew: with one name, which is the one that was checked. A parser
// that takes another of two members called "name", or takes "NAME" for it, cannot be fooled that way.
func canonicalCall(params json.RawMessage) (json.RawMessage, string, error) {
	if !json.Valid(params) {
		return nil, "", errors.New("not JSON")
	}
	members, err := wire.Members(params)
	if err != nil {
		return nil, "", err
	}
	name := ""
	kept := make([]wire.Member, 1, len(members))
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		if seen[m.Name] {
			return nil, "", fmt.Errorf("%q is there twice", m.Name)
		}
		seen[m.Name] = true
		switch m.Name {
		case "name":
			if err := json.Unmarshal(m.Value, &name); err != nil || m.Value[0] != '"' {
				return nil, "", errors.New("name is not a string")
			}
		case "arguments":
			if m.Value[0] != '{' && string(m.Value) != "null" {
				return nil, "", errors.New("arguments is not an object")
			}
			if m.Value[0] == '{' {
				kept = append(kept, m)
			}
		case "_meta":
			kept = append(kept, m)
		}
	}
	if name == "" {
		return nil, "", errors.New("name is missing")
	}
	quoted, err := json.Marshal(name)
	if err != nil {
		return nil, "", err
	}
	kept[0] = wire.Member{Name: "name", Value: quoted}
	params, err = compact(wire.Object(kept))
	return params, name, err
}

// compact is params on one line; they have to be an object or nothing.
func compact(params json.RawMessage) (json.RawMessage, error) {
	params = bytes.TrimSpace(params)
	if len(params) == 0 || string(params) == "null" {
		return nil, nil
	}
	if params[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	var line bytes.Buffer
	if err := json.Compact(&line, params); err != nil {
		return nil, err
	}
	params = line.Bytes()
	if !bytes.Contains(params, []byte(`_meta":`)) && !bytes.Contains(params, []byte(`\u`)) {
		return params, nil
	}
	// A progress token is for us to give: one that a script makes up could be that of another script's request.
	members, err := wire.Members(params)
	if err != nil {
		return nil, err
	}
	for i, m := range members {
		if meta, err := wire.Members(m.Value); m.Name == "_meta" && err == nil {
			members[i].Value = wire.Object(slices.DeleteFunc(meta, func(m wire.Member) bool { return m.Name == "progressToken" }))
		}
	}
	return wire.Object(members), nil
}
