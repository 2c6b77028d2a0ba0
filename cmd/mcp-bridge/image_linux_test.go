package main

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// TestSilentRegistry: a registry that takes connections and says nothing keeps no run waiting where the host's Python
// stands in for the image; and a result says so.
func TestSilentRegistry(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			})
		}
	})
	defer open.Wait()
	defer l.Close()
	i := newImages(config.Config{CacheDir: t.TempDir(), Image: l.Addr().String() + "/python:1"}, slog.New(slog.DiscardHandler))
	defer i.store.Close()
	failed := within(t, "a run's image", func() error {
		got, err := i.image(t.Context())
		if err == nil && !strings.Contains(got.Note, "host's Python") {
			t.Errorf("the note is %q", got.Note)
		}
		return err
	})
	if failed != nil {
		t.Error(failed)
	}
	if why := i.lately(); why == nil || !strings.Contains(why.Error(), "did not answer within") {
		t.Errorf("the cause is %v", why)
	}
}
