package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// TestPodmanScripts: with podman the same scripts come to the same, and it says so.
func TestPodmanScripts(t *testing.T) {
	needSandbox(t)
	if _, err := exec.LookPath("podman"); err != nil {
		skipOrFail(t, err.Error())
	}
	if os.Geteuid() != 0 {
		t.Skip("as root only; as a user oci/cli has its tests")
	}
	for name, code := range map[string]string{
		"value":      "6 * 7",
		"output":     "import sys\nprint('out')\nprint('err', file=sys.stderr)",
		"child":      "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'echo child; exit 3']).returncode",
		"exit code":  "raise SystemExit(5)",
		"exception":  "1 / 0",
		"syntax":     "def",
		"crash":      "import os; print('last words', flush=True); os.kill(os.getpid(), 11)",
		"os._exit":   "import os; print('last words', flush=True); os._exit(9)",
		"input":      "try: input()\nexcept EOFError: print('no input')",
		"who":        "import os; os.getuid(), os.getcwd(), sorted(os.environ)",
		"large":      "print('x' * 1000000)",
		"orphan":     "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\nprint('done')",
		"await":      "import asyncio\nawait asyncio.sleep(0)\n'awaited'",
		"no network": "import socket\ntry: socket.create_connection(('1.1.1.1', 53))\nexcept OSError: print('none')",
	} {
		t.Run(name, func(t *testing.T) {
			var results []map[string]any
			for _, runtime := range []string{"direct", "podman"} {
				state := filepath.Join(t.TempDir(), "state with space")
				cmd := bridgeCommand(t, environment(state, config.EnvRuntime+"="+runtime), "run", "--format", "json", "-c", code)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				_ = cmd.Run() // the exit code is in the result
				var r map[string]any
				if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
					t.Fatalf("%v: %s%s", err, &stdout, &stderr)
				}
				if ran, _ := r["runtime"].(string); ran != map[string]string{"podman": "podman"}[runtime] {
					t.Errorf("with %s it says that %q has run it", runtime, ran)
				}
				delete(r, "runtime")
				results = append(results, r)
				if exists(state) {
					t.Errorf("the state directory of %s is left", runtime)
				}
			}
			if diff := cmp.Diff(results[0], results[1]); diff != "" {
				t.Errorf("(-direct +podman)\n%s", diff)
			}
		})
	}
}
