//go:build linux && cgo

package probes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// patience is how long a test waits for what must happen. It is a bound against hanging, not an expectation.
const patience = 60 * time.Second

// The limits that an MCP client gets, and those of the attacks on resources, which should not take long.
var (
	defaultLimits = oci.Limits{Memory: 512 << 20, Pids: 128}
	smallLimits   = oci.Limits{Memory: 256 << 20, Pids: 64, CPUs: 1}
)

// weak says that rlimits enforce limits here, as the first result has said. Tests run one after the other.
var weak bool

// A house is a bridge, wired as in cmd/mcp-bridge, with what a test has to know of it.
type house struct {
	*bridge.Bridge
	launcher *recorder
	state    string
	mark     string // in the environment of each of its guests' processes
	tree     rootfs.Tree
	before   traces

	mu      sync.Mutex
	log     bytes.Buffer
	calls   []call
	runners [][]byte
}

// call is one call of a tool, by a guest.
type call struct {
	server, tool string
	arguments    json.RawMessage
}

// recorder is a launcher that knows whom it launched.
type recorder struct {
	host.Launcher
	mu  sync.Mutex
	ids []string
}

func (r *recorder) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	r.mu.Lock()
	r.ids = append(r.ids, c.ID)
	r.mu.Unlock()
	return r.Launcher.Run(ctx, c, s)
}

// The server that a guest may call, and its tool that does not return.
const (
	allowedServer = "allowed"
	slowTool      = "slow"
)

type houseOptions struct {
	limits     oci.Limits
	unfiltered bool
	tree       rootfs.Tree // else the usual one
	env        []string    // beside the image's
}

func newHouse(t testing.TB, o houseOptions) *house {
	t.Helper()
	if o.tree.Path == "" {
		o.tree = tree
	}
	h := &house{
		state: filepath.Join(t.TempDir(), "state"), tree: o.tree,
		mark: fmt.Sprintf("PROBES_MARK=%d-%d", os.Getpid(), time.Now().UnixNano()),
	}
	log := slog.New(slog.NewTextHandler(lockedWriter{h}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	which, err := launcher()
	if err != nil {
		t.Fatal(err)
	}
	h.launcher = &recorder{Launcher: launchers[which].make(host.Options{
		StateDir: h.state, AllowWeakLimits: os.Geteuid() != 0, Unfiltered: o.unfiltered, Logger: log,
	})}
	image := bridge.Image{
		Root: o.tree.Path, Python: o.tree.Python, Env: append(append(slices.Clone(o.tree.Env), o.env...), h.mark),
		SaveRunner: func(code []byte) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.runners = append(h.runners, code)
		},
	}
	h.Bridge = bridge.New(bridge.Options{
		Version: "probes", Launcher: h.launcher, Limits: o.limits, User: oci.User{UID: 65534, GID: 65534},
		Image:   func(context.Context) (bridge.Image, error) { return image, nil },
		Timeout: patience, MaxTimeout: time.Hour, MaxConcurrency: 2, // run names a timeout
		Servers: servers{h},
		Logger:  log,
	})
	t.Cleanup(func() {
		h.Wait()
		if err := h.launcher.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Lstat(h.state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state directory is left behind: %v", err)
		}
		// Rule 12: neither code nor its output is logged.
		h.mu.Lock()
		defer h.mu.Unlock()
		if s := h.log.String(); strings.Contains(s, "PROBE ") || strings.Contains(s, "FORGED") || strings.Contains(s, "\x1b") {
			t.Errorf("the log shows what a guest wrote:\n%q", s)
		}
	})
	return h
}

type lockedWriter struct{ h *house }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	return w.h.log.Write(p)
}

// servers is one MCP server with the tools that the probes call.
type servers struct{ *house }

func (servers) List() []upstream.Info { return []upstream.Info{{Name: allowedServer, Tools: 3}} }

func (servers) Tools(context.Context, string) ([]upstream.Tool, error) {
	return []upstream.Tool{{Name: "t"}, {Name: "read"}, {Name: slowTool}}, nil
}

func (s servers) Running(ctx context.Context, server string) ([]upstream.Tool, error) {
	return s.Tools(ctx, server)
}

func (s servers) Again(ctx context.Context, server string) ([]upstream.Tool, error) {
	return s.Tools(ctx, server)
}

func (servers) Search(string, int) []upstream.Match { return nil }

func (s servers) Request(ctx context.Context, server, method string, params json.RawMessage, _ func(json.RawMessage)) (json.RawMessage, error) {
	var p struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	}
	if err := json.Unmarshal(params, &p); err != nil || method != "tools/call" {
		return nil, fmt.Errorf("%s with %s: %w", method, params, err)
	}
	s.mu.Lock()
	s.calls = append(s.calls, call{server, p.Name, p.Arguments})
	s.mu.Unlock()
	if p.Name == slowTool {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return json.RawMessage(`{"content":[{"type":"text","text":"an answer"}]}`), nil
}

func (h *house) takeCalls() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

// run runs code, which must come to an end in time, however it does.
func (h *house) run(t testing.TB, timeout time.Duration, code string) bridge.Result {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), timeout+patience, errors.New("the test's patience is at its end"))
	defer cancel()
	start := time.Now()
	res, err := h.Run(ctx, bridge.Request{Code: code, Timeout: timeout}, bridge.Output{})
	if err != nil {
		t.Fatalf("the bridge cannot run it: %v", err)
	}
	// A run that is ended by its timeout needs a moment more, on a machine that the attack keeps busy.
	if took := time.Since(start); took > timeout+10*time.Second {
		t.Errorf("it took %v, with a timeout of %v", took, timeout)
	}
	if res.Limits != "" {
		weak = true
	}
	return res
}

// next is the run after an attack: it works, and knows nothing of the one before.
func (h *house) next(t testing.TB) {
	t.Helper()
	res := h.run(t, patience, `
import os
seen = [os.path.join(d, n) for d in ("/tmp", "/workspace", "/dev/shm") for n in os.listdir(d)]
processes = sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
print("hello")
[seen, len(processes), sum(range(10))]`)
	if res.Status != bridge.StatusSuccess || !slices.Equal(res.Stdout, []string{"hello"}) || compact(res.Result) != "[[],2,45]" {
		t.Errorf("the next run is not as it should be: %s", describe(res))
	}
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw)
	}
	return b.String()
}

func describe(res bridge.Result) string {
	b, err := json.Marshal(res)
	if err != nil {
		return err.Error()
	}
	return string(b[:min(len(b), 2000)])
}
