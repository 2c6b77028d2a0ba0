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
	least, wait, lastID := time.Second, time.Second, ""
	deaf, woken := false, false
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
		no := denied(err)
		// One that takes calls, and not this, or too much of it, is asked for it less and less often.
		slowly := err != nil && woken || e != nil && e.Code == http.StatusTooManyRequests
		if deaf = deaf || err != nil; err == nil {
			if deaf {
				s.conn.missed()
			}
			deaf, least = false, time.Second
			r := newEventReader(resp.Body)
			r.lastID = lastID
			err = s.take(ctx, r, 0)
			resp.Body.Close()
			if lastID = r.lastID; r.retry > 0 {
				least = r.retry
			}
			wait = least
		}
		s.opts.Logger.Debug("the stream of a server has ended", "error", err)
		pause, most := least, wait
		if slowly {
			pause = min(wait, maxSlowly)
		}
		if no { // each time may cost a renewal
			pause, most = wait, 0
		}
		if woken, err = s.conn.rest(ctx, pause, most); err != nil {
			return
		}
		wait = min(2*wait+time.Millisecond, maxPause)
	}
}

// subscribe has a server of the modern era tell of changes, again when that has broken off.
func (c *Conn) subscribe(ctx context.Context) {
	wait, woken := time.Second, false
	for {
		begun := time.Now()
		_, err := c.call(ctx, "subscriptions/listen", json.RawMessage(`{"notifications":{"toolsListChanged":true}}`), nil)
		c.opts.Logger.Debug("no longer told of changes", "error", err)
		if refused(err) || errors.Is(err, ErrEnded) {
			return
		}
		if time.Since(begun) > maxPause {
			wait, woken = time.Second, false
		}
		pause, most := time.Second, wait
		if woken {
			pause = min(wait, maxSlowly)
		}
		if denied(err) {
			pause, most = wait, 0
		}
		c.deaf.Store(true)
		if woken, err = c.rest(ctx, pause, most); err != nil {
			return
		}
		wait = min(2*wait, maxPause)
	}
}

// missed is for what a server may have said while nobody listened.
func (c *Conn) missed() {
	if offers(c.Hello().Capabilities, "tools", "listChanged") {
		c.opts.Notify("notifications/tools/list_changed", nil)
	}
}

// rest waits before the server is asked again: for least, and then until the server takes a message, which says that it is
// back, and may ask something; or for most in all, if that is not 0. woken says that it was a message.
func (c *Conn) rest(ctx context.Context, least, most time.Duration) (woken bool, err error) {
	select {
	case <-c.taken: // which was sent before
	default:
	}
	if err := Pause(ctx, least); err != nil {
		return false, err
	}
	var enough <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most - least)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-c.taken:
		return true, nil
	case <-enough:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
