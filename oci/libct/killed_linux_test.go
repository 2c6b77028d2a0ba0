//go:build linux && cgo

package libct_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// TestKilledStart: of a start whose processes are killed, nobody has to be waited for any more.
func TestKilledStart(t *testing.T) {
	l := libct.New(host.Options{StateDir: filepath.Join(t.TempDir(), "state"), AllowWeakLimits: os.Geteuid() != 0})
	defer l.Close()
	before, failed := ocitest.Children(t), 0
	for range 20 {
		ended := make(chan error, 1)
		go func() {
			_, err := l.Run(t.Context(), ocitest.Python("pass"), oci.Streams{})
			ended <- err
		}()
		running := true
		for killed := false; running && !killed; {
			select {
			case err := <-ended:
				t.Logf("too late: %v", err)
				running = false
			default:
				killed = killChild(t)
			}
		}
		if running && <-ended != nil {
			failed++
		}
	}
	if after := ocitest.Children(t); after != before || failed == 0 {
		t.Errorf("%d children are left of %d starts that failed", after-before, failed)
	}
}

// killChild kills a child that is no longer this program before its exec, of which libcontainer knows nothing yet.
func killChild(t *testing.T) bool {
	own, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, child := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(child)
			line, err := os.ReadFile("/proc/" + child + "/cmdline")
			if err == nil && len(line) > 0 && !bytes.Equal(line, own) && syscall.Kill(pid, syscall.SIGKILL) == nil {
				return true
			}
		}
	}
	return false
}
