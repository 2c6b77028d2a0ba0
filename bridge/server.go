package bridge

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The names that the original bridge is known by, so that its users change nothing but the command.
const (
	serverName      = "mcp-server-code-execution-mode"
	toolName        = "run_python"
	capabilitiesURI = "resource://" + serverName + "/capabilities"
)

//go:embed capabilities.md
var capabilities string

// instructions are shown to the model with the tool; hosts cut them at 2 KB.
const instructions = "run_python gives a script the tools of all the user's other MCP servers, whatever they are for: use it to work with " +
	"their issues, messages, files, databases and the like. It runs a Python script in a sandbox of its own: no network, nothing kept between runs, " +
	"files only in /tmp and /workspace. One script that loops, filters and prints what matters is better than many calls. " +
	"The manual is the resource " + capabilitiesURI + "."

const toolDescription = "Run a Python 3 script in a fresh sandbox (standard library, no network, nothing is kept). " +
	"The user's MCP servers are there as Python: await mcp_<server>.<tool>(arg=...); " +
	"from mcp import runtime: runtime.discovered_servers(), runtime.search_tool_docs_sync('what to do'), " +
	"runtime.query_tool_docs_sync(server)."

// Serve speaks MCP on a transport until the client ends the session or ctx is cancelled, and then waits for the runs
// that were going on, which both cancel. A client's end of file is no error.
func (b *Bridge) Serve(ctx context.Context, t mcp.Transport) error {
	server := mcp.NewServer(&mcp.Implementation{
		Name: serverName, Title: "Python in a sandbox", Version: b.opts.Version,
	}, &mcp.ServerOptions{
		Instructions: instructions,
		// The default would promise logging, which the protocol has deprecated and this server does not do.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}, Resources: &mcp.ResourceCapabilities{}},
	})
	server.AddReceivingMiddleware(preferAsked)
	runs, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := b.front.enter(func() { stop(errSessionOver) })
	yes := true
	server.AddTool(&mcp.Tool{
		Meta: mcp.Meta{"anthropic/alwaysLoad": true}, // Claude Code would show its name only, which nobody looks for
		Name: toolName, Title: "Run Python in a sandbox", Description: toolDescription,
		InputSchema: json.RawMessage(inputSchema), OutputSchema: json.RawMessage(outputSchema),
		Annotations: &mcp.ToolAnnotations{DestructiveHint: &yes, OpenWorldHint: &yes},
	}, func(hctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		// Server.Run does not cancel the handlers' contexts when its own ends, nor at the end of file while they are answered.
		hctx, cancel := context.WithCancelCause(hctx)
		defer cancel(nil)
		defer context.AfterFunc(runs, func() { cancel(context.Cause(runs)) })()
		tell, end := s.notifier(req.Params.GetProgressToken())
		defer end()
		return b.call(hctx, req.Params.Arguments, tell), nil
	})
	server.AddResource(&mcp.Resource{
		URI: capabilitiesURI, Name: "capabilities", Title: "Manual of the sandbox", MIMEType: "text/markdown",
		Description: "What a script finds in the sandbox, and how results look",
	}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{
			URI: capabilitiesURI, MIMEType: "text/markdown", Text: b.manual(),
		}}}, nil
	})
	err := b.serve(ctx, server, t, s)
	if ctx.Err() != nil {
		return nil // we were told to stop, and did
	}
	if err != nil {
		return fmt.Errorf("cannot go on speaking MCP: %w", err)
	}
	return nil
}

// unread is how long the end waits for a client that does not read what is being written to it.
const unread = 5 * time.Second

// serve is the session and the end of its runs. What is written to a client that has stopped reading, by whomever, is
// left to end with the transport or the process.
func (b *Bridge) serve(ctx context.Context, server *mcp.Server, t mcp.Transport, s *session) error {
	warmCtx, cool := context.WithCancel(ctx)
	var warm sync.WaitGroup
	warm.Go(func() { b.keepWarm(warmCtx, s) })
	defer warm.Wait()
	defer cool()
	served := make(chan error, 1)
	go func() {
		err := server.Run(ctx, tap{t, s, b.pool.Answered})
		b.front.leave(s)
		<-s.gone
		served <- err
	}()
	defer b.Wait()
	select {
	case err := <-served:
		return err
	case <-s.over:
	case <-ctx.Done():
	}
	patience := time.NewTimer(unread)
	defer patience.Stop()
	select {
	case err := <-served:
		return err
	case <-patience.C:
	}
	b.Wait() // a run may take its time to end, and is answered then
	patience.Reset(time.Second)
	select {
	case err := <-served:
		return err
	case <-patience.C:
		b.front.leave(s)
		return errors.New("the client does not read what is written to it")
	}
}

// call is run_python. Everything that goes wrong is a result that the model can read: it wrote the arguments, and
// nobody else will see a protocol error (SEP-1303).
func (b *Bridge) call(ctx context.Context, arguments json.RawMessage, tell func(int, string)) *mcp.CallToolResult {
	req, err := parseRequest(arguments)
	var result Result
	if err != nil {
		result = Result{Status: StatusValidationError, Error: err.Error()}
	} else if result, _, err = b.run(ctx, req, Output{Progress: tell}); err != nil {
		b.opts.Logger.Error("cannot run a script", "error", err)
	}
	text, structured := result.Render(b.opts.OutputMode)
	return &mcp.CallToolResult{
		Content:           append([]mcp.Content{&mcp.TextContent{Text: text}}, result.content...),
		StructuredContent: structured,
		IsError:           result.IsError(),
	}
}

// manual is the capabilities resource, with this server's own numbers.
func (b *Bridge) manual() string {
	servers := "none is configured"
	if _, names := b.servers(); len(names) > 0 {
		servers = clip(strings.Join(names, ", "), 4000)
	}
	return strings.NewReplacer(
		"{{timeout}}", fmt.Sprint(int(b.opts.Timeout.Seconds())), "{{maxTimeout}}", fmt.Sprint(int(b.opts.MaxTimeout.Seconds())),
		"{{memory}}", fmt.Sprint(b.opts.Limits.Memory>>20), "{{pids}}", fmt.Sprint(b.opts.Limits.Pids),
		"{{servers}}", servers,
	).Replace(capabilities)
}
