package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

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
	settled bool          // the multiplexer has said how the command ended,
	status  uint32        // namely so
	first   *firstWatch   // of the container's pid 1
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
	cmd := &process{Cmd: r.e.command(args...)}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, words
	if r.plan.pidFile != "" {
		cmd.Dir = filepath.Dir(r.plan.pidFile) // where it is, its monitor makes a file "oom" when there is a kill
	}
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
			patience, cancel := context.WithTimeout(alive, engineCleanup)
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
	r.mux.hello = func() error {
		slow.Stop()
		r.first = watchFirst(r.plan.pidFile)
		if r.e.local() && r.limits == oci.ByCgroup { // before it gets to read anything
			if err := r.first.enforced(r.c.Limits); host.Passing(err) {
				return err
			} else if err != nil {
				return fmt.Errorf("%w: %w", errUnenforced, err)
			}
		}
		r.greeted = true
		if r.s.Started != nil {
			r.s.Started(0, r.limits) // what it is numbered here says nothing of when its output has come
		}
		return nil
	}
	r.mux.last = func() { r.first.look() }
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
	werr := cmd.wait()
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
	r.first.close()
	_ = os.Remove(r.plan.pidFile)
	return r.end(ctx, cmd.ProcessState, werr, frames, words.String())
}

// reported is how the command has ended by the word of the multiplexer, if that is a wait status.
func (r *engineRun) reported() (exit oci.Exit, ok bool) {
	exit.Limits = r.limits
	switch sig := syscall.Signal(r.status & 127); {
	case !r.settled:
		return exit, false
	case r.status>>8 <= 255 && sig == 0:
		exit.Code = int(r.status >> 8)
	case r.status>>8 == 0 && sig < 127:
		exit.Code, exit.Signal = 128+int(sig), sig
	default:
		return exit, false
	}
	return exit, true
}

// tell says how the command has ended, once it is known that nothing of the container runs any more: what the engine has to
// do then takes it longer than a small script. It is this machine's kernel that says so. The code is the multiplexer's word,
// which the engine would only hand on: a script can lie with it, about nobody's code but its own.
func (r *engineRun) tell(alive context.Context) {
	exit, ok := r.reported()
	if !ok {
		return
	}
	if !r.first.died(alive) {
		return
	}
	exit.OOM, exit.Starved = r.first.oom()
	r.told = &exit
	close(r.dead)
	if r.s.Exited != nil {
		r.s.Exited(exit)
	}
}

var (
	errEngineSlow   = fmt.Errorf("the container did not start within %v", engineStart)
	errEngineFrames = errors.New("the container broke the protocol of its multiplexer")
	errUnenforced   = errors.New("podman has not set the limits of the container")
)

// kill ends the container, and the client if that does not see it.
func (r *engineRun) kill(alive context.Context, cmd *process) {
	ctx, cancel := context.WithTimeout(alive, engineKill)
	defer cancel()
	// Before the container runs this fails, and the end of its lifeline will be the first that it hears.
	_, err := r.e.output(ctx, "kill", "--signal", "KILL", r.name)
	r.e.opts.Logger.Debug("killed a container", "name", r.name, "error", err)
	r.giveUp(ctx, alive, cmd)
}

// giveUp kills the client if that has not ended when patience has.
func (r *engineRun) giveUp(patience, alive context.Context, cmd *process) {
	<-patience.Done()
	if alive.Err() == nil {
		cmd.kill()
	}
}

// end is how the container has ended, when its client has, and sees to it that the engine keeps nothing of it.
func (r *engineRun) end(ctx context.Context, ps *os.ProcessState, werr, frames error, words string) (exit oci.Exit, err error) {
	r.e.opts.Logger.Debug("a container has ended", "name", r.name, "client", ps, "words", words)
	cleanup, done := context.WithTimeout(context.WithoutCancel(ctx), engineCleanup)
	defer done()
	code := ps.ExitCode()
	if r.told != nil {
		exit = *r.told
		if frames != nil || code != exit.Code {
			r.e.opts.Logger.Warn("the engine ended otherwise than its container", "name", r.name, "client", ps, "error", frames, "words", words)
		}
	} else if exit, err = r.observed(ctx, cleanup, code, werr, frames, words); err == nil && r.s.Exited != nil {
		r.s.Exited(exit)
	}
	if gone := r.plan.local() && code >= 0 && r.greeted && (code != 125 || r.settled); gone {
		return exit, err
	}
	if rerr := r.e.remove(cleanup, r.name); rerr != nil && !strings.Contains(strings.ToLower(rerr.Error()), "no such container") {
		r.e.opts.Logger.Error("cannot remove container; the next start will try again", "name", r.name, "error", rerr)
		if r.greeted || code < 0 { // else the client has not come so far
			r.e.keepState()
		}
	}
	return exit, err
}

// observed is how a container has ended that nothing was told of yet. What the client says is the host's observation; what
// the multiplexer says tells a signal from an exit code, if both fit.
func (r *engineRun) observed(ctx, cleanup context.Context, code int, werr, frames error, words string) (oci.Exit, error) {
	exit := oci.Exit{Code: code, Limits: r.limits}
	exit.OOM, exit.Starved = r.first.oom()
	if !r.plan.local() && r.greeted {
		if code, oom, err := r.e.inspect(cleanup, r.name); err == nil {
			exit.Code, exit.OOM, exit.Starved = code, oom, false
		}
	}
	reported, ok := r.reported()
	fits := !r.settled || ok && reported.Code == exit.Code
	switch {
	case r.settled && fits:
		exit.Signal = reported.Signal
	case !r.settled && exit.Code == 128+int(syscall.SIGKILL):
		exit.Signal = syscall.SIGKILL
	}
	cause := context.Cause(ctx)
	switch {
	case !r.greeted && ctx.Err() != nil && !errors.Is(cause, errEngineSlow) && !errors.Is(cause, errEngineFrames):
		return oci.Exit{}, cause // whatever a container says that is killed while it starts
	case errors.Is(frames, errUnenforced):
		return oci.Exit{}, frames
	case frames != nil && !r.greeted:
		return oci.Exit{}, r.e.explain(cleanup, r.c, frames, words)
	case frames != nil:
		return exit, fmt.Errorf("%w: %w", errEngineFrames, frames)
	case !r.greeted && ctx.Err() != nil:
		return oci.Exit{}, r.e.failed(cleanup, cause, words)
	case !r.greeted:
		return oci.Exit{}, r.e.explain(cleanup, r.c, werr, words)
	case ctx.Err() != nil && !r.settled:
		exit.Code, exit.Signal = 128+int(syscall.SIGKILL), syscall.SIGKILL
	case exit.Code < 0 || !fits && exit.Code >= 125 && exit.Code <= 127:
		return exit, r.e.failed(cleanup, fmt.Errorf("it lost its container: %v", werr), words)
	}
	return exit, nil
}

// keepState leaves the state directory to the next start, which removes the containers that could not be removed.
func (e *Engine) keepState() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != nil {
		e.state.keep = true
	}
}
