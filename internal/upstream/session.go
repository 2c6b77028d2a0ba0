package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// Bounds of a refresh of the catalog.
const (
	listTimeout   = time.Minute
	debounce      = 20 * time.Millisecond // before the first refresh after a change
	longDebounce  = 10 * time.Second      // in a storm
	calm          = 5 * time.Second       // after which a change is the first again
	maxReconnects = 3
)

// A session is a server that runs.
type session struct {
	conn    *wire.Conn
	changed chan struct{} // tools/list_changed came
	listed  chan struct{} // closed when the tools have been listed once
	listErr error         // why they were not; read it when listed is closed
	started time.Time
	changes atomic.Int64 // how many came

	refreshing sync.Mutex
	seen       int64     // of changes, by the last refresh
	asked      time.Time // when that was

	// Guarded by the client's mutex.
	inflight int
	used     time.Time
}

// attend stays with a session to its end: it keeps the catalog fresh, and ends a server that idles.
func (c *client) attend(ctx context.Context, s *session) {
	defer s.conn.Close()
	s.listErr = c.refresh(ctx, s, true)
	close(s.listed)
	var idle <-chan time.Time
	if limit := c.pool.opts.IdleTimeout; limit > 0 {
		tick := time.NewTicker(max(limit/4, time.Millisecond))
		defer tick.Stop()
		idle = tick.C
	}
	wait, last := debounce, time.Now()
	for {
		select {
		case <-s.changed:
			if time.Since(last) > calm+wait {
				wait = debounce
			}
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-s.conn.Done():
			}
			t.Stop()
			select { // what has come meanwhile is the same change
			case <-s.changed:
			default:
			}
			if err := c.refresh(ctx, s, false); err != nil && s.conn.Err() == nil { // its end is told by itself, if it is to be told
				c.log.Warn("cannot list the tools of a server again", "error", c.mask(err.Error()))
			}
			last, wait = time.Now(), min(2*wait, longDebounce)
		case <-idle:
			if c.idles(s) {
				c.log.Debug("ended: nothing to do")
				return
			}
		case <-s.conn.Done():
			c.ended(s)
			return
		}
	}
}

// idles takes a session out of use if it has been idle for long enough.
func (c *client) idles(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.inflight > 0 || time.Since(s.used) < c.pool.opts.IdleTimeout {
		return false
	}
	if c.session == s {
		c.session = nil
	}
	return true
}

// ended notes that a session is over by itself.
func (c *client) ended(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.session = nil
	}
	if c.stopped {
		return
	}
	err := s.conn.Err()
	c.log.Warn("a server has ended", "error", c.mask(err.Error()))
	if time.Since(s.started) < settled {
		c.fail(err)
	}
}

// request makes one request, with what the configuration says about it.
func (c *client) request(ctx context.Context, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error) {
	var err error
	what := method
	if method == "tools/call" {
		var name string
		if params, name, err = canonicalCall(params); err == nil {
			what = fmt.Sprintf("%q", name)
			err = c.permit(ctx, name)
		}
	} else {
		params, err = compact(params)
	}
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) || ctx.Err() != nil {
			return nil, err
		}
		return nil, &Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("the params of %s are wrong: %v", method, err)}
	}
	if limit := c.server.CallTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, &Error{
			Message: fmt.Sprintf("MCP server %q did not answer %s in %v, the time its entry allows", c.server.Name, what, limit),
		})
		defer cancel()
	}
	for try := 1; ; try++ {
		s, err := c.acquire(ctx)
		if err != nil {
			return nil, cause(ctx, err)
		}
		result, err := s.conn.Request(ctx, method, params, progress)
		refused, status := (*wire.Error)(nil), (*wire.StatusError)(nil)
		c.release(s, err == nil || errors.As(err, &refused))
		switch {
		case err == nil:
			return result, nil
		case errors.Is(err, wire.ErrNotSent) && errors.Is(err, wire.ErrEnded) && ctx.Err() == nil && try < maxReconnects:
			<-s.conn.Done() // then the client knows of it
			continue
		case ctx.Err() != nil:
			return nil, cause(ctx, err)
		case refused != nil:
			e := c.errorf("answered %s with an error: %s", what, refused.Message)
			e.Code = refused.Code
			if data := []byte(c.mask(string(refused.Data))); json.Valid(data) { // a number that was a secret leaves nothing valid
				e.Data = data
			}
			return nil, e
		case errors.As(err, &status) && status.Code/100 == 4:
			return nil, c.errorf("refused %s: %v", what, err)
		case errors.Is(err, wire.ErrNotSent):
			return nil, c.errorf("cannot be asked for %s: %v%s", what, err, c.loginHint(err))
		default:
			return nil, c.errorf("did not answer %s, which may have been carried out: %v", what, err)
		}
	}
}

// cause is the end of ctx as an error, or err.
func cause(ctx context.Context, err error) error {
	if e := (*Error)(nil); errors.As(context.Cause(ctx), &e) {
		return e
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// notified takes a notification; it is called by the connection's reader, and does not block.
func (c *client) notified(s *session, method string, params json.RawMessage) {
	switch method {
	case "notifications/tools/list_changed":
		s.changes.Add(1)
		select {
		case s.changed <- struct{}{}:
		default:
		}
	case "notifications/message":
		c.log.Debug("log of a server", "message", clip(params))
	default:
		c.log.Debug("notification", "method", clip([]byte(method)))
	}
}

func clip(b []byte) string { return string(b[:min(len(b), 2000)]) }
