package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/sandbox"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

const (
	// maxInFlight is how many calls of one run are answered at once. More wait here, as long as they have no more than
	// maxQueued bytes, each with callCost for its keeping; and beyond that in the pipe.
	maxInFlight = 32
	maxQueued   = 32 << 20
	callCost    = 4 << 10
)

// The causes for which a run is stopped from outside of it.
var (
	errLost     = errors.New("the sandbox did not answer, and was ended; the script may have begun")
	errProtocol = errors.New("the script broke the protocol with the bridge")
	errOutput   = errors.New("the output cannot be written")
)

// A timeoutError is one more: the script's time is over. It names the calls that were open.
type timeoutError string

func (e timeoutError) Error() string { return "timeout" }

// Output takes a script's output as it comes. A nil writer drops it; the result has it in any case.
type Output struct {
	Stdout, Stderr io.Writer
	// Progress, if not nil, is told how the run goes on; n increases with each call. It must not block. No call comes
	// after Run has returned.
	Progress func(n int, message string)
}

// acknowledge is how long a sandbox that was kept ready may take to say that its script has arrived. One that does not
// is stopped or starved.
const acknowledge = time.Second

// keptStart is how long one that was taken from the pool before it was ready may take to be. A start takes a tenth of a second,
// and seconds among a hundred others; one that takes longer is stopped or starved, and a start of one's own is sooner there.
const keptStart = 5 * time.Second

// ownEnd is how long a sandbox may take to end by itself, when its command has: some 2 ms, and more if it had much memory.
const ownEnd = 100 * time.Millisecond

// Run runs a script in a sandbox of its own and says how it went. An error means that the bridge could not run it, for
// a reason of the host or of ours; the Result then says the same, for those who only show it. Cancelling ctx stops the
// script; so does a timeout, or a writer in out that fails. Nothing of the run is left when Run returns.
func (b *Bridge) Run(ctx context.Context, req Request, out Output) (Result, error) {
	result, gone, err := b.run(ctx, req, out)
	<-gone
	return result, err
}

// run is Run, but returns when no process of the run is left; gone is closed when nothing else is, and its place is free.
func (b *Bridge) run(ctx context.Context, req Request, out Output) (result Result, gone <-chan struct{}, err error) {
	b.runs.Add(1)
	left := make(chan struct{})
	end := func() {
		close(left)
		b.runs.Done()
	}
	note, err := b.check(&req)
	if err != nil {
		end()
		return Result{Status: StatusValidationError, Error: err.Error()}, left, nil
	}
	var say *progress
	if out.Progress != nil {
		say = &progress{notify: out.Progress}
		defer say.end()
	}
	k := b.newBroker(say)
	if len(req.Servers) > 0 {
		say.phase("starting MCP servers")
		k.load(ctx, req.Servers)
	}
	b.wanted.Add(1)
	defer b.wanted.Add(-1)
	if !b.slots.TryAcquire(1) {
		b.waiting.Add(1)
		say.phase("waiting for other runs to end")
		err := b.slots.Acquire(ctx, 1)
		b.waiting.Add(-1)
		if err != nil {
			b.pool.Answered() // it may have been what the pool made way for
			end()
			return Result{Status: StatusCancelled}, left, nil
		}
	}
	free := func() {
		b.slots.Release(1)
		end()
	}
	// With its place taken, so that no more than those that have one begin when the client reads on.
	if err := b.front.client().keepsUp(ctx); err != nil {
		free()
		return Result{Status: StatusCancelled}, left, nil
	}
	say.phase("starting")
	image, err := b.opts.Image(withPhases(ctx, say))
	if err != nil {
		free()
		if ctx.Err() != nil {
			return Result{Status: StatusCancelled}, left, nil
		}
		return Result{Status: StatusError, Error: err.Error()}, left, err
	}
	r := &run{b: b, req: req, image: image, out: out, broker: k}
	s, result, err := r.run(ctx)
	if s == nil {
		free()
	} else {
		go func() { // behind the answer
			// To kill what ends by itself would take the processors that the answer goes on with.
			select {
			case <-s.Gone():
			case <-time.After(ownEnd):
			}
			s.Close()
			<-s.Gone()
			free()
		}()
	}
	loaded, notLoaded := k.loaded(req.Servers)
	result.Servers, result.Image = loaded, image.Note
	if b.opts.Runtime != nil {
		result.Runtime = b.opts.Runtime()
	}
	result.content = r.broker.display.blocks
	result.note = strings.Join(slices.DeleteFunc([]string{note, notLoaded, k.unsearched(), r.broker.display.note(), savedNote(r.broker.saved)}, func(s string) bool { return s == "" }), " ")
	return result, left, err
}

// run is one script in one sandbox.
type run struct {
	b      *Bridge
	req    Request
	image  Image
	out    Output
	broker *broker

	stdout, stderr capture
	began          bool        // the runner said so
	done           *guest.Done // what the runner said last, if it did
	protocol       error       // set when the frames stopped making sense
}

// run gives the script to a sandbox that is kept ready, or else to one of its own, which it returns; nil if none could
// be started.
func (r *run) run(ctx context.Context) (*sandbox.Sandbox, Result, error) {
	recipe := r.b.recipe(r.image)
	r.b.habits.note(r.req.Code)
	if s, ok := r.b.pool.Take(recipe); ok {
		result, err := r.in(ctx, s, true)
		if r.began || ctx.Err() != nil {
			return s, result, err
		}
		// It has died, or was stopped, before the script had begun: nobody need know.
		r.b.opts.Logger.Debug("a sandbox that was kept ready was not; the script gets another one", "error", result.Error)
		s.Close()
		<-s.Gone()
		r.stdout, r.stderr, r.done, r.protocol = capture{}, capture{}, nil, nil
	}
	s, err := sandbox.Start(context.WithoutCancel(ctx), recipe, false) // in kills it; what is answered is not to be
	if err != nil {
		return nil, Result{Status: StatusError, Error: err.Error()}, err
	}
	result, err := r.in(ctx, s, false)
	return s, result, err
}

// in runs the script in a sandbox, in which none of its processes does anything any more when it returns. Closing it is left
// to the caller.
func (r *run) in(asked context.Context, s *sandbox.Sandbox, kept bool) (Result, error) {
	ctx, cancel := context.WithCancelCause(asked)
	defer cancel(nil)
	spare := context.AfterFunc(ctx, func() { s.Kill(context.Cause(ctx)) })
	defer spare()

	var readers sync.WaitGroup
	stop := func(err error) { cancel(fmt.Errorf("%w: %w", errOutput, err)) }
	readers.Go(func() { copyStream(s.Stdout, &r.stdout, r.out.Stdout, stop) })
	readers.Go(func() { copyStream(s.Stderr, &r.stderr, r.out.Stderr, stop) })
	var timeout, lost *time.Timer
	waits, begun := context.WithCancel(ctx)
	defer begun()
	if kept {
		late := time.AfterFunc(keptStart, func() { cancel(errLost) })
		readers.Go(func() {
			_ = s.Ready()
			late.Stop()
		})
	}
	readers.Go(func() {
		r.protocol = r.converse(ctx, s, func() {
			r.broker.say.phase("running")
			timeout = time.AfterFunc(r.req.Timeout, func() {
				open := r.broker.unanswered() // before they end for that
				cancel(timeoutError(open))
			})
			if kept {
				lost = time.AfterFunc(acknowledge/2, func() {
					// What stops this process as well, such as a frozen cgroup, ends here, and not sooner for the sandbox.
					select {
					case <-waits.Done():
					case <-time.After(acknowledge / 2):
						cancel(errLost)
					}
				})
			}
		}, func() {
			r.began = true
			begun()
			if lost != nil {
				lost.Stop()
			}
		})
		switch {
		case errors.Is(r.protocol, sandbox.ErrStart): // nobody's script has said anything yet
			cancel(r.protocol)
		case r.protocol != nil:
			cancel(errProtocol)
		}
	})

	exit, launchErr := s.Exit()
	// What the script wrote is in the pipes, which end with the last process that has them, or now if that is known.
	cause := context.Cause(ctx)
	if cause == nil { // the sandbox may hear sooner that nobody asks any more
		cause = context.Cause(asked)
	}
	spare() // what is left ends with its command, or when it is closed
	cancel(nil)
	readers.Wait()
	if errors.Is(r.protocol, sandbox.ErrStart) {
		if cause == nil {
			cause = r.protocol
		}
		r.protocol = nil
	}
	for _, t := range []*time.Timer{timeout, lost} {
		if t != nil {
			t.Stop()
		}
	}
	return r.result(exit, launchErr, cause)
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
	var late timeoutError
	switch {
	case errors.As(cause, &late):
		res.Status, res.TimeoutSeconds = StatusTimeout, int(r.req.Timeout.Seconds())
		if late != "" {
			res.Error = "it waited for the answer to " + string(late)
		}
		return res, nil
	case errors.Is(cause, sandbox.ErrStart) && launchErr != nil && !errors.Is(launchErr, sandbox.ErrStart): // it says what was wrong
		return fail(fmt.Errorf("%w: %w", cause, launchErr))
	case errors.Is(cause, sandbox.ErrStart), errors.Is(cause, errLost):
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
		if exit.Starved {
			res.Error = "there was no memory left on the machine, or for the bridge and its sandboxes together; the script's own limit was not reached"
		}
		return res, nil
	case !r.began:
		return fail(fmt.Errorf("the image's Python ended, with exit code %d, before it had begun the script: what it printed may say why; is it Python 3.9 or later?", exit.Code))
	case exit.Code != 0:
		res.Status = StatusError
		res.Error = r.reason(exit)
	default:
		res.Status = StatusSuccess
	}
	if r.done != nil {
		res.Result = r.done.Result
		if r.done.Truncated {
			res.cut = "result"
			if res.Truncated {
				res.cut = "output and result"
			}
			res.Truncated = true
		}
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

// converse is the host's half of the frame protocol, until the guest's end closes. sent is called when the script is sent,
// which may have to wait for servers, and began when the runner has it. A nil error means that nothing was wrong with the
// frames; that they ended early is for the exit to judge.
func (r *run) converse(ctx context.Context, s *sandbox.Sandbox, sent, began func()) error {
	outer := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// A guest that does not read must not hold the bridge: the end of the run closes what a write hangs on, after all
	// calls have been told, so that none takes the place of one that is let go. But first the guest must be dead: a script
	// that saw its call fail would go on, and could end by itself before it is killed, which would hide why the run ended.
	unblock := context.AfterFunc(outer, func() {
		<-s.Exited()
		cancel()
		s.CloseStdin()
	})
	defer unblock()
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()

	slots, queue := make(chan struct{}, maxInFlight), semaphore.NewWeighted(maxQueued)
	known := r.broker.run(ctx, r.req.Servers, r.req.Code)
	if err := s.Ready(); err != nil {
		return err
	}
	s.Reader.Running()
	sent()
	if err := s.Writer.Run(guest.Run{Code: r.req.Code, Filename: r.req.Filename, Servers: known}); err != nil {
		return nil // the guest is gone; its exit says why
	}
	for {
		m, err := s.Reader.Read()
		switch {
		case sandbox.IsEnd(err):
			return nil
		case err != nil:
			return err
		}
		switch m := m.(type) {
		case guest.Running:
			began()
		case guest.Call:
			size := min(int64(len(m.Arguments))+callCost, maxQueued)
			if queue.Acquire(ctx, size) != nil {
				continue // it is not made any more, but what comes after it are the script's last words
			}
			callCtx, end := r.broker.begin(ctx, m)
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
				if err := s.Writer.Return(r.broker.answer(callCtx, m)); err != nil {
					// The answer is unfit to be sent, or the guest is gone and will not read this either.
					text := err.Error()
					if m.Server != "" {
						text = fmt.Sprintf("the MCP server %s has answered %s, but a script cannot be given that: %v", quote(m.Server), quote(m.Tool), err)
					}
					_ = s.Writer.Return(guest.Return{ID: m.ID, Error: &guest.Error{Message: text}})
				}
			})
		case guest.Done:
			r.done = &m
			if m.Waits && s.Done() {
				return nil
			}
		}
	}
}
