package main

import (
	"os"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/libct"
)

// runMain in the environment makes the test binary play mcp-bridge.
const runMain = "MCP_BRIDGE_TEST_MAIN"

func TestMain(m *testing.M) {
	libct.Init()
	if os.Getenv(runMain) == "1" {
		_ = libct.Seal() // starts this again, which is why the variable stays until after it
		os.Unsetenv(runMain)
		os.Exit(run())
	}
	os.Exit(m.Run())
}
