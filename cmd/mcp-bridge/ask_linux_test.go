package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// startAsked is a bridge with server-everything, and a client of the older era with options.
func startAsked(t *testing.T, options *mcp.ClientOptions) *server {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip(err)
	}
	everything := repoPath(".cache/servers/node_modules/@modelcontextprotocol/server-everything/dist/index.js")
	if !exists(everything) {
		skipOrFail(t, everything+" is missing: hack/setup test")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "servers.json")
	b, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"every": map[string]any{
		"command": node, "args": []string{everything, "stdio"},
		"env": map[string]string{"OF": t.Name()}, // its tools are those that this client makes it have
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, stderr: &buffer{}, state: filepath.Join(dir, "state")}
	before := cgroups()
	s.cmd = bridgeCommand(t, environment(s.state, "MCP_SERVERS_CONFIG="+file, "MCP_BRIDGE_TIMEOUT=60", "HOME="+dir))
	s.cmd.Stderr = s.stderr
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	s.session, err = mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options).Connect(
		ctx, &mcp.CommandTransport{Command: s.cmd, TerminateDuration: hang}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatalf("cannot connect: %v\n%s", err, s.stderr)
	}
	t.Cleanup(func() {
		s.close()
		checkNothingLeft(t, s.cmd.Process.Pid, s.state, before)
	})
	return s
}

const (
	elicit = "from mcp import runtime\nr = await runtime.call_tool('every', 'trigger-elicitation-request', {})\nprint(r.text)"
	sample = "from mcp import runtime\nr = await runtime.call_tool('every', 'trigger-sampling-request', {'prompt': 'say ho', 'maxTokens': 7})\nprint(r.text)"
)

// TestAsked: a real server's questions come to the client, and its answers to the script.
func TestAsked(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startAsked(t, &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if r.Params.Message != "[every] Please provide inputs for the following fields:" || r.Params.RequestedSchema == nil {
				t.Errorf("the client is asked %+v", r.Params)
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada Lovelace"}}, nil
		},
		//lint:ignore SA1019 it is passed on as long as clients have it
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			b, _ := json.Marshal(r.Params)
			if r.Params.MaxTokens != 7 || !strings.Contains(string(b), "say ho") {
				t.Errorf("the client is asked %s", b)
			}
			//lint:ignore SA1019 as above
			return &mcp.CreateMessageResult{Role: "assistant", Model: "none", Content: &mcp.TextContent{Text: "ho!"}}, nil
		},
	})
	for code, want := range map[string]string{elicit: "Ada Lovelace", sample: "ho!"} {
		if r := s.call(map[string]any{"code": code}); r.Status != "success" || !strings.Contains(strings.Join(r.Stdout, "\n"), want) {
			t.Errorf("%+v; want %s", r, want)
		}
	}
}

// TestAskedNobody: with a client that can answer nothing, the server is told so, and does not offer to ask.
func TestAskedNobody(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	s := startAsked(t, nil)
	for _, code := range []string{elicit, sample} {
		if r := s.call(map[string]any{"code": code}); r.Status != "error" || !strings.Contains(r.Error, "has no tool") {
			t.Errorf("%+v", r)
		}
	}
}

// TestAskedInVain: a client that does not answer holds up nothing but the call, whose end is the end of the question.
func TestAskedInVain(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	asked, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	s := startAsked(t, &mcp.ClientOptions{
		ElicitationHandler: func(ctx context.Context, _ *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		},
	})
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := s.tryCall(ctx, map[string]any{"code": elicit})
			done <- err
		}()
		within(t, "the question", func() struct{} { return <-asked })
		echo := "from mcp import runtime\nr = await runtime.call_tool('every', 'echo', {'message': 'hi'})\nprint(r.text)"
		if r := s.call(map[string]any{"code": echo}); r.Status != "success" || strings.Join(r.Stdout, "") != "Echo: hi" {
			t.Errorf("beside a question: %+v", r)
		}
		cancel()
		if err := within(t, "the end of the call", func() error { return <-done }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		within(t, "the end of the question", func() struct{} { return <-ended })
	}
}
