package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// How long the steps of a machine may take. The first start of one downloads some 700 MB.
const (
	machineAsk   = 30 * time.Second
	machineInit  = 30 * time.Minute
	machineStart = 5 * time.Minute
	machineStop  = 2 * time.Minute
)

// A machine is podman's virtual machine. It is made and started when a container wants it, as podman makes it by default,
// which is rootless; and stopped again if it was we who started it, and nobody else has a container in it.
type machine struct {
	e *Engine

	mu      sync.Mutex // guards the rest, and is held while the machine is being started or stopped
	ready   bool
	started string // the name of the machine that we have started
	stop    func() error
	holders int
	idle    *time.Timer
}

// A machineState is what podman says of a machine.
type machineState struct {
	Name     string
	Default  bool
	Running  bool
	Starting bool
}

// machines are podman's virtual machines.
func (e *Engine) machines(ctx context.Context) ([]machineState, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, machineAsk, fmt.Errorf("no answer within %v", machineAsk))
	defer cancel()
	text, err := e.output(ctx, "machine", "list", "--format", "json")
	if err != nil {
		return nil, e.machineError(ctx, "cannot list podman's machines", err)
	}
	var list []machineState
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, e.machineError(ctx, "cannot list podman's machines", fmt.Errorf("the list is no JSON: %.100q", printableLine(text)))
	}
	for i := range list {
		list[i].Name = strings.TrimSuffix(list[i].Name, "*") // how podman 3 marks the default
		if list[i].Name == "" || list[i].Name[0] == '-' {
			return nil, e.machineError(ctx, "cannot list podman's machines", fmt.Errorf("a machine is called %q", list[i].Name))
		}
	}
	return list, nil
}

// hold has the machine running, until release.
func (m *machine) hold(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle != nil {
		m.idle.Stop()
		m.idle = nil
	}
	if !m.ready {
		if err := m.up(ctx); err != nil {
			return err
		}
		m.ready = true
		m.stop = func() error { return m.down(context.WithoutCancel(ctx)) } // who holds it is done by then
	}
	m.holders++
	return nil
}

// release lets the machine stop, some time later.
func (m *machine) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holders--; m.holders > 0 || m.started == "" || m.e.opts.IdleTimeout <= 0 {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(m.e.opts.IdleTimeout, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.idle != t || m.holders > 0 {
			return
		}
		m.idle = nil
		if err := m.stop(); err != nil {
			m.e.opts.Logger.Warn("cannot stop the podman machine", "error", err)
		}
	})
	m.idle = t
}

// close stops what we have started. Nobody holds it.
func (m *machine) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle != nil {
		m.idle.Stop()
		m.idle = nil
	}
	if m.stop == nil {
		return nil
	}
	return m.stop()
}

// up has the machine running.
func (m *machine) up(ctx context.Context) error {
	if err := shared(m.e.opts.StateDir, home()); err != nil {
		return err
	}
	list, err := m.e.machines(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		m.e.opts.Logger.Warn("making a podman machine, which is once and downloads some 700 MB (podman machine init)")
		if err := m.step(ctx, machineInit, "make", "init"); err != nil {
			return err
		}
		if list, err = m.e.machines(ctx); err != nil {
			return err
		}
		if len(list) == 0 {
			return m.e.machineError(ctx, "cannot make a podman machine", errors.New("it says that it has made one, and lists none"))
		}
	}
	chosen := list[0]
	for _, s := range list {
		if s.Default {
			chosen = s
		}
		if s.Running { // as good as the default, and there
			m.e.opts.Logger.Debug("a podman machine is running", "name", s.Name)
			return nil
		}
	}
	m.e.opts.Logger.Info("starting the podman machine", "name", chosen.Name)
	err = m.step(ctx, machineStart, "start", "start", chosen.Name)
	switch client := (*engineError)(nil); {
	case errors.As(err, &client) && strings.Contains(client.words, "already running"):
		return nil // by another one, meanwhile
	case err != nil:
		return err
	}
	m.started = chosen.Name
	return nil
}

// down stops the machine, if it was we who started it and nobody else uses it.
func (m *machine) down(ctx context.Context) error {
	name := m.started
	if name == "" {
		return nil
	}
	m.ready, m.started = false, ""
	ctx, cancel := context.WithTimeoutCause(ctx, machineStop, fmt.Errorf("no end within %v", machineStop))
	defer cancel()
	if list, err := m.e.output(ctx, "ps", "--quiet"); err == nil && strings.TrimSpace(list) != "" {
		m.e.opts.Logger.Info("the podman machine is left running: it has other containers", "name", name)
		return nil
	}
	return m.step(ctx, machineStop, "stop", "stop", name)
}

// step is one command of podman machine.
func (m *machine) step(ctx context.Context, most time.Duration, what string, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("no end within %v", most))
	defer cancel()
	if _, err := m.e.output(ctx, append([]string{"machine"}, args...)...); err != nil {
		return m.e.machineError(ctx, "cannot "+what+" the podman machine", err)
	}
	return nil
}

// machineTroubles are what podman machine is known to print.
var machineTroubles = []struct{ words, fix string }{
	{"no space left on device", "free some disk, then: podman machine rm && podman machine init"},
	{"vm already exists", "it was made by half: podman machine rm --force && podman machine init"},
	{"does not exist", "it was made by half: podman machine rm --force && podman machine init"},
	{"failed to read ignition", "it was made by half: podman machine rm --force && podman machine init"},
	{"unable to load machine config", "it was made by half: podman machine rm --force && podman machine init"},
	{"exited unexpectedly", "podman machine stop; podman machine start; if that fails: podman machine rm --force && podman machine init"},
	{"could not find \"gvproxy\"", "install podman with its helpers: brew install podman, or the installer of podman.io"},
	{"executable file not found", "install what it names: brew install podman (or qemu, vfkit)"},
	{"unrecognized command", "install podman 4.3 or newer"},
	{"unknown flag", "install podman 4.3 or newer"},
	{"only one vm can be active", "stop the other machine: podman machine stop NAME"},
	{"locked", "end the other podman that holds it"},
	{"dial tcp", "podman machine init downloads an image: check the network, then try again"},
}

// machineError says what is wrong with a machine, and what mends it. It still is the error of the client.
func (e *Engine) machineError(ctx context.Context, what string, err error) error {
	var host *oci.HostError
	if errors.As(err, &host) {
		return err // there is no podman
	}
	fix, client := "podman machine list; podman machine start", (*engineError)(nil)
	if errors.As(err, &client) {
		for _, t := range machineTroubles {
			if strings.Contains(strings.ToLower(client.words), t.words) {
				fix = t.fix
				break
			}
		}
	}
	return &machineFailure{oci.HostError{Missing: fmt.Sprintf("%s: %s: %v", e.version(context.WithoutCancel(ctx)), what, err), Fix: fix}, err}
}

// A machineFailure is a HostError with its cause.
type machineFailure struct {
	oci.HostError
	cause error
}

func (f *machineFailure) Unwrap() []error { return []error{&f.HostError, f.cause} }

func home() string { return os.Getenv("HOME") }

// shared checks that a machine sees the state directory: the client hands it the name of a file there.
func shared(dir, home string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("cannot find the state directory: %w", err)
	}
	for _, top := range []string{home, "/Users", "/private", "/var/folders"} {
		if top != "" && (dir == top || strings.HasPrefix(dir, strings.TrimSuffix(top, "/")+"/")) {
			return nil
		}
	}
	return &oci.HostError{
		Missing: "the podman machine does not see the state directory " + dir,
		Fix:     "set MCP_BRIDGE_STATE_DIR to a directory below your home",
	}
}
