package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// TestStartsInTurns: of many servers that are asked for at once a few start, then the next. What a start may take is counted
// from its turn.
func TestStartsInTurns(t *testing.T) {
	o, log := Options{}, filepath.Join(t.TempDir(), "starts")
	for i := range 6 {
		s := hostile(t, "silent", "STARTS="+log)
		s.Name, s.StartTimeout = fmt.Sprint("silent", i), time.Second
		o.Servers = append(o.Servers, s)
	}
	last := hostile(t, "")
	last.Name, last.StartTimeout = "last", 3*time.Second
	p := pool(t, o, last)
	p.starts = &starts{places: make(chan struct{}, 2), patience: time.Hour}
	var asked sync.WaitGroup
	for i := range 6 {
		asked.Go(func() {
			if _, err := p.Tools(t.Context(), fmt.Sprint("silent", i)); err == nil || !strings.Contains(err.Error(), "it had 1s") {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	asked.Wait()
	if b, err := os.ReadFile(log); strings.Count(string(b), "\n") != 6 { // none had used up its time when its turn came
		t.Errorf("not six have been started: %q, %v", b, err)
	}
	if _, err := p.Tools(t.Context(), "last"); err != nil {
		t.Error(err)
	}
}

// TestQueuedStarts: what waits for its turn ends with those that want it, or with the pool, and holds up nobody.
func TestQueuedStarts(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	queued, remote := hostile(t, ""), config.Server{Name: "remote", Host: "Test", File: "/etc/test.json", Transport: config.HTTP, URL: web.URL}
	p := pool(t, Options{}, queued, remote)
	p.starts = &starts{places: make(chan struct{}, 1), patience: time.Hour}
	end, err := p.starts.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Tools(ctx, "hostile"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	c := p.byName["hostile"]
	c.mu.Lock()
	if c.starting != nil || c.failures != 0 {
		t.Errorf("a start that nobody waits for keeps its place in the queue, or counts as failed %d times", c.failures)
	}
	c.mu.Unlock()
	if _, err := p.Tools(t.Context(), "remote"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a server that is no program has to wait for its turn: %v", err)
	}
	var asked sync.WaitGroup
	asked.Go(func() {
		if _, err := p.Tools(t.Context(), "hostile"); err == nil || !strings.Contains(err.Error(), errClosed.Error()) {
			t.Error(err)
		}
	})
	wait(t, "it is asked for", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.starting != nil
	})
	p.Close()
	asked.Wait()
	end()
}

// TestSlowStart: one that takes long, most likely waits for something, and does not hold up the others.
func TestSlowStart(t *testing.T) {
	slow, quick := hostile(t, "silent"), hostile(t, "")
	slow.Name, slow.StartTimeout, quick.Name = "slow", time.Hour, "quick"
	p := pool(t, Options{}, slow, quick)
	p.starts = &starts{places: make(chan struct{}, 1), patience: 100 * time.Millisecond}
	var asked sync.WaitGroup
	defer asked.Wait()
	defer p.Close() // which ends the slow one
	asked.Go(func() { _, _ = p.Tools(t.Context(), "slow") })
	wait(t, "the slow one has its place", func() bool { return len(p.starts.places) == 1 })
	if _, err := p.Tools(t.Context(), "quick"); err != nil {
		t.Error(err)
	}
}
