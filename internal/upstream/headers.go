package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// A binding is an argument that a modern server wants to see in a header, too (SEP-2243).
type binding struct {
	path   []string
	header string
}

// bindings reads those of a schema. A tool whose schema breaks their rules must not be offered.
func bindings(schema json.RawMessage) ([]binding, error) {
	if !bytes.Contains(schema, []byte("x-mcp-header")) {
		return nil, nil
	}
	return collect(schema, nil, make(map[string]bool))
}

func collect(schema json.RawMessage, path []string, seen map[string]bool) (list []binding, err error) {
	var s struct{ Properties map[string]json.RawMessage }
	if json.Unmarshal(schema, &s) != nil || len(path) > 16 {
		return nil, nil
	}
	for name, raw := range s.Properties {
		var p map[string]json.RawMessage
		if json.Unmarshal(raw, &p) != nil {
			continue
		}
		here := append(path[:len(path):len(path)], name)
		if given, ok := p["x-mcp-header"]; ok {
			var header, kind string
			_ = json.Unmarshal(p["type"], &kind) // of a wrong type: none of those that are allowed
			if err := json.Unmarshal(given, &header); err != nil || !isToken(header) {
				return nil, fmt.Errorf("%q has the x-mcp-header %.100q, which cannot be one", name, given)
			}
			if kind != "string" && kind != "integer" && kind != "boolean" {
				return nil, fmt.Errorf("%q has an x-mcp-header, but is of type %.100q", name, kind)
			}
			if seen[strings.ToLower(header)] {
				return nil, fmt.Errorf("two parameters have the x-mcp-header %q", header)
			}
			seen[strings.ToLower(header)] = true
			list = append(list, binding{here, header})
		}
		below, err := collect(raw, here, seen)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// isToken says if a text can be (a part of) the name of a header.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}

// paramHeaders are the headers that go with the params of a tools/call.
func (c *client) paramHeaders(params json.RawMessage) map[string]string {
	known := c.remembered()
	var p struct {
		Name      string
		Arguments json.RawMessage
	}
	if known == nil || json.Unmarshal(params, &p) != nil {
		return nil
	}
	t, _ := known.find(p.Name)
	list, err := bindings(t.InputSchema)
	if err != nil || len(list) == 0 {
		return nil
	}
	headers := make(map[string]string)
	for _, b := range list {
		if value, err := lookup(p.Arguments, b.path); err == nil {
			headers["Mcp-Param-"+b.header] = value
		}
	}
	return headers
}

// lookup is an argument as a header has it.
func lookup(arguments json.RawMessage, path []string) (string, error) {
	for _, name := range path {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(arguments, &object); err != nil {
			return "", err
		}
		arguments = object[name]
	}
	var value any
	d := json.NewDecoder(bytes.NewReader(arguments))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return "", err
	}
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case json.Number:
		if n, err := v.Int64(); err == nil && n >= -(1<<53-1) && n <= 1<<53-1 {
			return strconv.FormatInt(n, 10), nil
		}
	}
	return "", errors.New("not for a header")
}

// offered says if a tool of a session may be offered; only servers of HTTP can ask for headers.
func (c *client) offered(t Tool, modern bool) bool {
	if !modern || c.server.Transport == config.Stdio {
		return true
	}
	_, err := bindings(t.InputSchema)
	if err != nil {
		c.log.Warn("a tool is left out", "tool", t.Name, "error", err)
	}
	return err == nil
}
