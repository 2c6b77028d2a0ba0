package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// How a server that fails is started again: at once, and then after pauses that grow. A pause longer than maxPatience
// is not waited for; the request fails with what went wrong last time.
const (
	firstPause  = 250 * time.Millisecond
	longPause   = 30 * time.Second
	maxPatience = time.Second
	// settled is how long a server must have lived for its end not to count as a failure.
	settled = 10 * time.Second
)

// A client is one server: its configuration, what is known of it, and its session while it has one.
type client struct {
	pool   *Pool
	server config.Server
	log    *slog.Logger
	masker *masker
	tokens wire.Authorizer // nil if there are none to be had

	mu       sync.Mutex
	stopped  bool
	session  *session
	starting *starting
	failures int       // in a row
	failed   error     // the last
	retryAt  time.Time // not before

	catalogMu sync.Mutex
	looked    bool     // into the catalog on disk
	head      *head    // the beginning of the catalog, which is read quickly
	catalog   *catalog // all of it
}

// A starting is a start that goes on; several requests may wait for it, and none of them ends it by giving up. One that still
// waits for its turn ends with the last of them.
type starting struct {
	done   chan struct{}
	cancel context.CancelFunc
	err    error
	asked  int  // requests that wait
	begun  bool // it has its turn
}

// acquire gives a session that lives, and starts the server if need be. The session is kept from idling until release.
func (c *client) acquire(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		if c.stopped {
			c.mu.Unlock()
			return nil, c.errorf("cannot be asked: %v", errClosed)
		}
		if s := c.session; s != nil && s.conn.Err() == nil {
			s.inflight++
			c.mu.Unlock()
			return s, nil
		}
		start := c.starting
		if start == nil {
			if wait := time.Until(c.retryAt); wait > maxPatience {
				err := c.failed
				c.mu.Unlock()
				return nil, c.errorf("%v; it is tried again in %v", err, wait.Round(time.Second))
			} else if wait > 0 {
				c.mu.Unlock()
				if err := wire.Pause(ctx, wait); err != nil {
					return nil, err
				}
				continue
			}
			start = c.start(ctx)
		}
		start.asked++
		c.mu.Unlock()
		select {
		case <-start.done:
			if start.err != nil {
				return nil, c.errorf("%v", start.err)
			}
		case <-ctx.Done():
			c.mu.Lock()
			if start.asked--; start.asked == 0 && !start.begun && c.starting == start {
				c.starting = nil
				start.cancel()
			}
			c.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// release gives a session back.
func (c *client) release(s *session, answered bool) {
	c.mu.Lock()
	s.inflight--
	s.used = time.Now()
	if answered && c.session == s {
		c.failures = 0
	}
	c.mu.Unlock()
}

// start begins a start; c.mu is held.
func (c *client) start(ctx context.Context) *starting {
	limit := c.server.StartTimeout
	if limit <= 0 {
		limit = defaultStartTimeout
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	start := &starting{done: make(chan struct{}), cancel: cancel}
	c.starting = start
	begin := func() {
		defer cancel()
		defer close(start.done)
		defer c.turn(ctx, start)()
		if start.err != nil {
			return
		}
		s, err := c.dial(ctx, limit)
		c.mu.Lock()
		c.starting, start.err = nil, err
		switch {
		case c.stopped:
			start.err = errClosed
		case err != nil:
			c.fail(err)
		default:
			c.session = s
		}
		stopped := c.stopped
		c.mu.Unlock()
		if err == nil {
			if stopped || !c.pool.spawn(func() { c.attend(context.WithoutCancel(ctx), s) }) {
				s.conn.Close()
			}
		}
	}
	if !c.pool.spawn(begin) {
		cancel()
		c.starting, start.err = nil, errClosed
		close(start.done)
	}
	return start
}

// turn waits until the start may begin, or sets its err: nobody waits any more, or the pool is closed. The function gives the
// place to the next.
func (c *client) turn(ctx context.Context, start *starting) func() {
	end, err := func() {}, error(nil)
	if c.server.Transport == config.Stdio {
		end, err = c.pool.starts.begin(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.starting != start || err != nil {
		start.err = errClosed
		if c.starting == start {
			c.starting = nil
		}
	}
	start.begun = start.err == nil
	return end
}

// fail counts a failure; c.mu is held.
func (c *client) fail(err error) {
	c.failed = err
	if c.failures++; c.failures > 1 {
		pause := min(longPause, firstPause<<min(c.failures-2, 10))
		if c.loginHint(err) != "" {
			pause = min(pause, maxPatience) // it is waited for: there may be a login by then
		}
		c.retryAt = time.Now().Add(pause)
	}
}

// stop ends the server, and any start. The pool waits for the goroutines.
func (c *client) stop() {
	c.mu.Lock()
	c.stopped = true
	s, start := c.session, c.starting
	c.mu.Unlock()
	if start != nil {
		start.cancel()
	}
	if s != nil {
		c.pool.work.Go(s.conn.Close)
	}
}

// dial connects to the server in the way that its configuration says.
func (c *client) dial(ctx context.Context, limit time.Duration) (*session, error) {
	s := &session{changed: make(chan struct{}, 1), listed: make(chan struct{}), used: time.Now()}
	opts := wire.Options{
		Name: "mcp-bridge", Version: c.pool.opts.Version, Capabilities: c.capabilities(), Modern: c.modern(),
		Notify: func(method string, params json.RawMessage) { c.notified(s, method, params) }, Request: c.asked,
		ParamHeaders: c.paramHeaders,
		StopGrace:    c.pool.opts.StopGrace, Logger: c.log,
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s.started = time.Now() // and not when it had to wait for its turn
	var err error
	switch c.server.Transport {
	case config.Stdio:
		s.conn, err = wire.DialCommand(ctx, c.command(), opts)
		if opts.Modern && errors.Is(err, wire.ErrEnded) {
			opts.Modern = false // it may be another version of the program by now
			s.conn, err = wire.DialCommand(ctx, c.command(), opts)
		}
	case config.HTTP:
		s.conn, err = wire.DialHTTP(ctx, c.endpoint(), opts)
	case config.SSE:
		s.conn, err = wire.DialSSE(ctx, c.endpoint(), opts)
	case config.Remote:
		s.conn, err = wire.DialHTTP(ctx, c.endpoint(), opts)
		if status := (*wire.StatusError)(nil); errors.As(err, &status) && status.Code/100 == 4 {
			var second error
			if s.conn, second = wire.DialSSE(ctx, c.endpoint(), opts); second != nil {
				err = fmt.Errorf("%w; by SSE: %w", err, second)
			} else {
				err = nil
			}
		}
	default:
		err = fmt.Errorf("its transport %q is not known", c.server.Transport)
	}
	if err != nil {
		return nil, c.explain(ctx, err, limit)
	}
	hello := s.conn.Hello()
	c.log.Debug("started", "protocol", hello.Version, "took", time.Since(s.started))
	return s, nil
}

// explain makes of a start that failed what a user can act on. It names the program, never its arguments, which may be
// secret.
func (c *client) explain(ctx context.Context, err error, limit time.Duration) error {
	what, then := fmt.Sprintf("cannot be started (%q): ", c.server.Command), "; its entry is in "+c.server.File
	if c.server.Transport != config.Stdio {
		what = "cannot be reached: "
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		then = fmt.Sprintf(" (it had %v; its entry in %s can allow more)", limit, c.server.File)
	}
	if hint := c.loginHint(err); hint != "" {
		then = hint
	}
	return fmt.Errorf("%s%w%s", what, err, then)
}
