package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

const (
	// startTimeout bounds the time from launch to a ready runner. A cold start takes some 50 ms; a machine that swaps
	// may take seconds.
	startTimeout = 30 * time.Second
	// maxInFlight is how many calls of one run are answered at once. More wait here, as long as they have no more than
	// maxQueued bytes, each with callCost for its keeping; and beyond that in the pipe.
	maxInFlight = 32
	maxQueued   = 32 << 20
	callCost    = 4 << 10
)

// The causes for which a run is stopped from outside of it.
var (
	errTimeout  = errors.New("timeout")
	errStart    = fmt.Errorf("the sandbox was not ready within %v", startTimeout)
	errProtocol = errors.New("the script broke the protocol with the bridge")
	errOutput   = errors.New("the output cannot be written")
)

// Output takes a script's output as it comes. A nil writer drops it; the result has it in any case.
type Output struct {
	Stdout, Stderr io.Writer
	// Progress, if not nil, is told how the run goes on; n increases with each call. It must not block. No call comes
	// after Run has returned.
	Progress func(n int, message string)
}

// Run runs a script in a sandbox of its own and says how it went. An error means that the bridge could not run it, for
// a reason of the host or of ours; the Result then says the same, for those who only show it. Cancelling ctx stops the
// script; so does a timeout, or a writer in out that fails. Nothing of the run is left when Run returns.
func (b *Bridge) Run(ctx context.Context, req Request, out Output) (Result, error) {
	b.runs.Add(1)
	defer b.runs.Done()
	note, err := b.check(&req)
	if err != nil {
		return Result{Status: StatusValidationError, Error: err.Error()}, nil
	}
	var say *progress
	if out.Progress != nil {
		say = &progress{notify: out.Progress}
		defer say.end()
	}
	if !b.slots.TryAcquire(1) {
		say.phase("waiting for other runs to end")
		if err := b.slots.Acquire(ctx, 1); err != nil {
			return Result{Status: StatusCancelled}, nil
		}
	}
	defer b.slots.Release(1)
	say.phase("starting")
	image, err := b.opts.Image(withPhases(ctx, say))
	if err != nil {
		if ctx.Err() != nil {
			return Result{Status: StatusCancelled}, nil
		}
		return Result{Status: StatusError, Error: err.Error()}, err
	}
	r := &run{b: b, req: req, image: image, out: out, broker: b.newBroker(say)}
	result, err := r.run(ctx)
	result.Servers, result.Image = req.Servers, image.Note
	result.content = r.broker.display.blocks
	result.note = strings.TrimSpace(note + " " + r.broker.display.note())
	return result, err
}

// run is one script in one sandbox.
type run struct {
	b      *Bridge
	req    Request
	image  Image
	out    Output
	broker *broker

	stdout, stderr capture
	done           *guest.Done // what the runner said last, if it did
	protocol       error       // set when the frames stopped making sense
}

// pipes between the host and a sandbox. The guest's ends stay open here until the sandbox is gone, because a launcher
// does not say when it has handed them over; their closing is what ends the host's readers.
type pipes struct {
	stdin, stdout, stderr, frames *os.File // ours
	guest                         oci.Streams
}

func openPipes() (p *pipes, err error) {
	p = &pipes{}
	var in, out, errs, frames *os.File
	defer func() {
		if err != nil {
			p.closeGuest()
			p.closeHost()
			err = fmt.Errorf("cannot make a pipe: %w", err)
		}
	}()
	if in, p.stdin, err = os.Pipe(); err != nil {
		return p, err
	}
	p.guest.Extra = []*os.File{in}
	if p.frames, frames, err = os.Pipe(); err != nil {
		return p, err
	}
	p.guest.Extra = append(p.guest.Extra, frames)
	if p.stdout, out, err = os.Pipe(); err != nil {
		return p, err
	}
	p.guest.Stdout = out
	if p.stderr, errs, err = os.Pipe(); err != nil {
		return p, err
	}
	p.guest.Stderr = errs
	return p, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

func (p *pipes) closeGuest() { closeAll(append(p.guest.Extra, p.guest.Stdout, p.guest.Stderr)...) }
func (p *pipes) closeHost()  { closeAll(p.stdin, p.stdout, p.stderr, p.frames) }

func (r *run) run(ctx context.Context) (Result, error) {
	p, err := openPipes()
	if err != nil {
		return Result{Status: StatusError, Error: err.Error()}, err
	}
	defer p.closeHost()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	started := time.AfterFunc(startTimeout, func() { cancel(errStart) })
	defer started.Stop()

	var readers sync.WaitGroup
	stop := func(err error) { cancel(fmt.Errorf("%w: %w", errOutput, err)) }
	readers.Go(func() { _ = copyStream(p.stdout, &r.stdout, r.out.Stdout, stop) })
	readers.Go(func() { _ = copyStream(p.stderr, &r.stderr, r.out.Stderr, stop) })
	var timeout *time.Timer
	readers.Go(func() {
		r.protocol = r.converse(ctx, p, started, func() {
			r.broker.say.phase("running")
			timeout = time.AfterFunc(r.req.Timeout, func() { cancel(errTimeout) })
		})
		if r.protocol != nil {
			cancel(errProtocol)
		}
	})

	exit, launchErr := r.b.opts.Launcher.Run(ctx, r.container(), p.guest)
	// The sandbox is gone: what it wrote is in the pipes, and nobody can write any more.
	cause := context.Cause(ctx)
	p.closeGuest()
	cancel(nil)
	readers.Wait()
	if timeout != nil {
		timeout.Stop()
	}
	return r.result(exit, launchErr, cause)
}

func (r *run) container() oci.Container {
	return oci.Container{
		ID: strings.ToLower(rand.Text()), Rootfs: r.image.Root, Args: guest.Args(r.image.Python),
		Env: environment(r.image.Env), User: r.b.opts.User, Limits: r.b.opts.Limits,
	}
}

// environment is the whole environment of a script: what the image says, and what every sandbox has.
func environment(image []string) []string {
	env := []string{
		"HOME=" + oci.Workspace, "TMPDIR=/tmp", "LANG=C.UTF-8", "USER=nobody", "LOGNAME=nobody",
		"PYTHONDONTWRITEBYTECODE=1", // for the Pythons that a script starts; the root is read-only
	}
	ours := make(map[string]bool)
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		ours[name] = true
	}
	path := false
	for _, kv := range image {
		name, _, _ := strings.Cut(kv, "=")
		if !ours[name] {
			env = append(env, kv)
			path = path || name == "PATH"
		}
	}
	if !path {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	return env
}

// result combines what the host observed. cause is why ctx ended, if it did before the container.
func (r *run) result(exit oci.Exit, launchErr, cause error) (Result, error) {
	res := Result{
		Stdout: r.stdout.lines(), Stderr: r.stderr.lines(), Truncated: r.stdout.cut() || r.stderr.cut(),
	}
	if exit.Limits != "" && exit.Limits != oci.ByCgroup {
		res.Limits = string(exit.Limits)
	}
	fail := func(err error) (Result, error) {
		res.Status, res.Error = StatusError, err.Error()
		return res, err
	}
	if launchErr == nil && exit.Signal != syscall.SIGKILL && !errors.Is(cause, errProtocol) && !errors.Is(cause, errOutput) {
		cause = nil // it had ended by itself before it could be stopped
	}
	switch {
	case errors.Is(cause, errTimeout):
		res.Status, res.TimeoutSeconds = StatusTimeout, int(r.req.Timeout.Seconds())
		return res, nil
	case errors.Is(cause, errStart):
		return fail(cause)
	case errors.Is(cause, errProtocol) || cause == nil && r.protocol != nil: // its last words may be read after its end
		res.Status, res.Error = StatusError, fmt.Sprintf("%v: %v", errProtocol, r.protocol)
		return res, nil
	case errors.Is(cause, errOutput):
		res.Status, res.Error = StatusCancelled, cause.Error()
		return res, cause
	case cause != nil:
		res.Status = StatusCancelled
		return res, nil
	case launchErr != nil:
		return fail(launchErr)
	}
	res.ExitCode = &exit.Code
	switch {
	case exit.OOM && exit.Code != 0:
		// A script that outlives the death of one of its children by memory is not dead.
		res.Status = StatusOOM
		res.Error = fmt.Sprintf("the memory limit of %d MiB was reached", r.b.opts.Limits.Memory>>20)
		return res, nil
	case exit.Code != 0:
		res.Status = StatusError
		res.Error = r.reason(exit)
	default:
		res.Status = StatusSuccess
	}
	if r.done != nil {
		res.Result = r.done.Result
		res.Truncated = res.Truncated || r.done.Truncated
	} else if exit.Code == 0 {
		r.b.opts.Logger.Debug("a script ended without its runner saying so")
	}
	return res, nil
}

// reason says why a script ended with another exit code than 0.
func (r *run) reason(exit oci.Exit) string {
	if exit.Signal != 0 {
		return fmt.Sprintf("Python was ended by signal %d (%v)", int(exit.Signal), exit.Signal)
	}
	if r.done == nil || r.done.Error == nil || r.done.Error.Type == "SystemExit" {
		return "" // the exit code says it all
	}
	e := r.done.Error
	text := e.Type
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Line > 0 {
		text += fmt.Sprintf(" (line %d)", e.Line)
	}
	return text
}

// converse is the host's half of the frame protocol, until the guest's end closes. It stops started when the guest is
// ready; running is called when the script starts, which may have to wait for servers. A nil error means that nothing was wrong with the frames; that they ended early is for the exit to judge.
func (r *run) converse(ctx context.Context, p *pipes, started *time.Timer, running func()) error {
	// A guest that does not read must not hold the bridge: the end of the run closes what a write hangs on.
	unblock := context.AfterFunc(ctx, func() { p.stdin.Close() })
	defer unblock()
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()

	reader, writer := guest.NewReader(p.frames), guest.NewWriter(p.stdin)
	slots, queue := make(chan struct{}, maxInFlight), semaphore.NewWeighted(maxQueued)
	// Servers start while the sandbox does.
	servers := make(chan []guest.Server, 1)
	calls.Go(func() { servers <- r.broker.run(ctx, r.req.Servers) })
	if err := guest.Boot(p.stdin, r.image.Runner); err != nil {
		return nil //nolint:nilerr // the container did not come up; its exit says why
	}
	for {
		m, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		switch m := m.(type) {
		case guest.Stale:
			if err := guest.Boot(p.stdin, nil); err != nil {
				return nil //nolint:nilerr // as above
			}
		case guest.Ready:
			if m.Compiled != nil && r.image.SaveRunner != nil {
				r.image.SaveRunner(m.Compiled)
			}
			started.Stop()
			var known []guest.Server
			select {
			case known = <-servers:
			case <-ctx.Done():
				return nil
			}
			reader.Running()
			running()
			if err := writer.Run(guest.Run{Code: r.req.Code, Filename: r.req.Filename, Servers: known}); err != nil {
				return nil //nolint:nilerr // as above
			}
		case guest.Call:
			size := min(int64(len(m.Arguments))+callCost, maxQueued)
			if queue.Acquire(ctx, size) != nil {
				continue // it is not made any more, but what comes after it are the script's last words
			}
			callCtx, end := r.broker.begin(ctx, m.ID)
			calls.Go(func() {
				defer queue.Release(size)
				defer end()
				if waits(m) {
					select {
					case slots <- struct{}{}:
						defer func() { <-slots }()
					case <-callCtx.Done():
					}
				}
				if err := writer.Return(r.broker.answer(callCtx, m)); err != nil {
					// The answer is unfit to be sent, or the guest is gone and will not read this either.
					_ = writer.Return(guest.Return{ID: m.ID, Error: &guest.Error{Message: err.Error()}})
				}
			})
		case guest.Done:
			r.done = &m
		}
	}
}
