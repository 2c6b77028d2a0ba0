package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
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
	// engineStart bounds the time from the start of the client to the first word of a container.
	engineStart = 60 * time.Second
	// engineFlush is how long a reader may take for the last words of a container that was killed.
	engineFlush = time.Second
	// maxEngineWords is how much of what the client prints on its standard error is kept: the last of it.
	maxEngineWords = 8 << 10
)

// engineKill is how long the client may take to see that its container was killed, before it is killed itself. A test is
// less patient.
var engineKill = 10 * time.Second

// An Engine runs each container by a client of podman or docker. It is safe for concurrent use.
//
// The command of a container has to be a Python of its image: it is started below a multiplexer in that Python.
type Engine struct {
	opts    EngineOptions
	machine *machine // nil if there is none between us and the containers

	mu      sync.Mutex // guards the rest
	state   *engineState
	images  map[string]EngineImage // by reference
	running map[string]bool        // by container ID
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
		e.machine = newMachine(e)
	}
	return e
}

// KeepsImages says that containers are run of images that the engine keeps (oci.Container.Image), and not of a directory.
func (e *Engine) KeepsImages() bool { return e.opts.Kind == Docker || e.machine != nil }

// Nested is false: how ids are mapped is the engine's business.
func (e *Engine) Nested() bool { return false }

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
	if e.state != nil {
		return e.state, nil
	}
	st, err := openEngineState(e.opts.StateDir, e.opts.Kind)
	if err != nil {
		return nil, err
	}
	if err := st.writeProfile(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if err := st.sweep(func(name string) error { return e.removeAll(ctx, name) }); err != nil {
		e.opts.Logger.Warn("cannot clean up after a crashed bridge", "error", err)
	}
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
		if _, err := os.Stat(c.Rootfs); err != nil {
			return oci.Exit{}, &oci.StartError{Step: "image", Err: err}
		}
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
	if !e.claim(c.ID) {
		return oci.Exit{}, fmt.Errorf("internal error: a container %q is running already", c.ID)
	}
	defer e.unclaim(c.ID)
	limits := oci.ByCgroup
	if e.weak() {
		if !e.opts.AllowWeakLimits {
			return oci.Exit{}, &oci.HostError{
				Missing: "podman cannot enforce the limits of memory and processes for a user on cgroup v1",
				Fix:     "start Linux with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or set MCP_BRIDGE_ALLOW_WEAK_LIMITS=1 to run with weaker limits (rlimits)",
			}
		}
		limits = oci.ByRlimits
	}
	m, err := newMuxHost(s)
	if err != nil {
		return oci.Exit{}, err
	}
	p := enginePlan{kind: e.opts.Kind, system: e.opts.System, owner: st.name, ways: m.ways, limits: limits, root: os.Geteuid() == 0}
	if !e.opts.Unfiltered {
		p.profile = st.profile()
	}
	if e.local() {
		p.pidFile, p.hardLimits, p.runtime = st.pidFile(c.ID), engineHardLimits(), hybridRuntime()
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

// weak says that there is no cgroup for this user's containers.
func (e *Engine) weak() bool { return e.local() && os.Geteuid() != 0 && !unifiedCgroups() }

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

// engineRun is one container.
type engineRun struct {
	e      *Engine
	c      oci.Container
	s      oci.Streams
	plan   enginePlan
	mux    *muxHost
	name   string
	limits oci.Enforcement

	// These are the multiplexer's until it has ended.
	greeted bool
	settled bool   // the multiplexer has said how the command ended,
	status  uint32 // namely so
	oom     *oomWatch
	killed  bool          // by the kernel, for want of memory
	told    *oci.Exit     // to Exited, before the client has ended
	dead    chan struct{} // closed when that is known
}

// run starts the client and waits until the container is gone.
func (r *engineRun) run(ctx context.Context, args []string) (oci.Exit, error) {
	in, toClient, err := os.Pipe()
	if err != nil {
		r.mux.closeFiles()
		return oci.Exit{}, fmt.Errorf("cannot make a pipe: %w", err)
	}
	fromClient, out, err := os.Pipe()
	if err != nil {
		r.mux.closeFiles()
		return oci.Exit{}, errors.Join(fmt.Errorf("cannot make a pipe: %w", err), in.Close(), toClient.Close())
	}
	words := &lastWords{}
	cmd := r.e.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, words
	err = cmd.Start()
	in.Close()
	out.Close()
	if err != nil {
		r.mux.closeFiles()
		toClient.Close()
		fromClient.Close()
		return oci.Exit{}, r.e.cannotStart(err)
	}
	defer fromClient.Close()

	// The end of the lifeline ends the container by its own pid 1; that it is killed too is for one that does not listen.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive, ended := context.WithCancel(context.WithoutCancel(ctx)) // as long as the client is
	defer ended()
	var killer sync.WaitGroup
	r.dead = make(chan struct{})
	killer.Go(func() {
		select {
		case <-alive.Done():
		case <-r.dead:
		case <-ctx.Done():
		}
		select {
		case <-alive.Done():
		case <-r.dead: // there is nothing to be killed, only a client that cleans up
			patience, cancel := context.WithTimeout(alive, engineStart)
			defer cancel()
			r.giveUp(patience, alive, cmd)
		default:
			toClient.Close()
			r.kill(alive, cmd)
		}
	})
	slow := time.AfterFunc(engineStart, func() { cancel(errEngineSlow) })
	defer slow.Stop()

	r.mux.to = toClient
	r.mux.hello = func() {
		slow.Stop()
		r.greeted = true
		r.oom = watchOOM(r.plan.pidFile)
		if r.s.Started != nil {
			r.s.Started(0, r.limits) // what it is numbered here says nothing of when its output has come
		}
	}
	var teller sync.WaitGroup
	r.mux.settled = func(status uint32) {
		r.settled, r.status = true, status
		teller.Go(func() { r.tell(alive) })
	}
	lost := make(chan error, 1)
	go func() {
		err := r.mux.run(toClient, fromClient)
		if err != nil {
			cancel(errEngineFrames)
			_, _ = io.Copy(io.Discard, fromClient) // else the client would wait for somebody to read
		}
		lost <- err
	}()
	werr := cmd.Wait()
	// Whoever else has the client's standard output does not count.
	_ = fromClient.SetReadDeadline(time.Now().Add(engineFlush))
	var frames error
	select {
	case frames = <-lost:
	case <-ctx.Done():
		patience := time.AfterFunc(engineFlush, r.mux.abandon)
		frames = <-lost
		patience.Stop()
	}
	ended()
	killer.Wait()
	teller.Wait()
	r.killed = r.oom.close()
	_ = os.Remove(r.plan.pidFile)
	return r.end(ctx, cmd.ProcessState, werr, frames, words.String())
}

// tell says how the command has ended, once it is known that nothing of the container runs any more: what the engine has to
// do then takes it longer than a small script. It is this machine's kernel that says so. The code is the multiplexer's word,
// which the engine would only hand on: a script can lie with it, about nobody's code but its own.
func (r *engineRun) tell(alive context.Context) {
	exit := oci.Exit{Limits: r.limits}
	switch sig := syscall.Signal(r.status & 127); {
	case r.status>>8 <= 255 && sig == 0:
		exit.Code = int(r.status >> 8)
	case r.status>>8 == 0 && sig < 127:
		exit.Code, exit.Signal = 128+int(sig), sig
	default:
		return // no wait status
	}
	killed, ok := r.oom.died(alive)
	if !ok {
		return
	}
	exit.OOM = killed
	r.told = &exit
	close(r.dead)
	if r.s.Exited != nil {
		r.s.Exited(exit)
	}
}

var (
	errEngineSlow   = fmt.Errorf("the container did not start within %v", engineStart)
	errEngineFrames = errors.New("the container broke the protocol of its multiplexer")
)

// kill ends the container, and the client if that does not see it.
func (r *engineRun) kill(alive context.Context, cmd *exec.Cmd) {
	ctx, cancel := context.WithTimeout(alive, engineKill)
	defer cancel()
	// Before the container runs this fails, and the end of its lifeline will be the first that it hears.
	_, err := r.e.output(ctx, "kill", "--signal", "KILL", r.name)
	r.e.opts.Logger.Debug("killed a container", "name", r.name, "error", err)
	r.giveUp(ctx, alive, cmd)
}

// giveUp kills the client if that has not ended when patience has.
func (r *engineRun) giveUp(patience, alive context.Context, cmd *exec.Cmd) {
	<-patience.Done()
	if alive.Err() == nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// end is how the container has ended, when its client has: as it was told already, or else as the client says, which is the
// host's observation. What the multiplexer says then tells a signal from an exit code, if both fit.
func (r *engineRun) end(ctx context.Context, ps *os.ProcessState, werr, frames error, words string) (oci.Exit, error) {
	r.e.opts.Logger.Debug("a container has ended", "name", r.name, "client", ps, "words", words)
	code, remote, cleanup := ps.ExitCode(), !r.plan.local(), context.WithoutCancel(ctx)
	cleanup, done := context.WithTimeout(cleanup, engineStart)
	defer done()
	gone := !remote && code >= 0 && r.greeted && (code != 125 || r.settled)
	if remote && r.greeted {
		if observed, oom, err := r.e.inspect(cleanup, r.name); err == nil {
			code, r.killed = observed, oom
		}
	}
	exit := oci.Exit{Code: code, Limits: r.limits, OOM: r.killed}
	if r.told != nil {
		exit = *r.told
	}
	switch {
	case r.told != nil:
	case r.settled && r.status&127 != 0 && code == 128+int(r.status&127):
		exit.Signal = syscall.Signal(r.status & 127)
	case !r.settled && code == 128+int(syscall.SIGKILL):
		exit.Signal = syscall.SIGKILL
	}
	fits := !r.settled || r.status&127 != 0 && code == 128+int(r.status&127) || r.status&127 == 0 && code == int(r.status>>8)
	var err error
	switch {
	case r.told != nil:
		if frames != nil || code < 0 || !fits {
			r.e.opts.Logger.Warn("the engine ended otherwise than its container", "name", r.name, "client", ps, "error", frames, "words", words)
		}
	case frames != nil && !r.greeted:
		exit, err = oci.Exit{}, r.e.explain(cleanup, r.c, frames, words)
	case frames != nil:
		err = fmt.Errorf("%w: %w", errEngineFrames, frames)
	case !r.greeted && ctx.Err() != nil && !errors.Is(context.Cause(ctx), errEngineSlow):
		exit, err = oci.Exit{}, context.Cause(ctx)
	case !r.greeted && ctx.Err() != nil:
		exit, err = oci.Exit{}, r.e.failed(cleanup, context.Cause(ctx), words)
	case !r.greeted:
		exit, err = oci.Exit{}, r.e.explain(cleanup, r.c, werr, words)
	case ctx.Err() != nil && !r.settled:
		exit.Code, exit.Signal = 128+int(syscall.SIGKILL), syscall.SIGKILL
	case code < 0 || !fits && code >= 125 && code <= 127:
		err = r.e.failed(cleanup, fmt.Errorf("it lost its container: %v", werr), words)
	}
	if err == nil && r.told == nil && r.s.Exited != nil {
		r.s.Exited(exit)
	}
	if !gone {
		if rerr := r.e.remove(cleanup, r.name); rerr != nil && !strings.Contains(strings.ToLower(rerr.Error()), "no such container") {
			r.e.opts.Logger.Error("cannot remove container; the next start will try again", "name", r.name, "error", rerr)
			if r.greeted || code < 0 { // else the client has not come so far
				r.e.keepState()
			}
		}
	}
	return exit, err
}

// keepState leaves the state directory to the next start, which removes the containers that could not be removed.
func (e *Engine) keepState() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != nil {
		e.state.keep = true
	}
}

// command is the client with arguments, out of reach of the terminal's signals.
func (e *Engine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(e.opts.Program, args...) //nolint:noctx // ended by its container's end, or by whoever waits
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
	cmd := e.command(args...)
	out, words := &boundedWords{most: maxEngineOutput}, &lastWords{say: say}
	cmd.Stdout, cmd.Stderr = out, words
	if err := cmd.Start(); err != nil {
		return "", e.cannotStart(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err := cmd.Wait()
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
