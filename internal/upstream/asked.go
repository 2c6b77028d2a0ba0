package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	return wire.Object(list)
}

// asked answers what a server asks.
func (c *client) asked(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	handler := c.pool.opts.OnRequest
	switch {
	case handler != nil:
	case method == "roots/list": // there are none, which is no refusal
		return json.RawMessage(`{"roots":[]}`), nil
	default:
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
