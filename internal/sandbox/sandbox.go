// Package sandbox is one container with a Python in it, from its launch to the last trace of it: it starts, it waits for
// a script, warm if it was asked to be, and is handed to one run. It knows nothing of what a run is.
package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// startTimeout bounds the time from launch to a ready runner. A cold start takes some 50 ms; a machine that swaps may
// take seconds.
const startTimeout = 30 * time.Second

// ErrStart says that a sandbox took too long to be ready.
var ErrStart = fmt.Errorf("the sandbox was not ready within %v", startTimeout)

// A Recipe is what sandboxes are made of.
type Recipe struct {
	Launcher  oci.Launcher
	Container oci.Container // without ID and Args, which each sandbox has of its own
	Python    string        // absolute path in the container
	// Runner is the runner of package guest compiled for this Python, if it is known, and SaveRunner, if not nil, is
	// handed what a sandbox has compiled.
	Runner     []byte
	SaveRunner func([]byte)
	// Warming is what a sandbox that is warmed loads for its script; one that has loaded other things is the same. Absent, if not
	// nil, is handed those of its Preload that could not be.
	Warming guest.Warming
	Absent  func([]string)

	root os.FileInfo // of Container.Rootfs, which may be made anew in its place
}

// Pin notes which directory the root is now, for Same.
func (r *Recipe) Pin() { r.root, _ = os.Stat(r.Container.Rootfs) }

// Same says whether sandboxes of two recipes can stand in for each other.
func (r Recipe) Same(o Recipe) bool {
	a, b := r.Container, o.Container
	return r.Python == o.Python && a.Rootfs == b.Rootfs && a.Image == b.Image && slices.Equal(a.Env, b.Env) && a.User == b.User && a.Limits == b.Limits &&
		(r.root == nil) == (o.root == nil) && (r.root == nil || os.SameFile(r.root, o.root))
}

// A Sandbox is a container whose Python waits for its script, or gets there. All methods are safe for concurrent use;
// the streams are for one reader each.
type Sandbox struct {
	// Stdout and Stderr are what the sandbox prints. Nobody reads them before a run does: what is in them by then is
	// little, and the run's.
	Stdout, Stderr *os.File
	// Reader and Writer are the host's ends of the frames, once Ready has returned nil.
	Reader *guest.Reader
	Writer *guest.Writer

	stdin, frames *os.File
	guest         oci.Streams
	cancel        context.CancelCauseFunc

	mu     sync.Mutex
	taken  bool
	loads  []string      // modules that it imports now, of which nobody knows how long that takes
	booted chan struct{} // closed when the boot has ended, with err
	warm   chan struct{} // closed when it is warm
	err    error

	saving sync.WaitGroup // added to before booted is closed

	first    int // of its processes, with what enforces its limits; guarded by mu
	limits   oci.Enforcement
	observer observer // of the command, once booted is closed

	end    sync.Once
	exited chan struct{} // closed when it is known how the command has ended, with exit and failed
	exit   oci.Exit
	failed error
	gone   chan struct{} // closed when nothing is left
}

// Start starts a sandbox. If warm it prepares for its script as far as it can, until it is taken. Cancelling ctx ends it.
func Start(ctx context.Context, r Recipe, warm bool) (*Sandbox, error) {
	s := &Sandbox{
		taken: !warm, booted: make(chan struct{}), warm: make(chan struct{}), exited: make(chan struct{}), gone: make(chan struct{}),
	}
	if err := s.openPipes(); err != nil {
		return nil, err
	}
	s.Reader, s.Writer = guest.NewReader(s.frames), guest.NewWriter(s.stdin)
	ctx, s.cancel = context.WithCancelCause(ctx)
	slow := time.AfterFunc(startTimeout, func() { s.Kill(ErrStart) })
	go s.launch(ctx, r)
	go func() {
		defer close(s.booted)
		s.err = s.boot(r)
		s.mu.Lock()
		first := s.first
		s.mu.Unlock()
		if s.err == nil && first > 0 {
			s.observer = observe(first)
		}
		if !slow.Stop() {
			s.err = ErrStart
		}
	}()
	return s, nil
}

// openPipes makes the pipes between host and sandbox. The guest's ends stay open here until its last process has ended,
// because a launcher does not say when it has handed them over; their closing is what ends the host's readers.
func (s *Sandbox) openPipes() (err error) {
	var in, out, errs, frames *os.File
	defer func() {
		if err != nil {
			closeAll(in, out, errs, frames, s.stdin, s.Stdout, s.Stderr, s.frames)
			err = fmt.Errorf("cannot make a pipe: %w", err)
		}
	}()
	if in, s.stdin, err = os.Pipe(); err != nil {
		return err
	}
	if s.frames, frames, err = os.Pipe(); err != nil {
		return err
	}
	if s.Stdout, out, err = os.Pipe(); err != nil {
		return err
	}
	if s.Stderr, errs, err = os.Pipe(); err != nil {
		return err
	}
	s.guest = oci.Streams{Stdout: out, Stderr: errs, Extra: []*os.File{in, frames}}
	return nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// launch is the container from its start until nothing of it is left.
func (s *Sandbox) launch(ctx context.Context, r Recipe) {
	defer close(s.gone)
	defer s.cancel(nil)
	streams := s.guest
	streams.Started = func(pid int, limits oci.Enforcement) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.first, s.limits = pid, limits
	}
	streams.Exited = func(exit oci.Exit) { s.ended(exit, nil) }
	c := r.Container
	c.ID, c.Args = strings.ToLower(rand.Text()), guest.Args(r.Python)
	s.ended(r.Launcher.Run(ctx, c, streams))
}

func (s *Sandbox) ended(exit oci.Exit, err error) {
	s.end.Do(func() {
		s.exit, s.failed = exit, err
		close(s.exited)
		closeAll(append(s.guest.Extra, s.guest.Stdout, s.guest.Stderr)...)
	})
}

// Done is for who has heard that the command has written all there is, and waits for CloseStdin, to exit with 0. It may. If it can
// be seen that it has, that is its exit, and true is returned: what it wrote is in the streams, while its memory is freed and
// what else there is in the sandbox is ended.
func (s *Sandbox) Done() bool {
	<-s.booted
	s.CloseStdin()
	if !s.observer.succeeded() {
		return false
	}
	s.mu.Lock()
	limits := s.limits
	s.mu.Unlock()
	s.ended(oci.Exit{Limits: limits}, nil)
	for _, f := range []*os.File{s.Stdout, s.Stderr} {
		_ = f.SetReadDeadline(time.Unix(1, 0)) // whoever waits there need not wait for the end
	}
	return true
}

// boot is the handshake, up to ready or warm. A nil error means that a script can be sent, or that the guest's end is
// closed, why being for its exit to say.
func (s *Sandbox) boot(r Recipe) error {
	runner := r.Runner
	for {
		if guest.Boot(s.stdin, runner) != nil {
			return nil // the container did not come up
		}
		m, err := s.Reader.Read()
		switch {
		case IsEnd(err):
			return nil
		case err != nil:
			s.Kill(err)
			return err
		}
		if ready, ok := m.(guest.Ready); ok {
			if ready.Compiled != nil && r.SaveRunner != nil {
				s.saving.Go(func() { r.SaveRunner(ready.Compiled) }) // the script need not wait for a disk
			}
			break
		}
		runner = nil // it was stale: the only other message before ready
	}
	if !s.begins(r.Warming.Preload) {
		return nil
	}
	s.Reader.Warming()
	if s.Writer.Warm(r.Warming) != nil {
		return nil
	}
	m, err := s.Reader.Read()
	if m, ok := m.(guest.Warm); ok {
		if len(m.Failed) > 0 && r.Absent != nil {
			r.Absent(m.Failed)
		}
		s.begins(nil)
		close(s.warm)
	} else if err != nil && !IsEnd(err) {
		s.Kill(err)
		return err
	}
	return nil
}

// IsEnd says whether an error of the Reader means that there is nothing more.
func IsEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed)
}

// begins notes what the sandbox is about to import, and is false if it is taken.
func (s *Sandbox) begins(modules []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads = modules
	return !s.taken
}

// Take hands the sandbox to a run: one that is not ready yet is not warmed then. It is false while modules of the user's choice
// are imported, because a start takes less time than some of them.
func (s *Sandbox) Take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = s.taken || len(s.loads) == 0
	return s.taken
}

// Ready waits until a script can be sent, or the sandbox has ended. An error says what is wrong with it.
func (s *Sandbox) Ready() error {
	<-s.booted
	return s.err
}

// Warm is closed when the sandbox is warm.
func (s *Sandbox) Warm() <-chan struct{} { return s.warm }

// Kill ends the sandbox and does not wait for that.
func (s *Sandbox) Kill(cause error) { s.cancel(cause) }

// CloseStdin gives up sending: what a write hangs on ends.
func (s *Sandbox) CloseStdin() { s.stdin.Close() }

// Exited is closed when it is known how the command has ended.
func (s *Sandbox) Exited() <-chan struct{} { return s.exited }

// Exit waits for Exited, and until the runner is saved if it had to be, and says how it ended, as [oci.Launcher] does.
func (s *Sandbox) Exit() (oci.Exit, error) {
	<-s.exited
	<-s.booted
	s.saving.Wait()
	return s.exit, s.failed
}

// Err waits for the end of one that has had no script, and says why it came.
func (s *Sandbox) Err() error {
	exit, err := s.Exit()
	switch {
	case s.err != nil:
		err = s.err
	case err == nil && exit.OOM:
		err = errors.New("it ran out of memory")
	case err == nil:
		err = fmt.Errorf("its Python ended with exit code %d", exit.Code)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.loads) > 0 {
		err = fmt.Errorf("while it imported %s, as it was told to: %w", strings.Join(s.loads, ", "), err)
	}
	return err
}

// Gone is closed when nothing is left of the container.
func (s *Sandbox) Gone() <-chan struct{} { return s.gone }

// Close closes the host's ends of the pipes. Nobody may read any more; the sandbox has ended, or is ended by it.
func (s *Sandbox) Close() {
	s.Kill(nil)
	_, _ = s.Exit()
	closeAll(s.stdin, s.Stdout, s.Stderr, s.frames)
	s.observer.close()
}
