package bridge

import (
	"context"
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
