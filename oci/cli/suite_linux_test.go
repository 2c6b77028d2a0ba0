//go:build linux && cgo

package cli

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// suiteOf is the suite of a runtime.
func suiteOf(program string, except map[string]string) ocitest.HostSuite {
	s := ocitest.OnHost(program, func(o host.Options) host.Launcher { return NewRuntime(program, o) })
	s.Except = except
	// What differs between users is the runtime's part; the rest is tested with the launchers that have nothing else.
	s.UserTests = []string{
		"Effects", "EffectsOnFiles", "Descriptors", "Exit", "CommandThatCannotRun", "Cancel", "Orphans", "MemoryLimit", "PidsLimit", "OtherUser",
		"KilledBridge", "WeakLimitsMustBeAllowed", "NoLimits", "BlindedPid1",
	}
	if os.Geteuid() != 0 {
		// Root has a mount namespace made, and the runtime started in it.
		s.Except["Effects/who/host_paths_in_mountinfo"] = "a user cannot cover the image before a runtime starts, so the guest can read where it is"
	}
	return s
}

var crun, runc = suiteOf("crun", crunExceptions()), suiteOf("runc", map[string]string{
	"EffectsOnFiles/owner_and_mode_of_/tmp_and_/workspace": "runc before 1.2 gives a tmpfs the mode of the image's directory; there is but one user to enter it",
})

func crunExceptions() map[string]string {
	var fs unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup/unified", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		why := "crun refuses this host to users, because it has cgroups of both versions"
		return map[string]string{"AsUser": why, "HelpersWithoutEffect": why}
	}
	return map[string]string{}
}

func TestMain(m *testing.M) {
	os.Exit(ocitest.Main(context.Background(), m, crun.Suite, runc.Suite, podman))
}

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
