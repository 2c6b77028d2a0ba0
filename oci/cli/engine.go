package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// An EngineKind is a program that keeps containers, and has a command line like docker's.
type EngineKind string

// The engines.
const (
	Podman EngineKind = "podman"
	Docker EngineKind = "docker"
)

// EngineOptions of an [Engine].
type EngineOptions struct {
	host.Options
	Kind EngineKind
	// Program is the path of the client; empty is Kind on PATH.
	Program string
	// System is a GOOS, empty for this one. Anywhere but on Linux podman has its containers in a virtual machine.
	System string
	// IdleTimeout is how long a machine that the Engine has started goes on without a container; 0 is for ever.
	IdleTimeout time.Duration
}

const (
	// engineStart bounds the time from the start of the client to the first word of a container. Who waits for the container
	// does so a little longer, and so hears what was wrong.
	engineStart = 25 * time.Second
	// engineCleanup is how long the engine may take to remove a container; the next start tries again.
	engineCleanup = 10 * time.Second
	// engineFlush is how long a reader may take for the last words of a container that was killed.
	engineFlush = time.Second
	// maxEngineWords is how much of what the client prints on its standard error is kept: the last of it.
	maxEngineWords = 8 << 10
)

// engineKill is how long the client may take to see that its container was killed, before it is killed itself. A test is
// less patient.
var engineKill = 4 * time.Second

// An Engine runs each container by a client of podman or docker. It is safe for concurrent use.
//
// The command of a container has to be a Python of its image: it is started below a multiplexer in that Python.
type Engine struct {
	opts    EngineOptions
	machine *machine // nil if there is none between us and the containers
	warn    sync.Once

	mu      sync.Mutex // guards the rest
	state   *engineState
	images  map[string]EngineImage // by reference
	running map[string]bool        // by container ID
	lax     bool                   // the engine has not set the limits of a container
}

// NewEngine makes an Engine. It touches nothing; what is wrong shows in Run.
func NewEngine(o EngineOptions) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Program == "" {
		o.Program = string(o.Kind)
	}
	if o.System == "" {
		o.System = runtime.GOOS
	}
	e := &Engine{opts: o, running: make(map[string]bool), images: make(map[string]EngineImage)}
	if o.Kind == Podman && o.System != "linux" {
		e.machine = &machine{e: e}
	}
	return e
}

// KeepsImages says that containers are run of images that the engine keeps (oci.Container.Image), and not of a directory.
func (e *Engine) KeepsImages() bool { return e.opts.Kind == Docker || e.machine != nil }

// Close removes what is kept in the state directory, and stops the machine if this Engine has started it. No Run may be
// going on.
func (e *Engine) Close() error {
	var err error
	if e.machine != nil {
		err = e.machine.close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != nil {
		err = errors.Join(err, e.state.close())
		e.state = nil
	}
	return err
}

// prepare makes the state directory, once, and removes what crashed bridges have left.
func (e *Engine) prepare(ctx context.Context) (*engineState, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.state == nil:
	case e.state.lost():
		e.opts.Logger.Warn("the state directory has been removed; making another", "dir", e.state.Path)
		_ = e.state.Close(true)
		e.state = nil
	default:
		return e.state, nil
	}
	st, err := openEngineState(e.opts.StateDir, e.opts.Kind)
	if err != nil {
		return nil, err
	}
	if err := st.writeProfile(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	st.Sweep(e.opts.Logger, func(_ *os.Root, name string) error { return e.removeAll(ctx, name) })
	e.state = st
	return st, nil
}

// removeAll removes the containers of a bridge that is dead, by the label that it gave them.
func (e *Engine) removeAll(ctx context.Context, owner string) error {
	list, err := e.output(ctx, "ps", "--all", "--quiet", "--filter", "label="+engineLabel+"="+owner)
	if err != nil {
		return err
	}
	ids := strings.Fields(list)
	if len(ids) == 0 {
		return nil
	}
	e.opts.Logger.Info("removing the containers of a bridge that has crashed", "engine", e.opts.Kind, "containers", len(ids))
	return e.remove(ctx, ids...)
}

func (e *Engine) remove(ctx context.Context, containers ...string) error {
	args := []string{"rm", "--force", "--volumes"}
	if e.opts.Kind == Podman {
		args = append(args, "--ignore", "--time", "0")
	}
	_, err := e.output(ctx, append(args, containers...)...)
	return err
}

// Run implements [oci.Launcher]. An error is an [*oci.StartError] or an [*oci.HostError] where the user can act on it.
func (e *Engine) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	if ctx.Err() != nil {
		return oci.Exit{}, context.Cause(ctx)
	}
	if e.KeepsImages() == (c.Image == "") {
		return oci.Exit{}, fmt.Errorf("internal error: %s cannot run a container of rootfs %q and image %q here", e.opts.Kind, c.Rootfs, c.Image)
	}
	if c.Rootfs != "" {
		var err error
		if c.Rootfs, err = filepath.Abs(c.Rootfs); err == nil { // the client has another working directory
			_, err = os.Stat(c.Rootfs)
		}
		if err != nil {
			return oci.Exit{}, &oci.StartError{Step: "image", Err: err}
		}
		if strings.ContainsAny(c.Rootfs, `,\`) {
			return oci.Exit{}, &oci.HostError{
				Missing: fmt.Sprintf("%s cannot run the image at %q: its overlay takes no comma and no backslash", e.opts.Kind, c.Rootfs),
				Fix:     "set MCP_BRIDGE_CACHE_DIR to a directory without them",
			}
		}
	}
	if err := host.EnoughFiles(host.HardLimits()); e.local() && err != nil {
		return oci.Exit{}, err
	}
	if e.machine != nil {
		if err := e.machine.hold(ctx); err != nil {
			return oci.Exit{}, err
		}
		defer e.machine.release()
	}
	st, err := e.prepare(ctx)
	if err != nil {
		return oci.Exit{}, err
	}
	if ctx.Err() != nil {
		return oci.Exit{}, context.Cause(ctx)
	}
	if !e.claim(c.ID) {
		return oci.Exit{}, fmt.Errorf("internal error: a container %q is running already", c.ID)
	}
	defer e.unclaim(c.ID)
	for {
		limits := oci.ByCgroup
		if why := e.weak(); why != "" {
			if !e.opts.AllowWeakLimits {
				return oci.Exit{}, &oci.HostError{
					Missing: "podman cannot enforce the limits of memory and processes: " + why,
					Fix:     weakFix,
				}
			}
			limits = oci.ByRlimits
			e.warn.Do(func() { e.opts.Logger.Warn("limits are weak: podman has no cgroup to enforce them", "limits", limits) })
		}
		exit, err := e.try(ctx, c, s, st, limits)
		if !errors.Is(err, errUnenforced) {
			return exit, err
		}
		e.opts.Logger.Debug("podman does not enforce limits", "error", err)
		e.mu.Lock()
		e.lax = true
		e.mu.Unlock()
	}
}

// weakFix is what mends it that podman has no cgroup for containers.
const weakFix = "with cgroup v2, run from a session of systemd (log in, or loginctl enable-linger $USER), without cgroup_manager in containers.conf; with cgroup v1, start Linux with systemd.unified_cgroup_hierarchy=1; or set MCP_BRIDGE_ALLOW_WEAK_LIMITS=1 to run with weaker limits (rlimits)"

// try is one try of Run. The error is errUnenforced, and nothing was run, if the engine has not set limits that it was told.
func (e *Engine) try(ctx context.Context, c oci.Container, s oci.Streams, st *engineState, limits oci.Enforcement) (oci.Exit, error) {
	m, err := newMuxHost(s)
	if err != nil {
		return oci.Exit{}, err
	}
	p := enginePlan{kind: e.opts.Kind, system: e.opts.System, owner: st.Name(), ways: m.ways, limits: limits, root: os.Geteuid() == 0}
	if !e.opts.Unfiltered {
		p.profile = st.profile()
	}
	if e.local() {
		p.pidFile, p.hardLimits, p.runtime = st.pidFile(c.ID), host.HardLimits(), hybridRuntime()
	}
	args, err := p.args(c)
	if err != nil {
		m.closeFiles()
		return oci.Exit{}, fmt.Errorf("internal error: %w", err)
	}
	r := &engineRun{e: e, c: c, s: s, plan: p, mux: m, name: p.name(c), limits: limits}
	exit, err := r.run(ctx, args)
	exit.Limits = limits
	return exit, err
}

// local says that containers are processes of this machine, and of this user.
func (e *Engine) local() bool { return e.opts.Kind == Podman && e.machine == nil }

// weak says why there is no cgroup that limits this user's containers, if so.
func (e *Engine) weak() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.lax:
		return "it does not set them for this user, or in this session"
	case e.local() && os.Geteuid() != 0 && !unifiedCgroups():
		return "it has no cgroup for a user on cgroup v1"
	}
	return ""
}

func (e *Engine) claim(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	ok := !e.running[id]
	e.running[id] = true
	return ok
}

func (e *Engine) unclaim(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, id)
}

// command is the client with arguments, out of reach of the terminal's signals.
func (e *Engine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(e.opts.Program, args...) // ended by its container's end, or by whoever waits
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = engineFlush
	if e.local() {
		// Its monitor refuses arguments beyond ASCII, such as paths, where the locale knows no more.
		cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
			return strings.HasPrefix(kv, "CONTAINER_HOST=") || strings.HasPrefix(kv, "CONTAINER_CONNECTION=") || strings.HasPrefix(kv, "LC_ALL=")
		})
		cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8")
	}
	return cmd
}

// maxEngineOutput bounds what a client may answer.
const maxEngineOutput = 1 << 20

// output is what the client prints. Its chatter on standard error is part of an error only.
func (e *Engine) output(ctx context.Context, args ...string) (string, error) {
	return e.outputTo(ctx, nil, args...)
}

// outputTo is output, with each line of chatter told as it comes.
func (e *Engine) outputTo(ctx context.Context, say func(string), args ...string) (string, error) {
	cmd := &process{Cmd: e.command(args...)}
	out, words := &boundedWords{}, &lastWords{say: say}
	cmd.Stdout, cmd.Stderr = out, words
	if err := cmd.Start(); err != nil {
		return "", e.cannotStart(err)
	}
	stop := context.AfterFunc(ctx, cmd.kill)
	err := cmd.wait()
	stop()
	switch {
	case ctx.Err() != nil:
		return "", &engineError{what: args[0], err: context.Cause(ctx), words: words.String()}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return "", &engineError{what: args[0], err: err, words: words.String()}
	case out.over:
		return "", &engineError{what: args[0], err: fmt.Errorf("it printed more than %d bytes", maxEngineOutput)}
	}
	return string(out.text), nil
}
