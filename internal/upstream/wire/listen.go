package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// How long a server that does not let us listen is left alone, and one that takes calls nevertheless.
const (
	maxPause  = time.Minute
	maxSlowly = 8 * time.Second
)

// listen takes what the server sends by itself, if it offers that. answered is called each time that it says if it does.
func (s *streamable) listen(ctx context.Context, answered func()) {
	again, lastID, deaf := newRetry(time.Second), "", false
	for ctx.Err() == nil {
		header, session := s.headers(outgoing{})
		header.Set("Accept", "text/event-stream")
		if lastID != "" {
			header.Set("Last-Event-ID", lastID)
		}
		resp, err := s.do(ctx, http.MethodGet, s.endpoint.URL, nil, header)
		answered()
		e := (*StatusError)(nil)
		if errors.As(err, &e) && session != "" && e.forgotten() && (lastID != "" || e.Code != http.StatusNotFound) {
			s.conn.end(fmt.Errorf("%w: the server has forgotten the session", ErrEnded))
			return
		} else if e != nil && e.Code/100 == 4 && !e.passing() {
			return // it does not offer that
		}
		if err == nil && mediaType(resp) != "text/event-stream" {
			resp.Body.Close()
			return // a page for people
		}
		if err != nil {
			deaf = true
		} else {
			if deaf {
				s.conn.missed()
			}
			deaf, again = false, newRetry(time.Second)
			r := newEventReader(resp.Body)
			r.lastID = lastID
			err = s.take(ctx, r, 0)
			resp.Body.Close()
			if lastID = r.lastID; r.retry > 0 {
				again = newRetry(r.retry)
			}
		}
		s.opts.Logger.Debug("the stream of a server has ended", "error", err)
		if again.rest(ctx, s.conn.taken, err) != nil {
			return
		}
	}
}

// subscribe has a server of the modern era tell of changes, again when that has broken off.
func (c *Conn) subscribe(ctx context.Context) {
	again := newRetry(time.Second)
	for {
		begun := time.Now()
		_, err := c.call(ctx, "subscriptions/listen", json.RawMessage(`{"notifications":{"toolsListChanged":true}}`), nil)
		c.opts.Logger.Debug("no longer told of changes", "error", err)
		if refused(err) || errors.Is(err, ErrEnded) {
			return
		}
		if time.Since(begun) > maxPause {
			again = newRetry(time.Second)
		}
		c.deaf.Store(true)
		if again.rest(ctx, c.taken, err) != nil {
			return
		}
	}
}

// missed is for what a server may have said while nobody listened.
func (c *Conn) missed() {
	if offers(c.Hello().Capabilities, "tools", "listChanged") {
		c.opts.Notify("notifications/tools/list_changed", nil)
	}
}

// A retry is how long a server that was listened to, or that does not let us, is left alone.
type retry struct {
	least, wait time.Duration // wait grows
	woken       bool          // the last time ended because the server took a message
}

func newRetry(least time.Duration) *retry { return &retry{least: least, wait: least} }

// rest waits before the server is asked again, after err: for some time at least, and then until it takes a message (taken),
// which says that it is back, and may ask something, or for a time that grows.
func (r *retry) rest(ctx context.Context, taken <-chan struct{}, err error) error {
	pause, most := r.least, r.wait
	e := (*StatusError)(nil)
	switch {
	case denied(err): // each time may cost a renewal, so not by the clock
		pause, most = r.wait, 0
	case r.woken, errors.As(err, &e) && e.Code == http.StatusTooManyRequests:
		pause = min(r.wait, maxSlowly) // it takes calls and not this, or too much of it
	}
	r.wait = min(2*r.wait, maxPause)
	select {
	case <-taken: // which was sent before
	default:
	}
	if err := Pause(ctx, pause); err != nil {
		return err
	}
	var enough <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most - pause)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-taken:
		r.woken = true
	case <-enough:
		r.woken = len(taken) > 0
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
