package bridge

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// slowReader is a connection on which each message is written when the test takes it.
type slowReader struct {
	mcp.Connection
	messages chan jsonrpc.Message
}

func (c slowReader) Write(_ context.Context, m jsonrpc.Message) error {
	c.messages <- m
	return nil
}

// TestProgressSlowReader: a client that reads slowly gets the newest of each call's progress, in order, and none of a call
// after its result.
func TestProgressSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFront().enter(func() {})
		c := slowReader{messages: make(chan jsonrpc.Message)}
		go s.write(t.Context(), c)
		var got []string
		read := func() {
			switch m := (<-c.messages).(type) {
			case *jsonrpc.Request:
				var p mcp.ProgressNotificationParams
				if err := json.Unmarshal(m.Params, &p); err != nil {
					t.Error(err)
				}
				got = append(got, p.ProgressToken.(string)+" "+p.Message)
			case *jsonrpc.Response:
				got = append(got, "result")
			}
		}
		a, endA := s.notifier("a")
		b, endB := s.notifier("b")
		a(1, "one")
		synctest.Wait() // it is being written
		a(2, "two")
		b(1, "one")
		a(3, "three")
		for range 3 {
			read()
		}
		a(4, "four")
		synctest.Wait()
		a(5, "five")
		endA()
		go func() { _ = tapped{c, s, func() {}}.Write(t.Context(), &jsonrpc.Response{}) }()
		b(2, "two")
		for range 3 {
			read()
		}
		endB()
		s.end()
		<-s.gone
		slices.Sort(got[4:]) // who of two that are ready writes first is open
		if want := []string{"a one", "a three", "b one", "a four", "b two", "result"}; !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
	})
}

// TestProgressUnread: a run goes on, and the server ends, whether or not the client reads what it wanted to be told.
func TestProgressUnread(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 4)
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		g.start()
		began <- struct{}{}
		return killed(g)
	}, nil)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	defer outR.Close()
	c := &rawClient{t: t, in: inW, out: outR, done: make(chan error, 1)}
	go func() { c.done <- b.Serve(t.Context(), stdio{inR, outW}) }()
	go func() { // the answer to initialize is all that it reads
		_, _ = outR.Read(make([]byte, 1<<16))
	}()
	c.say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	c.say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	const calls = 20 // most of them wait for their turn
	for i := range calls {
		c.say(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"run_python","arguments":{"code":"pass"},"_meta":{"progressToken":%[1]d}}}`, i+2)
	}
	for range b.opts.MaxConcurrency {
		within(t, "a run", began)
	}
	c.in.Close()
	select {
	case err := <-c.done:
		if err == nil || !strings.Contains(err.Error(), "does not read") {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("Serve does not return")
	}
}

// TestUnreadAnswers: no run begins while the client has too much to read, and those that wait for that can be cancelled.
func TestUnreadAnswers(t *testing.T) {
	t.Parallel()
	launched := make(chan struct{}, 2)
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		launched <- struct{}{}
		g.start()
		return oci.Exit{}, nil
	}, nil)
	s := b.front.enter(func() {})
	c := slowReader{messages: make(chan jsonrpc.Message)}
	written := make(chan error)
	for range 2 {
		go func() {
			written <- tapped{c, s, func() {}}.Write(t.Context(), &jsonrpc.Response{Result: make([]byte, maxUnread/2+1)})
		}()
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for owed := 0; owed <= maxUnread; <-tick.C {
		s.mu.Lock()
		owed = s.unread
		s.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cancelled, ended := make(chan Result, 1), make(chan Result, 1)
	go func() { r, _ := b.Run(ctx, Request{Code: "pass"}, Output{}); cancelled <- r }()
	go func() { r, _ := b.Run(t.Context(), Request{Code: "pass"}, Output{}); ended <- r }()
	select {
	case <-launched:
		t.Error("a run begins")
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	if r := <-cancelled; r.Status != StatusCancelled {
		t.Errorf("%+v", r)
	}
	<-c.messages
	within(t, "a run", launched)
	if r := <-ended; r.Status != StatusSuccess {
		t.Errorf("%+v", r)
	}
	<-c.messages
	for range 2 {
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
}
