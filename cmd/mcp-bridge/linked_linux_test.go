package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// TestLinkedByGo: Go's own linker leaves out what C has to do before main, and libcontainer's init would take the host for its
// container.
func TestLinkedByGo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: the host's mounts are safe from it")
	}
	program := filepath.Join(t.TempDir(), "mcp-bridge")
	build := exec.Command(repoPath("hack/go"), "build", "-buildvcs=false", "-ldflags", "-linkmode=internal", "-o", program, "./cmd/mcp-bridge")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	run := exec.Command("/bin/sh", "-c", `
mounts() { wc -l </proc/self/mountinfo; }
before=$(mounts)
"$0" run -c pass
echo "exit code $?, $(($(mounts) - before)) mounts"`, program)
	run.Env = environment(filepath.Join(t.TempDir(), "state"), config.EnvRuntime+"=libcontainer")
	run.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := run.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\nexit code 125, 0 mounts\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
