package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// listen takes what the server sends by itself, if it offers that. answered is called each time that it says if it does.
func (s *streamable) listen(ctx context.Context, answered func()) {
	least, wait, lastID := time.Second, time.Second, ""
	deaf := false
	for ctx.Err() == nil {
		header, session := s.headers(outgoing{})
		header.Set("Accept", "text/event-stream")
		if lastID != "" {
			header.Set("Last-Event-ID", lastID)
		}
		resp, err := s.do(ctx, http.MethodGet, s.endpoint.URL, nil, header)
		answered()
		if e := (*StatusError)(nil); errors.As(err, &e) && session != "" && e.forgotten() && (lastID != "" || e.Code != http.StatusNotFound) {
			s.conn.end(fmt.Errorf("%w: the server has forgotten the session", ErrEnded))
			return
		} else if errors.As(err, &e) && e.Code/100 == 4 && e.Code != http.StatusRequestTimeout && e.Code != http.StatusTooManyRequests {
			return // it does not offer that
		}
		if err == nil && mediaType(resp) != "text/event-stream" {
			resp.Body.Close()
			return // a page for people
		}
		denied := (*AuthorizationError)(nil)
		errors.As(err, &denied)
		if deaf = deaf || err != nil; err == nil {
			if deaf {
				s.conn.missed()
			}
			deaf = false
			least = time.Second
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
		if denied != nil { // each time may cost a renewal
			pause, most = wait, 0
		}
		if s.rest(ctx, pause, most) != nil {
			return
		}
		wait = min(2*wait+time.Millisecond, maxPause)
	}
}

// rest waits before the server is asked again: for least, and then until the server takes a message, which says that it is
// back, and may ask something; or for most in all, if that is not 0.
func (s *streamable) rest(ctx context.Context, least, most time.Duration) error {
	select {
	case <-s.answers: // to what was sent before
	default:
	}
	if err := Pause(ctx, least); err != nil {
		return err
	}
	var enough <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most - least)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-s.answers:
	case <-enough:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
