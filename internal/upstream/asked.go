package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// capabilities are what a server is told that it may ask.
func (c *client) capabilities() json.RawMessage {
	var list []wire.Member
	if o := c.pool.opts; o.OnRequest != nil && o.Capabilities != nil {
		given, err := wire.Members(o.Capabilities())
		if err != nil {
			c.log.Error("internal error: the capabilities cannot be read", "error", err)
		}
		list = given
	}
	if c.pool.opts.ProjectDir != "" {
		list = append(list, wire.Member{Name: "roots", Value: json.RawMessage("{}")})
	}
	return wire.Object(list)
}

// asked answers what a server asks.
func (c *client) asked(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	handler := c.pool.opts.OnRequest
	if method == "roots/list" && (c.pool.opts.ProjectDir != "" || handler == nil) {
		return c.roots()
	}
	if handler == nil {
		c.log.Debug("refused what a server asked", "method", clip([]byte(method)))
		return nil, &wire.Error{Code: jsonrpc.CodeMethodNotFound, Message: refusal(method)}
	}
	result, err := handler(ctx, c.server.Name, method, params)
	if e := (*Error)(nil); errors.As(err, &e) {
		err = &wire.Error{Code: e.Code, Message: e.Message, Data: e.Data}
	}
	return result, err
}

// refusal says why something is not answered.
func refusal(method string) string {
	switch method {
	case "sampling/createMessage":
		return "mcp-bridge has no model to sample from here"
	case "elicitation/create":
		return "mcp-bridge has no way to ask the user here"
	}
	return fmt.Sprintf("mcp-bridge does not answer %.100q", method)
}

func (c *client) roots() (json.RawMessage, error) {
	type root struct {
		URI  string `json:"uri"`
		Name string `json:"name,omitempty"`
	}
	roots := []root{}
	if dir := c.pool.opts.ProjectDir; dir != "" {
		u := url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}
		roots = append(roots, root{u.String(), filepath.Base(dir)})
	}
	return json.Marshal(map[string]any{"roots": roots})
}
