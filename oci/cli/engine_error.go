package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// lastWords keeps the end of what a client prints, and tells each line.
type lastWords struct {
	say func(line string)

	mu   sync.Mutex
	text []byte
	line []byte
}

func (w *lastWords) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, b...)
	if n := len(w.text) - maxEngineWords; n > 0 {
		w.text = append(w.text[:0], w.text[n:]...)
	}
	if w.say == nil {
		return len(b), nil
	}
	for _, c := range b {
		switch {
		case c != '\n' && c != '\r':
			if len(w.line) < 200 {
				w.line = append(w.line, c)
			}
		case len(w.line) > 0:
			w.say(printableLine(string(w.line)))
			w.line = w.line[:0]
		}
	}
	return len(b), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// boundedWords keeps the beginning of what a client answers.
type boundedWords struct {
	text []byte
	over bool
}

func (w *boundedWords) Write(b []byte) (int, error) {
	if len(w.text)+len(b) > maxEngineOutput {
		w.over = true
	} else {
		w.text = append(w.text, b...)
	}
	return len(b), nil
}

// engineError is a client's failure.
type engineError struct {
	what  string
	err   error
	words string
}

func (e *engineError) Error() string {
	return fmt.Sprintf("%s: %v; it printed last: %s", e.what, e.err, lastLines(e.words))
}
func (e *engineError) Unwrap() error { return e.err }

// cannotStart is for a client that could not be started at all.
func (e *Engine) cannotStart(err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &oci.HostError{
			Missing: fmt.Sprintf("%s cannot be started: %v", e.opts.Kind, err),
			Fix:     fmt.Sprintf("install %s, or have MCP_BRIDGE_RUNTIME name another runtime", e.opts.Kind),
		}
	}
	return &oci.StartError{Step: string(e.opts.Kind), Err: err}
}

// version is what the client calls itself, which is asked for when something has gone wrong.
func (e *Engine) version(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := e.output(ctx, "--version")
	if err != nil {
		return string(e.opts.Kind) + " (which does not say its version)"
	}
	if line := printableLine(out); line != "" && len(line) < 100 {
		return line
	}
	return string(e.opts.Kind)
}

// failed names the engine, its version and its last words.
func (e *Engine) failed(ctx context.Context, err error, words string) error {
	return &oci.StartError{Step: e.version(ctx), Err: fmt.Errorf("%w; it printed last: %s", err, lastLines(words))}
}

const (
	oldFix    = "install podman 4.3, docker 24 or newer"
	lockedFix = "end the other podman that holds it (fuser -v ~/.local/share/containers), then: podman system renumber"
	idsFix    = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER && podman system migrate"
)

// engineTroubles are what clients are known to print when the host is to blame, and what mends it. The first that fits
// counts.
var engineTroubles = []struct {
	words []string // all of them, in lower case
	what  string
	fix   string
}{
	{[]string{"unknown flag"}, "is too old", oldFix},
	{[]string{"unknown shorthand flag"}, "is too old", oldFix},
	{[]string{"cannot connect to the docker daemon"}, "has no daemon to talk to", "start it (sudo systemctl start docker; on macOS: Docker Desktop, colima or OrbStack), or set DOCKER_HOST"},
	{[]string{"permission denied", "docker.sock"}, "may not talk to its daemon", "sudo usermod -aG docker $USER, and log in again"},
	{[]string{"cannot connect to podman"}, "has no service to talk to", "podman machine start"},
	{[]string{"no space left on device"}, "is out of disk", "free some space: podman system prune (docker system prune); of a machine: podman machine set --disk-size 100"},
	{[]string{"database is locked"}, "has its storage locked", lockedFix},
	{[]string{"acquiring lock", "timed out"}, "has its storage locked", lockedFix},
	{[]string{"error acquiring lock"}, "has its storage locked", lockedFix},
	{[]string{"storage", "resource temporarily unavailable"}, "has its storage locked", lockedFix},
	{[]string{"hybrid mode not supported"}, "has crun for its runtime, which refuses this host's cgroups", "install runc, or boot with systemd.unified_cgroup_hierarchy=1"},
	{[]string{"no subuid ranges found"}, "has no ids for this user's containers", idsFix},
	{[]string{"not enough ids"}, "has too few ids for this user's containers", idsFix},
	{[]string{"newuidmap"}, "cannot map the ids of this user's containers", "install uidmap (newuidmap, newgidmap) and give the user a line in /etc/subuid and /etc/subgid"},
	{[]string{"file name too long", "scmp_act"}, "talks to podman, which takes docker's filter for the name of a file", "set MCP_BRIDGE_RUNTIME=podman"},
	{[]string{"opening seccomp profile failed"}, "does not see the state directory", "set MCP_BRIDGE_STATE_DIR to a directory below your home, which a podman machine shares"},
	{[]string{"error mounting", "permission denied"}, "cannot make its mounts in this image", "an older mcp-bridge has cached it: mcp-bridge prune --all, and run it again"},
	{[]string{"controller", "not available"}, "has no cgroup controller for a limit", "have it delegated: mcp-bridge doctor says how"},
}

// trouble is a HostError if the words are of a known kind.
func (e *Engine) trouble(ctx context.Context, words string) error {
	lower := strings.ToLower(words)
	for _, t := range engineTroubles {
		fits := true
		for _, w := range t.words {
			fits = fits && strings.Contains(lower, w)
		}
		if fits {
			return &oci.HostError{Missing: fmt.Sprintf("%s %s; it printed last: %s", e.version(ctx), t.what, lastLines(words)), Fix: t.fix}
		}
	}
	return nil
}

// explain says why a container did not come to run its command.
func (e *Engine) explain(ctx context.Context, c oci.Container, err error, words string) error {
	if err == nil {
		err = errors.New("it ended without a word of the container")
	}
	lower := strings.ToLower(words)
	if strings.Contains(words, c.Args[0]) {
		for _, t := range []struct {
			words string
			cause error
		}{
			{"not a directory", syscall.ENOTDIR},
			{"is a directory", fs.ErrPermission},
			{"permission denied", fs.ErrPermission},
			{"no such file or directory", fs.ErrNotExist},
			{"not found", fs.ErrNotExist},
			{"exec format error", syscall.ENOEXEC},
		} {
			if strings.Contains(lower, t.words) {
				return &oci.StartError{Step: "exec " + c.Args[0], Err: fmt.Errorf("%w (%s printed: %s)", t.cause, e.opts.Kind, lastLines(words))}
			}
		}
	}
	if host := e.trouble(ctx, words); host != nil {
		return host
	}
	return e.failed(ctx, err, words)
}
