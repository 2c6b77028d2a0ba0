//go:build linux && cgo

package libct_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

var suite = ocitest.OnHost("libcontainer", func(o host.Options) host.Launcher { return libct.New(o) })

func TestMain(m *testing.M) {
	libct.Init()
	if err := libct.Seal(); err != nil { // so that starts are as in the product
		fmt.Fprintln(os.Stderr, "cannot seal the test binary:", err)
		os.Exit(1)
	}
	// What differs between users; hack/test-vm runs all of them as users.
	suite.UserTests = []string{
		"Effects", "EffectsOnFiles", "Descriptors", "Exit", "CommandThatCannotRun", "Cancel", "Orphans", "MemoryLimit", "PidsLimit", "OtherUser",
		"KilledBridge", "WeakLimitsMustBeAllowed", "NoLimits", "BlindedPid1", "NestedInstead", "HelpersWithoutEffect", "DeniedSteps",
	}
	os.Exit(suite.Main(context.Background(), m))
}

func TestLibcontainer(t *testing.T) { ocitest.RunAll(t, suite) }
