package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// What a victim is told: its state directory, and the daemon's image if it is docker's.
const (
	victimEnv      = "CLI_TEST_VICTIM"
	victimImageEnv = "CLI_TEST_VICTIM_IMAGE"
)

// engineOf is docker's if there is an image of its daemon's, else podman's.
func engineOf(t testing.TB, stateDir, image string) ocitest.Launcher {
	t.Helper()
	if image == "" {
		return newPodman(t, stateDir)
	}
	return dockerLauncher{NewEngine(EngineOptions{Options: host.Options{StateDir: stateDir}, Kind: Docker}), image}
}

// TestEngineVictim is a bridge that is killed, in a process of its own.
func TestEngineVictim(t *testing.T) {
	dir := os.Getenv(victimEnv)
	if dir == "" {
		t.Skip("killBridge starts it")
	}
	_, err := engineOf(t, dir, os.Getenv(victimImageEnv)).Run(
		t.Context(), ocitest.Python("import time\nprint('ready', flush=True)\ntime.sleep(3600)"), oci.Streams{Stdout: os.Stdout})
	t.Fatalf("not killed: %v", err)
}

func TestEngineKilledBridge(t *testing.T) {
	needs(t, "podman")
	killBridge(t, Podman, "")
}

// killBridge: with the bridge goes the container, of which docker keeps the record until the next start; and one that does not,
// because its pid 1 is stopped, goes with the next start.
func killBridge(t *testing.T, kind EngineKind, image string) {
	for name, stopped := range map[string]bool{"lifeline": false, "sweep": true} {
		t.Run(name, func(t *testing.T) {
			stateDir := filepath.Join(t.TempDir(), "state")
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestEngineVictim$")
			cmd.Env = append(os.Environ(), victimEnv+"="+stateDir, victimImageEnv+"="+image, "GOCOVERDIR=")
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("the bridge to be killed says %q, %v", line, err)
			}
			locks, err := filepath.Glob(filepath.Join(stateDir, string(kind), "*", "lock"))
			if err != nil || len(locks) != 1 {
				t.Fatalf("%v %v", locks, err)
			}
			owner := filepath.Base(filepath.Dir(locks[0]))
			left := func() []string { return engineContainersOf(t, kind, owner) }
			var first int
			if out, err := exec.Command(string(kind), "inspect", "--format", "{{.State.Pid}}", left()[0]).Output(); err != nil {
				t.Fatal(err)
			} else if _, err := fmt.Sscan(string(out), &first); err != nil {
				t.Fatal(err)
			}
			if stopped {
				if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if !stopped {
				for deadline := time.Now().Add(20 * time.Second); syscall.Kill(first, 0) == nil || kind == Podman && len(left()) > 0; {
					if time.Now().After(deadline) {
						t.Fatalf("left: %q", left())
					}
				}
			} else if len(left()) == 0 {
				t.Fatal("nothing is left, so this tests nothing")
			}
			e := engineOf(t, stateDir, image)
			if exit, err := e.Run(t.Context(), ocitest.Python("pass"), oci.Streams{}); err != nil || exit.Code != 0 {
				t.Errorf("%+v, %v", exit, err)
			}
			if left := left(); len(left) > 0 {
				t.Errorf("the next start has left %q", left)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(stateDir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the state directory is left: %v", err)
			}
		})
	}
}
