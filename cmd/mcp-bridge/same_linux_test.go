package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// sameLaunchers are those that are compared with the first: what MCP_BRIDGE_RUNTIME is, and the program that it needs, if
// any.
var sameLaunchers = []struct{ runtime, program string }{
	{"direct", ""}, {"libcontainer", ""}, {"crun", "crun"}, {"runc", "runc"}, {"podman", "podman"},
}

// sameScripts are more than ten that do what scripts do, and end as they end. None asks for numbers of inodes, which podman has
// no words for, or whether the own group is named twice (see docs/runtimes.md).
var sameScripts = []struct {
	name, code, status string
	more               []string // environment
}{
	{"print", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('out again')", "success", nil},
	{"value", "x = {'a': [1, 2.5, None], 'ü': 'ß' * 10}\nx", "success", nil},
	{"exception", "def f(n): return 1 / n\nprint('before')\nf(0)", "error", nil},
	{"exit code", "import sys\nprint('bye')\nsys.exit(3)", "error", nil},
	{"end of input", "try:\n    input('name? ')\nexcept EOFError as e:\n    print(repr(e))", "success", nil},
	{"child", "import os, subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import os; print(os.getuid(), os.getgid(), set(os.getgroups()) - {os.getgid()}); raise SystemExit(7)'], capture_output=True, text=True))\nif os.fork() == 0:\n    print('from a fork', flush=True)\n    os._exit(0)\nos.wait()[1]", "success", nil},
	{"files", `
import os
for d in '/tmp', '/workspace', '/dev/shm':
    with open(d + '/f', 'w') as f: f.write('x' * 1000)
    print(d, os.listdir(d), os.stat(d + '/f').st_size, os.statvfs(d).f_blocks)
for p in '/x', '/etc/x', '/usr/x', '/proc/sys/kernel/hostname':
    try: open(p, 'w')
    except OSError as e: print(p, type(e).__name__)
print(os.getcwd(), os.uname().nodename, sorted(os.environ))`, "success", nil},
	{"no network", `
import socket
for address in ('1.1.1.1', 53), ('127.0.0.1', 22):
    try: socket.create_connection(address, 5)
    except OSError as e: print(address, e)
try: socket.getaddrinfo('example.org', 80)
except OSError as e: print(type(e).__name__)
try: print(socket.if_nameindex())
except OSError as e: print(e)`, "success", nil},
	{"segmentation fault", "import os\nprint('last words', flush=True)\nos.kill(os.getpid(), 11)", "error", nil},
	{"os._exit", "import os\nprint('last words', flush=True)\nos._exit(9)", "error", nil},
	{"syntax", "def", "error", nil},
	{"await", "import asyncio\nawait asyncio.sleep(0)\n'awaited'", "success", nil},
	{"much", "print('x' * 1000000)", "success", nil},
	{"orphan", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\nprint('done')", "success", nil},
	{"timeout", "import time\nprint('waiting', flush=True)\ntime.sleep(1000)", "timeout", []string{"MCP_BRIDGE_TIMEOUT=1"}},
	{"out of memory", "print('eating', flush=True)\nkept = []\nwhile True: kept.append(b'x' * (8 << 20))", "oom", []string{"MCP_BRIDGE_MEMORY=96m"}},
}

// TestSameOnEveryLauncher: a script and whoever reads its result cannot tell what has run it.
func TestSameOnEveryLauncher(t *testing.T) {
	needCgroup(t) // and not beside other tests, which would take podman's mounts for something that they have left
	answers := make([]map[string]string, len(sameLaunchers))
	var group sync.WaitGroup
	for i, l := range sameLaunchers {
		if _, err := exec.LookPath(l.program); l.program != "" && err != nil {
			skipOrFail(t, err.Error())
		}
		answers[i] = make(map[string]string)
		group.Go(func() {
			for _, s := range sameScripts {
				state := filepath.Join(t.TempDir(), "state with space")
				env := append(environment(state, s.more...), config.EnvRuntime+"="+l.runtime)
				cmd := bridgeCommand(t, env, "run", "--format", "json", "-c", s.code)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				code := 0
				err := cmd.Run()
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					code, err = exit.ExitCode(), nil
				}
				var r result
				if err != nil || json.Unmarshal(stdout.Bytes(), &r) != nil || r.Status != s.status {
					t.Errorf("%s with %s: %v\n%s\n%s", s.name, l.runtime, err, stdout.String(), stderr.String())
				}
				if exists(state) {
					t.Errorf("%s with %s: the state directory is left", s.name, l.runtime)
				}
				out := stdout.String()
				if i > 0 { // who is not the usual one says so, and that is all that may differ
					said := fmt.Sprintf(`,"runtime":%q`, l.runtime)
					if !strings.Contains(out, said) {
						t.Errorf("%s with %s: the result does not say what ran it: %s", s.name, l.runtime, out)
					}
					out = strings.Replace(out, said, "", 1)
				}
				answers[i][s.name] = fmt.Sprintf("exit code %d\n%s\n%s", code, out, stderr.String())
			}
		})
	}
	group.Wait()
	for _, s := range sameScripts {
		for i, l := range sameLaunchers[1:] {
			if diff := cmp.Diff(lines(answers[0][s.name]), lines(answers[i+1][s.name])); diff != "" {
				t.Errorf("%s: %s (-) and %s (+) are not the same:\n%s", s.name, sameLaunchers[0].runtime, l.runtime, diff)
			}
		}
	}
}

func lines(s string) []string { return strings.Split(s, "\n") }
