//go:build linux && cgo

package direct_test

import (
	"context"
	"os"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/direct"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

var suite = ocitest.OnHost("direct", func(o host.Options) host.Launcher { return direct.New(o) })

func TestMain(m *testing.M) {
	suite.ThroughClosed = true // stage0 opens the image before it is another user
	os.Exit(suite.Main(context.Background(), m))
}

func TestDirect(t *testing.T) { ocitest.RunAll(t, suite) }
