//go:build linux && cgo

package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// fake makes a runtime of a shell script, which finds its directory in $dir and the real runtime in $real. Its words for run and
// delete are given; what it says of its version is that of runc, if there is nothing else.
func fakeRuntime(t *testing.T, version, run, remove string) (path string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a directory with spaces")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	real, _ := lookPath("runc")
	if version == "" {
		version = "echo runc version 1.1.5+ds1"
	}
	script := "#!/bin/sh\ndir='" + dir + "' real=" + real + "\ncase \"$*\" in\n--version)\n" + version + "\n;;\n*' run '*)\n" + run + "\n;;\n*' delete '*)\n" + remove + "\n;;\nesac\n"
	path = filepath.Join(dir, "runc")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// runFake runs a container with a program, and sees to it that nothing is left of it.
func runFake(t *testing.T, ctx context.Context, program string, patience time.Duration, s oci.Streams) (oci.Exit, error) {
	t.Helper()
	stateDir := filepath.Join(t.TempDir(), "state")
	l := NewRuntime(program, host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
	if patience > 0 {
		l.patience = patience
	}
	exit, err := l.Run(ctx, ocitest.Python("print('it runs')"), s)
	if left := ocitest.Left(t); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if cerr := l.Close(); cerr != nil {
		t.Error(cerr)
	}
	if _, serr := os.Lstat(stateDir); !errors.Is(serr, os.ErrNotExist) {
		t.Errorf("the state directory is left: %v", serr)
	}
	return exit, err
}

const (
	start    = `"$real" "$@"` // as the real one does
	noRemove = "exit 0"
)

// TestRuntimeThatFails: whatever a runtime does instead of its work, the error names it, says what it printed last, and
// what to do if there is something; and nothing is left of it.
func TestRuntimeThatFails(t *testing.T) {
	const soon = time.Second // for what hangs; everything else may take as long as it does
	for name, tt := range map[string]struct {
		version, run, remove string
		patience             time.Duration
		real                 bool // it needs the real one
		want                 []string
		fix                  string // of a HostError; else it is a StartError
	}{
		"cannot say its version": {
			version: "echo it is broken >&2; exit 3", want: []string{"--version", "exit status 3; it printed last: it is broken"}, fix: "unset MCP_BRIDGE_RUNTIME",
		},
		"says nothing at all":         {version: "exit 1", want: []string{"printed last: nothing"}, fix: "unset MCP_BRIDGE_RUNTIME"},
		"hangs when asked who it is":  {version: "sleep 1000", patience: soon, want: []string{"does not end"}, fix: "unset MCP_BRIDGE_RUNTIME"},
		"no script for this machine":  {version: "exec /etc/passwd", want: []string{"exit status 126"}, fix: "unset MCP_BRIDGE_RUNTIME"},
		"too old":                     {version: "echo runc version 1.0.0-rc8", run: "echo unknown flag >&2; exit 1", want: []string{"runc 1.0.0-rc8", "unknown flag"}, fix: "install runc 1.1 or later"},
		"garbage for a version":       {version: "head -c 100000 /dev/urandom", run: "echo no >&2; exit 1", want: []string{"exit status 1; it printed last: no"}},
		"goes away after it was seen": {version: `echo runc version 1.1.5; rm "$0"`, want: []string{"cannot execute the runtime", "no such file"}},
		"fails": {
			run:  `printf 'time="2026-01-01T00:00:00Z" level=error msg="runc run failed: \\"proc\\" says no"\n' >&2; exit 1`,
			want: []string{"runc 1.1.5+ds1", "exit status 1", `runc run failed: "proc" says no`},
		},
		"prints and prints":      {run: "head -c 50000000 /dev/zero | tr '\\0' 'x'; echo; echo the last words; exit 1", want: []string{"the last words"}},
		"prints what is no text": {run: `printf '\033[2J\0\377 red\n'; exit 1`, want: []string{"[2J   red"}},
		"is killed":              {run: "kill -9 $$", want: []string{"signal 9"}},
		"does nothing":           {run: "exit 0", want: []string{"which is not there"}},
		"hangs":                  {run: "echo waiting for the moon; sleep 1000 & echo $! >\"$dir/child\"; wait", patience: soon, want: []string{"does not end; it printed last: waiting for the moon"}, fix: "unset MCP_BRIDGE_RUNTIME"},
		"leaves a daemon":        {run: "setsid sleep 1000 & echo $! >\"$dir/child\"; exit 1", want: []string{"exit status 1"}},
		"fails when all is done": {real: true, run: start + "; echo too late >&2; exit 1", want: []string{"exit status 1; it printed last: too late"}},
		"hangs when all is done": {real: true, run: start + "; sleep 1000", patience: soon, want: []string{"does not end"}, fix: "unset MCP_BRIDGE_RUNTIME"},
		"tells no process id":    {real: true, run: start + `; rm "$(dirname "$2")/pid"`, want: []string{"no process id"}},
		"tells nonsense":         {real: true, run: start + `; echo nonsense >"$(dirname "$2")/pid"`, want: []string{`"nonsense\n" for a process id`}},
		"tells somebody else's":  {real: true, run: start + `; echo $$ >"$(dirname "$2")/pid"`, want: []string{"which is not a container's"}},
		"tells the first one's":  {real: true, run: start + `; echo 1 >"$(dirname "$2")/pid"`, want: []string{"for a process id"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.real {
				has(t, "runc")
			}
			if tt.remove == "" {
				tt.remove = noRemove
			}
			program := fakeRuntime(t, tt.version, tt.run, tt.remove)
			exit, err := runFake(t, t.Context(), program, tt.patience, oci.Streams{})
			var missing *oci.HostError
			var failed *oci.StartError
			isHost, isStart := errors.As(err, &missing), errors.As(err, &failed)
			if err == nil || isHost != (tt.fix != "") || isStart == isHost || exit.Code != 0 {
				t.Fatalf("%+v, %v", exit, err)
			}
			for _, part := range append(tt.want, program) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v\nwant it to say %q", err, part)
				}
			}
			if isHost && !strings.Contains(missing.Fix, tt.fix) {
				t.Errorf("%v\nwant the fix %q", err, tt.fix)
			}
			if len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("not fit to be shown: %q", err)
			}
			if b, err := os.ReadFile(filepath.Join(filepath.Dir(program), "child")); err == nil {
				pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
				if err != nil || unix.Kill(pid, 0) == nil {
					t.Errorf("process %d of the runtime is left, %v", pid, err)
				}
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		for _, program := range []string{"no-such-runtime", "/no/such/runtime", "/etc/passwd", "/etc"} {
			var missing *oci.HostError
			if _, err := runFake(t, t.Context(), program, 0, oci.Streams{}); !errors.As(err, &missing) || !strings.Contains(err.Error(), program) || !strings.Contains(missing.Fix, "install") {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestRuntimeThatDoesNotDelete: the container has run, and what the runtime does not remove is removed nevertheless.
func TestRuntimeThatDoesNotDelete(t *testing.T) {
	has(t, "runc")
	for name, tt := range map[string]struct {
		remove   string
		patience time.Duration
	}{"fails": {"exit 1", 0}, "hangs": {"sleep 1000", 3 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			if exit, err := runFake(t, t.Context(), fakeRuntime(t, "", start, tt.remove), tt.patience, oci.Streams{}); err != nil || exit.Code != 0 {
				t.Errorf("%+v, %v", exit, err)
			}
		})
	}
}

// TestCancelOfARuntimeThatHangs: it is not waited for.
func TestCancelOfARuntimeThatHangs(t *testing.T) {
	for name, script := range map[string][2]string{"version": {"sleep 1000", ""}, "run": {"", "sleep 1000"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("changed my mind"))
			defer cancel()
			_, err := runFake(t, ctx, fakeRuntime(t, script[0], script[1], noRemove), time.Hour, oci.Streams{})
			if err == nil || err.Error() != "changed my mind" {
				t.Errorf("%v, want the cause of the cancellation", err)
			}
		})
	}
}

// TestFindProgram: who a program is, is what it says.
func TestFindProgram(t *testing.T) {
	for says, want := range map[string][2]string{
		"crun version 1.8.1\ncommit: f8a0": {"crun", "1.8.1"}, "runc version 1.1.5+ds1": {"runc", "1.1.5+ds1"},
		"runsc version release-20240101.0": {"runsc", "release-20240101.0"}, "youki version: 0.5.0": {"youki", "0.5.0"},
		"something version 9": {"runc", "9"}, "hello": {"runc", ""},
	} {
		p, err := findProgram(t.Context(), fakeRuntime(t, "printf '"+says+"'", "", ""), time.Minute)
		if err != nil || p.kind != want[0] || p.version != want[1] {
			t.Errorf("%q: %+v, %v", says, p, err)
		}
	}
	for version, want := range map[string]bool{"1.0.9": true, "1.1": false, "1.1.0-rc.1": false, "1.10": false, "2": false, "v1.0": true, "": false} {
		if _, old := (program{kind: "runc", version: version}).old(); old != want {
			t.Errorf("version %q: old is %v", version, old)
		}
	}
	if _, old := (program{kind: "youki", version: "0.1"}).old(); old {
		t.Error("nothing is known of youki's versions")
	}
}
