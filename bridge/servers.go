package bridge

import (
	"context"
	"encoding/json"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// Servers are the MCP servers whose tools scripts may use. All methods are safe for concurrent use; names are exact.
// What a server sent is handed on as it sent it. Errors are for the script's author; a server's own is an
// [*upstream.Error].
type Servers interface {
	// List is in the order of precedence. It starts nothing and is fast.
	List() []upstream.Info
	// Tools is what the server offers and its configuration allows. It is answered by the catalog if that knows, and
	// else starts the server.
	Tools(ctx context.Context, server string) ([]upstream.Tool, error)
	// Running is Tools of the server as it runs, for which it is started if need be; Again asks it once more, because
	// something was not there.
	Running(ctx context.Context, server string) ([]upstream.Tool, error)
	Again(ctx context.Context, server string) ([]upstream.Tool, error)
	// Request sends one request of MCP (tools/call, resources/list, resources/templates/list, resources/read,
	// prompts/list, prompts/get) and returns its result. It starts the server if need be. progress may be nil; it gets
	// the params of progress notifications that belong to this request. The end of ctx cancels the request at the server.
	Request(ctx context.Context, server, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error)
	// Search ranks the tools of all servers in the catalog, at most limit, and starts nothing. No match is no error.
	Search(query string, limit int) []upstream.Match
}
