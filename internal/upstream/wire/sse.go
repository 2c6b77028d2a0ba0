package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
)

// sse is the link of the transport before streamable HTTP: one stream brings everything, and says where to post.
type sse struct {
	*web
	post string
	work sync.WaitGroup
}

// DialSSE greets a server by the older transport. ctx bounds that; the connection outlives it.
func DialSSE(ctx context.Context, e Endpoint, opts Options) (*Conn, error) {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := newConn(opts, cancel)
	w, err := newWeb(e, c.opts, base)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &sse{web: w}
	c.link = s
	// The stream lives as long as the connection; until it has said where to post, ctx ends it too.
	stop := context.AfterFunc(ctx, cancel)
	resp, err := s.do(base, http.MethodGet, e.URL, nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		cancel()
		stop()
		return nil, err
	}
	events := newEventReader(resp.Body)
	first, err := events.next()
	if err == nil && first.name != "endpoint" {
		err = fmt.Errorf("its first event is %q, not its endpoint", clip([]byte(first.name), 100))
	}
	if err == nil {
		var to *url.URL
		if to, err = resp.Request.URL.Parse(string(bytes.TrimSpace(first.data))); err == nil {
			if to.Scheme != s.origin.Scheme || to.Host != s.origin.Host {
				err = errors.New("its endpoint is on another host, which must not get the headers")
			}
			s.post = to.String()
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		resp.Body.Close()
		return nil, err
	}
	s.work.Go(func() {
		defer resp.Body.Close()
		for {
			e, err := events.next()
			if err != nil {
				c.end(fmt.Errorf("%w: its stream has ended: %w", ErrEnded, err))
				return
			}
			if data := bytes.TrimSpace(e.data); len(data) > 0 && (e.name == "" || e.name == "message") {
				c.receive(base, data)
			}
		}
	})
	if err := c.greet(ctx, base); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (s *sse) greeted(Hello) {}

func (s *sse) send(ctx context.Context, m outgoing) error {
	ctx, stop := s.bind(ctx)
	defer stop()
	resp, err := s.do(ctx, http.MethodPost, s.post, m.data, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (s *sse) close() {
	s.work.Wait()
	s.client.CloseIdleConnections()
}
