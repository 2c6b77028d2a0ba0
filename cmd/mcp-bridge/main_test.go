//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mcp-bridge/mcp-bridge/oci/libct"
)

// runMain in the environment makes the test binary play mcp-bridge; so does the name mcp-bridge, which testscript
// gives to a copy of it.
const runMain = "MCP_BRIDGE_TEST_MAIN"

// runEcho makes it play an MCP server with one tool.
const runEcho = "MCP_BRIDGE_TEST_ECHO"

func echo() int {
	type in struct {
		Text string `json:"text"`
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		return 1
	}
	return 0
}

func TestMain(m *testing.M) {
	libct.Init()
	if os.Getenv(runEcho) == "1" {
		os.Exit(echo())
	}
	if os.Getenv(runMain) == "1" {
		_ = libct.Seal() // starts this again, which is why the variable stays until after it
		os.Unsetenv(runMain)
		os.Exit(run())
	}
	testscript.Main(house{m}, map[string]func(){"mcp-bridge": func() {
		_ = libct.Seal()
		os.Exit(run())
	}})
}

// house is all tests with what they share around them.
type house struct{ m *testing.M }

func (h house) Run() int {
	tearDown, err := setUp()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot set up the tests:", err)
		return 1
	}
	code := h.m.Run()
	if err := tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, "after all tests:", err)
		return max(code, 1)
	}
	return code
}
