package bridge

import (
	"context"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestEra: a client that can be asked something gets the version of MCP in which it can be, and another the newest.
func TestEra(t *testing.T) {
	elicit := func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		return &mcp.ElicitResult{Action: "decline"}, nil
	}
	//lint:ignore SA1019 it is passed on as long as clients have it
	sample := func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) { return nil, nil }
	for name, c := range map[string]struct {
		opts  mcp.ClientOptions
		older bool
	}{
		"nothing":     {mcp.ClientOptions{}, false},
		"elicitation": {mcp.ClientOptions{ElicitationHandler: elicit}, true},
		"sampling":    {mcp.ClientOptions{CreateMessageHandler: sample}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBridge(t, nil)
			ours, theirs := mcp.NewInMemoryTransports()
			ended := make(chan error, 1)
			go func() { ended <- b.Serve(t.Context(), ours) }()
			client, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, &c.opts).Connect(t.Context(), theirs, nil)
			if err != nil {
				t.Fatal(err)
			}
			if v := client.InitializeResult().ProtocolVersion; (v < silentEra) != c.older {
				t.Errorf("version %s", v)
			}
			if _, r, err := call(t, t.Context(), client, map[string]any{"code": "6 * 7"}); err != nil || string(r.Result) != "42" {
				t.Errorf("%+v, %v", r, err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEraAgain: a client that insists on the newest version knows no other, and is served in it.
func TestEraAgain(t *testing.T) {
	c, _ := newRawClient(t)
	defer c.end()
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`
	for n, want := range []string{`"code":-32022`, `"supportedVersions":["2026-07-28"`} {
		c.say(`{"jsonrpc":"2.0","id":%d,"method":"server/discover","params":{%s}}`, n+1, meta)
		if m := c.hear(); !strings.Contains(m.line, want) {
			t.Errorf("%s; want %s", m.line, want)
		}
	}
	c.say(`{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{%s}}`, meta)
	if m := c.hear(); !strings.Contains(m.line, toolName) {
		t.Errorf("%s", m.line)
	}
}
