//go:build linux && cgo

package cli

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// suiteOf is the suite of a runtime, whose tests are within one of the package's.
func suiteOf(program, within string) ocitest.HostSuite {
	s := ocitest.OnHost(program, func(o host.Options) host.Launcher { return NewRuntime(program, o) })
	s.Within = within
	return s
}

var crun, runc = suiteOf("crun", "TestCrun"), suiteOf("runc", "TestRunc")

func TestMain(m *testing.M) { os.Exit(ocitest.Main(context.Background(), m, crun.Suite, runc.Suite)) }

// has skips a test of a runtime that is not there.
func has(t *testing.T, program string) {
	t.Helper()
	if _, err := lookPath(program); err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("this has to run on CI: %v", err)
		}
		t.Skipf("%s: %v", program, err)
	}
}

func TestCrun(t *testing.T) {
	has(t, "crun")
	ocitest.RunAll(t, crun)
}

func TestRunc(t *testing.T) {
	has(t, "runc")
	ocitest.RunAll(t, runc)
}

var _ = exec.Command
