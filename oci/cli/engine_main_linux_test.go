package cli

import (
	"context"
	"os"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// Where the package has a TestMain for its runtimes, podman.Suite is one more argument of it, and this file is to go.
func TestMain(m *testing.M) { os.Exit(ocitest.Main(context.Background(), m, podman)) }
