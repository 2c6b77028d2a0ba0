package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// fakePodman plays podman on macOS. Each call is noted; answers are what podman 5.2 prints, or what a test puts in their
// place. A container that it runs says hello and ends with exit code 7.
const fakePodman = `#!/bin/bash
cd "$(dirname "$0")"
echo "$*" >> calls
list() {
    case $(cat machine 2>/dev/null) in
    '') echo '[]' ;;
    *) echo '[{"Name":"podman-machine-default","Default":true,"Created":"2026-03-01T10:00:00.000000000+01:00","Running":'$(grep -q running machine && echo true || echo false)',"Starting":false,"LastUp":"2026-03-01T10:05:00+01:00","Stream":"default","VMType":"applehv","CPUs":4,"Memory":"2147483648","Swap":"0","DiskSize":"107374182400","Port":51234,"RemoteUsername":"core","IdentityPath":"/Users/me/.local/share/containers/podman/machine/machine","UserModeNetworking":true}]' ;;
    esac
}
say() { echo "$*" >&2; exit 125; }
[ ! -e trouble ] || . ./trouble
case "$*" in
--version) echo 'podman version 5.2.1' ;;
'machine list '*) list ;;
'machine init') echo stopped > machine; echo 'Looking up Podman Machine image at quay.io/podman/machine-os:5.2 to create VM'; echo 'Machine init complete' ;;
'machine start '*) [ -s machine ] || say 'Error: podman-machine-default: VM does not exist'
    echo running > machine; echo 'Starting machine "podman-machine-default"'; echo 'Machine "podman-machine-default" started successfully' ;;
'machine stop '*) echo stopped > machine; echo 'Machine "podman-machine-default" stopped successfully' ;;
'ps '*) cat containers 2>/dev/null ;;
*) grep -q running machine 2>/dev/null || say 'Cannot connect to Podman. Please verify your connection to the Linux system using ` + "`podman system connection list`" + `, or try ` + "`podman machine init` and `podman machine start`" + ` to manage a new Linux VM
Error: unable to connect to Podman socket: failed to connect: dial tcp 127.0.0.1:51234: connect: connection refused'
    case "$*" in
    'image inspect '*) [ -e image ] || say 'Error: python:3.12-slim: image not known'
        echo '[{"Id":"0e689221fdec16fa0d69b824446705211e5de686f489b5b66338083a4f62d8f0","Config":{"Env":["PATH=/usr/local/bin:/usr/bin","LANG=C.UTF-8"]}}]' ;;
    'pull '*) echo 'Trying to pull docker.io/library/python:3.12-slim...' >&2; echo 'Writing manifest to image destination' >&2; touch image; echo 0e689221fdec ;;
    *findme*|*' -c import sys; print(sys.executable'*) echo /usr/local/bin/python3; echo 3.12 ;;
    'run '*) printf 'h\0\0\0\0\0x\0\0\0\0\4\0\0\7\0'; exit 7 ;;
    'container inspect '*) echo '7 false' ;;
    'kill '*|'rm '*|'info '*) ;;
    *) say "Error: unrecognized command: $*" ;;
    esac ;;
esac
`

// A fake is a directory with fakePodman in it; its name has a space.
type fake struct {
	t   *testing.T
	dir string
}

func newFake(t *testing.T) fake {
	t.Helper()
	f := fake{t, filepath.Join(t.TempDir(), "with space")}
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f.write("podman", fakePodman)
	if err := os.Chmod(filepath.Join(f.dir, "podman"), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fake) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f fake) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(f.dir, name))
	return strings.TrimSpace(string(b))
}

// steps are the calls that have to do with the machine.
func (f fake) steps() (steps []string) {
	for line := range strings.Lines(f.read("calls")) {
		if step, ok := strings.CutPrefix(strings.TrimSpace(line), "machine "); ok {
			steps = append(steps, step)
		}
	}
	return steps
}

func (f fake) engine(idle time.Duration) *Engine {
	f.t.Setenv("HOME", f.dir)
	return NewEngine(EngineOptions{
		Options: host.Options{StateDir: filepath.Join(f.dir, "state"), Logger: slog.New(slog.DiscardHandler)},
		Kind:    Podman, Program: filepath.Join(f.dir, "podman"), System: "darwin", IdleTimeout: idle,
	})
}

// runOn runs one container of the default image.
func runOn(ctx context.Context, e *Engine) (oci.Exit, error) {
	image, err := e.Image(ctx, "python:3.12-slim", false, nil)
	if err != nil {
		return oci.Exit{}, err
	}
	return e.Run(ctx, oci.Container{
		ID: "one", Image: image.ID, Args: []string{image.Python, "-c", "pass"}, Env: image.Env,
		User: oci.User{UID: 65534, GID: 65534}, Limits: oci.Limits{Memory: 1 << 29, Pids: 64},
	}, oci.Streams{})
}

const listDefault = "list --format json"

// TestMachine: what there is is used, what is not is made, and what we have started is stopped, unless others use it.
func TestMachine(t *testing.T) {
	for name, tt := range map[string]struct {
		machine, containers string
		steps               []string
		left                string
	}{
		"none":                {"", "", []string{listDefault, "init", listDefault, "start podman-machine-default", "stop podman-machine-default"}, "stopped"},
		"stopped":             {"stopped", "", []string{listDefault, "start podman-machine-default", "stop podman-machine-default"}, "stopped"},
		"running":             {"running", "", []string{listDefault}, "running"},
		"others have come in": {"stopped", "4f5e0a", []string{listDefault, "start podman-machine-default"}, "running"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.write("machine", tt.machine)
			f.write("containers", tt.containers)
			e := f.engine(time.Hour)
			exit, err := runOn(t.Context(), e)
			if want := (oci.Exit{Code: 7, Limits: oci.ByCgroup}); err != nil || exit != want {
				t.Errorf("%+v, %v; want %+v", exit, err, want)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if got := f.steps(); !slices.Equal(got, tt.steps) {
				t.Errorf("steps %q, want %q", got, tt.steps)
			}
			if got := f.read("machine"); got != tt.left {
				t.Errorf("the machine is left %s, want %s", got, tt.left)
			}
			if _, err := os.Stat(filepath.Join(f.dir, "state")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the state directory is left: %v", err)
			}
			if calls := f.read("calls"); strings.Contains(calls, "rootful") {
				t.Errorf("a machine was made rootful: %s", calls)
			}
		})
	}
}

// TestMachineIdle: it is stopped some time after the last container, and started again for the next.
func TestMachineIdle(t *testing.T) {
	f := newFake(t)
	f.write("machine", "stopped")
	e := f.engine(10 * time.Millisecond)
	for range 2 {
		if _, err := runOn(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(time.Minute)
		for tick := time.NewTicker(5 * time.Millisecond); f.read("machine") != "stopped"; {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatal("it is not stopped")
			}
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestEngineTrouble: podman fails in every way that is known, and each time it is said which podman, what it printed, and
// what to do.
func TestEngineTrouble(t *testing.T) {
	const last = "podman version 5.2.1"
	for name, tt := range map[string]struct {
		machine, trouble string
		want             []string
	}{
		"machine out of disk":        {"", `case "$*" in "machine init") say "Error: write /Users/me/.local/share/containers/podman/machine/applehv/x.raw: no space left on device" ;; esac`, []string{last, "cannot make the podman machine", "no space left", "free some disk"}},
		"machine made by half":       {"", `case "$*" in "machine init") say "Error: machine \"podman-machine-default\" already exists on hypervisor: VM already exists" ;; esac`, []string{last, "made by half", "podman machine rm --force"}},
		"machine without its config": {"stopped", `case "$*" in "machine start"*) say "Error: unable to load machine config file: \"unexpected end of JSON input\"" ;; esac`, []string{last, "cannot start the podman machine", "made by half"}},
		"machine that dies":          {"stopped", `case "$*" in "machine start"*) say "Error: machine did not transition into running state: vfkit exited unexpectedly with exit code 1" ;; esac`, []string{last, "exited unexpectedly", "podman machine stop"}},
		"another machine is active":  {"stopped", `case "$*" in "machine start"*) say "Error: unable to start \"podman-machine-default\": machine other: only one VM can be active at a time" ;; esac`, []string{last, "stop the other machine"}},
		"helper is missing":          {"stopped", `case "$*" in "machine start"*) say "Error: could not find \"gvproxy\" in one of [/usr/local/opt/podman/libexec]" ;; esac`, []string{last, "gvproxy", "brew install podman"}},
		"machine is locked":          {"stopped", `case "$*" in "machine start"*) say "Error: the machine is locked by another process" ;; esac`, []string{last, "end the other podman"}},
		"no network to make one":     {"", `case "$*" in "machine init") say "Error: Get \"https://quay.io/v2/\": dial tcp: lookup quay.io: no such host" ;; esac`, []string{last, "check the network"}},
		"makes none":                 {"", `case "$*" in "machine init") exit 0 ;; esac`, []string{last, "lists none"}},
		"machines are no JSON":       {"", `case "$*" in "machine list"*) printf '\033[31mNAME   VM TYPE\n'; exit 0 ;; esac`, []string{last, "no JSON", "NAME"}},
		"a machine called --help":    {"", `case "$*" in "machine list"*) echo '[{"Name":"--help"}]'; exit 0 ;; esac`, []string{last, "--help"}},
		"a flood":                    {"running", `case "$*" in "image inspect"*) yes | head -c 3000000; exit 0 ;; esac`, []string{"more than 1048576 bytes"}},
		"too old for machines":       {"", `case "$*" in --version) echo "podman version 2.2.1"; exit 0 ;; "machine "*) say "Error: unrecognized command ` + "`podman machine`" + `" ;; esac`, []string{"podman version 2.2.1", "install podman 4.3"}},
		"too old":                    {"running", `touch image; case "$*" in --version) echo "podman version 3.4.4"; exit 0 ;; "run --interactive"*) say "Error: unknown flag: --unsetenv-all" ;; esac`, []string{"podman version 3.4.4 is too old", "--unsetenv-all", "install podman 4.3"}},
		"storage is locked":          {"running", `touch image; case "$*" in "run --interactive"*) say "Error: database is locked" ;; esac`, []string{last + " has its storage locked", "podman system renumber"}},
		"disk full in the machine":   {"running", `touch image; case "$*" in "run --interactive"*) say "Error: writing blob: no space left on device" ;; esac`, []string{last + " is out of disk", "podman system prune"}},
		"does not see the state":     {"running", `touch image; case "$*" in "run --interactive"*) say "Error: opening seccomp profile failed: open /x/seccomp.json: no such file or directory" ;; esac`, []string{"does not see the state directory", "MCP_BRIDGE_STATE_DIR"}},
		"ends without a word":        {"running", `touch image; case "$*" in "run --interactive"*) exit 0 ;; esac`, []string{last, "without a word", "it printed last: nothing"}},
		"garbage for a container":    {"running", `touch image; case "$*" in "run --interactive"*) head -c 100000 /dev/urandom | tr hex i; exit 0 ;; esac`, []string{last, "begins in the wrong place"}},
		"ends behind its hello":      {"running", `touch image; case "$*" in "run --interactive"*) printf 'h\0\0\0\0\0'; kill -9 $$ ;; "container inspect"*) say "Error: no such container" ;; esac`, []string{last, "lost its container"}},
		"no such image":              {"running", `case "$*" in "pull "*) say "Error: initializing source docker://python:3.12-slim: reading manifest 3.12-slim: manifest unknown" ;; esac`, []string{"cannot pull image python:3.12-slim", "manifest unknown"}},
		"image without Python":       {"running", `touch image; case "$*" in *"-c import sys"*) say "Error: crun: executable file python3 not found in PATH" ;; esac`, []string{"python3 not found"}},
		"old Python":                 {"running", `touch image; case "$*" in *"-c import sys"*) echo /usr/bin/python3; echo 3.6; exit 0 ;; esac`, []string{"3.9 is the oldest"}},
		"Python that lies":           {"running", `touch image; case "$*" in *"-c import sys"*) echo "python3; rm -rf /"; exit 0 ;; esac`, []string{"does not say where it is"}},
		"image with a forged id":     {"running", `touch image; case "$*" in "image inspect"*) echo '[{"Id":"--privileged"}]'; exit 0 ;; esac`, []string{"an id that is none"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.write("machine", tt.machine)
			f.write("trouble", tt.trouble)
			e := f.engine(0)
			_, err := runOn(t.Context(), e)
			if err == nil {
				t.Fatal("it worked")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %q in it", err, want)
				}
			}
			if len(err.Error()) > 1500 || strings.ContainsRune(err.Error(), '\033') {
				t.Errorf("%d bytes, or controls, of error: %.200q", len(err.Error()), err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEngineHang: what hangs is ended with the caller's patience, and its words are kept.
func TestEngineHang(t *testing.T) {
	for name, trouble := range map[string]string{
		"listing":   `case "$*" in "machine list"*) sleep 1000 ;; esac`,
		"starting":  `case "$*" in "machine start"*) echo stopped > machine; touch hanging; sleep 1000 ;; esac`,
		"running":   `touch image; case "$*" in "run --interactive"*) exec sleep 1000 ;; esac`,
		"a machine": `case "$*" in "image inspect"*) sleep 1000 ;; esac`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.write("machine", "stopped")
			f.write("trouble", trouble)
			e := f.engine(0)
			cause := errors.New("the caller's patience is at its end")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
			defer cancel()
			if name == "running" {
				defer func(d time.Duration) { engineKill = d }(engineKill)
				engineKill = 100 * time.Millisecond
			}
			if _, err := runOn(ctx, e); !errors.Is(err, cause) {
				t.Errorf("%v\nwant the cause", err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMissingPodman: there is none.
func TestMissingPodman(t *testing.T) {
	f := newFake(t)
	if err := os.Remove(filepath.Join(f.dir, "podman")); err != nil {
		t.Fatal(err)
	}
	_, err := runOn(t.Context(), f.engine(0))
	var missing *oci.HostError
	if !errors.As(err, &missing) || !strings.Contains(missing.Fix, "install podman") {
		t.Errorf("%v\nwant a HostError that says to install it", err)
	}
}

// TestSharedState: a machine sees a user's home, and not everything.
func TestSharedState(t *testing.T) {
	for dir, ok := range map[string]bool{
		"/Users/me/x": true, "/opt/home/x y": true, "/private/tmp/x": true, "/tmp/x": false, "/opt/home2": false, "/Volumes/disk": false,
	} {
		if err := shared(dir, "/opt/home"); (err == nil) != ok {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestEngineDiagnose starts nothing.
func TestEngineDiagnose(t *testing.T) {
	for machine, want := range map[string]string{"": "there is none", "stopped": "is stopped; a run starts it", "running": "is running"} {
		f := newFake(t)
		f.write("machine", machine)
		checks := f.engine(0).Diagnose(t.Context())
		if len(checks) < 2 || checks[1].Step != "machine" || !strings.Contains(checks[1].Detail, want) {
			t.Errorf("machine %q: %+v", machine, checks)
		}
		if got := f.steps(); !slices.Equal(got, []string{listDefault}) {
			t.Errorf("machine %q: steps %q", machine, got)
		}
	}
}
