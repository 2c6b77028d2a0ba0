package bridge

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// preferAsked sends a client that can be asked something, and begins in the era in which servers ask nothing, to the one before.
// Those that speak both then say initialize; one that asks again speaks no other.
func preferAsked(next mcp.MethodHandler) mcp.MethodHandler {
	var refused atomic.Bool
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		discover, ok := req.(*mcp.ServerRequest[*mcp.DiscoverParams])
		if !ok {
			return next(ctx, method, req)
		}
		can := discover.ClientCapabilities()
		//lint:ignore SA1019 it is passed on as long as clients have it
		if can == nil || can.Elicitation == nil && can.Sampling == nil || refused.Swap(true) {
			return next(ctx, method, req)
		}
		older := slices.DeleteFunc(mcp.SupportedProtocolVersions(), func(v string) bool { return v >= silentEra })
		data, err := marshal(mcp.UnsupportedProtocolVersionData{Supported: older, Requested: discover.ProtocolVersion()})
		if err != nil {
			return nil, err
		}
		return nil, &jsonrpc.Error{Code: mcp.CodeUnsupportedProtocolVersion, Message: "MCP servers can ask a client only in an older version of MCP", Data: data}
	}
}

// silentEra is the first version in which servers send no requests.
const silentEra = "2026-07-28"
