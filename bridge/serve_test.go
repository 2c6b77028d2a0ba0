package bridge

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// connect is an MCP client's session with b. end closes it and waits for the server, whose error it returns.
func connect(t *testing.T, ctx context.Context, b *Bridge) (client *mcp.ClientSession, end func() error) {
	t.Helper()
	here, there := mcp.NewInMemoryTransports()
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, there) }()
	client, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() error {
		if ended {
			return nil
		}
		ended = true
		_ = client.Close()
		return <-served
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return client, end
}

func call(t *testing.T, ctx context.Context, client *mcp.ClientSession, arguments any) (*mcp.CallToolResult, Result, error) {
	t.Helper()
	res, err := client.CallTool(ctx, &mcp.CallToolParams{Name: toolName, Arguments: arguments})
	if err != nil {
		return nil, Result{}, err
	}
	b, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return res, r, nil
}

func TestServe(t *testing.T) {
	client, end := connect(t, t.Context(), newBridge(t, nil))
	init := client.InitializeResult()
	if init.ServerInfo.Name != "mcp-server-code-execution-mode" || init.ServerInfo.Version != "test" || len(init.Instructions) > 2048 {
		t.Errorf("%+v", init)
	}
	//lint:ignore SA1019 that this is not offered any more is the point
	if c := init.Capabilities; c.Tools == nil || c.Resources == nil || c.Logging != nil {
		t.Errorf("capabilities %+v", c)
	}
	t.Run("list", func(t *testing.T) {
		list, err := client.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 1 || list.Tools[0].Name != "run_python" || list.Tools[0].OutputSchema == nil {
			t.Fatalf("%+v, %v", list, err)
		}
		b, err := json.Marshal(list)
		// The budget is 600 tokens; a token of such JSON is rarely less than three bytes.
		if err != nil || len(b) > 1800 {
			t.Errorf("tools/list has %d bytes, %v", len(b), err)
		}
	})
	t.Run("call", func(t *testing.T) {
		res, r, err := call(t, t.Context(), client, map[string]any{"code": "print('hello')\n6 * 7"})
		if err != nil || res.IsError || r.Status != StatusSuccess || string(r.Result) != "42" || len(r.Stdout) != 1 || r.Stdout[0] != "hello" {
			t.Errorf("%+v, %+v, %v", res, r, err)
		}
		if text, ok := res.Content[0].(*mcp.TextContent); !ok || !strings.Contains(text.Text, "hello") {
			t.Errorf("content %+v", res.Content)
		}
	})
	t.Run("a script that fails", func(t *testing.T) {
		res, r, err := call(t, t.Context(), client, map[string]any{"code": "1 / 0"})
		if err != nil || !res.IsError || r.Status != StatusError || !strings.Contains(r.Error, "ZeroDivisionError") {
			t.Errorf("%+v, %+v, %v", res, r, err)
		}
	})
	t.Run("a timeout that is too long", func(t *testing.T) {
		_, r, err := call(t, t.Context(), client, map[string]any{"code": "pass", "timeout": 100_000})
		if err != nil || r.Status != StatusSuccess || !strings.Contains(r.Summary, "timeout was set to 120 s") {
			t.Errorf("%+v, %v", r, err)
		}
	})
	for _, tt := range badArguments {
		if tt.raw == "" || tt.raw[0] != '{' || strings.Contains(tt.raw, `["file"]`) {
			continue // a client cannot send this, or there are no servers here
		}
		t.Run("bad arguments: "+tt.name, func(t *testing.T) {
			res, r, err := call(t, t.Context(), client, json.RawMessage(tt.raw))
			if err != nil || !res.IsError || r.Status != StatusValidationError || r.Error != tt.want {
				t.Errorf("%+v, %v; want %s", r, err, tt.want)
			}
		})
	}
	t.Run("unknown tool", func(t *testing.T) {
		if _, err := client.CallTool(t.Context(), &mcp.CallToolParams{Name: "run_ruby"}); err == nil {
			t.Error("it ran")
		}
	})
	t.Run("resource", func(t *testing.T) {
		list, err := client.ListResources(t.Context(), nil)
		if err != nil || len(list.Resources) != 1 || list.Resources[0].URI != capabilitiesURI {
			t.Fatalf("%+v, %v", list, err)
		}
		res, err := client.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: capabilitiesURI})
		if err != nil || len(res.Contents) != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		text := res.Contents[0].Text
		if strings.Contains(text, "{{") || !strings.Contains(text, "512") || !strings.Contains(text, "/workspace") {
			t.Errorf("the manual is not filled in:\n%s", text)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		b, began, ended := sleeper(t)
		client, _ := connect(t, t.Context(), b)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-began; cancel() }()
		if _, _, err := call(t, ctx, client, map[string]any{"code": "pass"}); err == nil {
			t.Error("a cancelled call has a result")
		}
		within(t, "the end of the run", ended)
	})
	if err := end(); err != nil {
		t.Errorf("a client's end of file is an error: %v", err)
	}
}

// sleeper is a bridge whose guest waits until it is killed.
func sleeper(t *testing.T) (b *Bridge, began, ended chan struct{}) {
	began, ended = make(chan struct{}), make(chan struct{})
	return newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		g.start()
		close(began)
		defer close(ended)
		return killed(g)
	}, nil), began, ended
}

// TestServeEnds: when the client goes or the server is told to stop, the runs stop, and Serve returns after them. The
// client here is a pipe, because one of the SDK would wait for its call before it goes.
func TestServeEnds(t *testing.T) {
	for _, how := range []string{"end of file", "context"} {
		t.Run(how, func(t *testing.T) {
			b, began, ended := sleeper(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			inR, inW := io.Pipe()
			outR, outW := io.Pipe()
			defer inW.Close()
			go func() { _, _ = io.Copy(io.Discard, outR) }()
			served := make(chan error, 1)
			go func() { served <- b.Serve(ctx, stdio{inR, outW}) }()
			for _, line := range []string{
				`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`,
				`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
				`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"run_python","arguments":{"code":"pass"}}}`,
			} {
				if _, err := io.WriteString(inW, line+"\n"); err != nil {
					t.Fatal(err)
				}
			}
			within(t, "the call", began)
			if how == "context" {
				stop()
			} else {
				inW.Close()
			}
			select {
			case err := <-served:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("Serve does not return")
			}
			select {
			case <-ended:
			default:
				t.Error("Serve has returned, and the run goes on")
			}
			outR.Close()
		})
	}
}
