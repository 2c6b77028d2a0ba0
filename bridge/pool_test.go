package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/pool"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// warmed tells of each sandbox that the pool has made ready.
type warmed chan struct{}

func (w warmed) Enabled(context.Context, slog.Level) bool { return true }
func (w warmed) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w warmed) WithGroup(string) slog.Handler            { return w }
func (w warmed) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a sandbox is warm" {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return nil
}

// keep runs the pool of a bridge, which has one sandbox warm when keep returns, until the test ends.
func keep(t *testing.T, b *Bridge, w warmed) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.pool.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	image, err := b.opts.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.pool.Fill(b.recipe(image))
	within(t, "a warm sandbox", w)
}

func pooled(w warmed) func(*Options) {
	return func(o *Options) { o.Pool, o.IdleTimeout, o.Logger = 1, time.Hour, slog.New(w) }
}

// TestPoolLosesNothing: a script is given to another sandbox if the first one has not begun with it, and only then.
func TestPoolLosesNothing(t *testing.T) {
	honest := func(g *guestEnd) (oci.Exit, error) {
		g.start()
		g.say(`{"type":"done","result":"second"}`)
		return oci.Exit{}, nil
	}
	warm := func(g *guestEnd) {
		g.say(`{"type":"ready","protocol":1,"python":"3"}`)
		g.next()
		g.say(`{"type":"warm"}`)
	}
	for _, tt := range []struct {
		name   string
		first  func(*guestEnd) (oci.Exit, error)
		again  bool
		status Status
		says   string
	}{
		{"one that is stopped", func(g *guestEnd) (oci.Exit, error) { warm(g); return killed(g) }, true, StatusSuccess, ""},
		{"one that dies when it gets the script", func(g *guestEnd) (oci.Exit, error) {
			warm(g)
			g.next()
			return oci.Exit{Code: 137, Signal: syscall.SIGKILL, OOM: true}, nil
		}, true, StatusSuccess, ""},
		{"one that talks nonsense", func(g *guestEnd) (oci.Exit, error) {
			warm(g)
			g.next()
			g.say("nonsense")
			return killed(g)
		}, true, StatusSuccess, ""},
		{"one that dies in the script", func(g *guestEnd) (oci.Exit, error) {
			warm(g)
			g.next()
			g.say(`{"type":"running"}`)
			return oci.Exit{Code: 139, Signal: syscall.SIGSEGV}, nil
		}, false, StatusError, "signal 11"},
		{"one that begins too late", func(g *guestEnd) (oci.Exit, error) {
			warm(g)
			<-g.ctx.Done()
			g.say(`{"type":"running"}`)
			return killed(g)
		}, false, StatusError, "the script may have begun"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := make(warmed, 1)
			var launched atomic.Int64
			b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
				if launched.Add(1) == 1 {
					return tt.first(g)
				}
				return honest(g)
			}, pooled(w))
			keep(t, b, w)
			r, err := b.Run(t.Context(), Request{Code: "pass"}, Output{})
			if r.Status != tt.status || (string(r.Result) == `"second"`) != tt.again || !strings.Contains(r.Error, tt.says) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestPoolRun: a sandbox that was kept warm runs what a fresh one would, one script each.
func TestPoolRun(t *testing.T) {
	w := make(warmed, 1)
	b := newBridge(t, pooled(w))
	keep(t, b, w)
	seen := make(map[string]bool)
	for i := range 3 {
		r := runCode(t, b, fmt.Sprintf("import sys\nprint(%d, 'asyn' + 'cio' in sys.modules)\nimport asyncio, os\n[os.getpid(), hash('x'), id(object())]", i))
		if want := fmt.Sprintf("%d False", i); len(r.Stdout) != 1 || r.Stdout[0] != want {
			t.Errorf("%+v", r)
		}
		if seen[string(r.Result)] {
			t.Errorf("two runs have the same pid, hash seed and addresses: %s", r.Result)
		}
		seen[string(r.Result)] = true
		b.pool.Answered()
		within(t, "a warm sandbox", w)
	}
}

// told is warmed, and counts what users are warned of.
type told struct {
	warmed
	warnings *atomic.Int64
}

func (h told) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h told) WithGroup(string) slog.Handler      { return h }
func (h told) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		h.warnings.Add(1)
	}
	return h.warmed.Handle(ctx, r)
}

// TestModulesAhead: a module that the user names is there before the script is, and one that the image lacks is told of once.
func TestModulesAhead(t *testing.T) {
	h := told{make(warmed, 1), new(atomic.Int64)}
	b := newBridge(t, func(o *Options) {
		pooled(h.warmed)(o)
		o.Logger, o.Preload = slog.New(h), []string{"xml.dom.minidom", "no_such_module"}
	})
	keep(t, b, h.warmed)
	for range 2 {
		r := runCode(t, b, "import sys\nprint([m in sys.modules for m in ('xml.dom.minidom', 'no_such_module')])")
		if len(r.Stdout) != 1 || r.Stdout[0] != "[True, False]" || len(r.Stderr) > 0 {
			t.Errorf("%+v", r)
		}
		b.pool.Answered()
		within(t, "a warm sandbox", h.warmed)
	}
	if n := h.warnings.Load(); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// TestPoolLearns: what a script uses is loaded in the sandbox after its own.
func TestPoolLearns(t *testing.T) {
	w := make(warmed, 1)
	asked := make(chan string, 9)
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		g.say(`{"type":"ready","protocol":1,"python":"3.12.1"}`)
		m := g.next()
		asked <- fmt.Sprint(m["modules"], m["preload"])
		g.say(`{"type":"warm"}`)
		if g.next() == nil { // of the pool, at the end
			return killed(g)
		}
		g.say(`{"type":"running"}`)
		g.say(`{"type":"done"}`)
		return oci.Exit{}, nil
	}, func(o *Options) { pooled(w)(o); o.Preload = []string{"numpy"} })
	keep(t, b, w)
	runCode(t, b, "import csv, json")
	b.pool.Answered()
	within(t, "a warm sandbox", w)
	if got := []string{<-asked, <-asked}; !slices.Equal(got, []string{"[] [numpy]", "[csv json] [numpy]"}) {
		t.Errorf("sandboxes were asked to load %q", got)
	}
}

// TestHabits: what scripts use is loaded ahead for the ten that follow, and then no more; and not where memory is scarce.
func TestHabits(t *testing.T) {
	for name, c := range map[string]struct {
		servers Servers
		memory  int64
		want    []string // at first, after ten scripts, and after eleven
	}{
		"no servers":    {nil, 0, []string{"", "json mcp re", "json"}},
		"servers":       {catalog{}, 512 << 20, []string{"mcp", "json mcp re", "json mcp"}},
		"little memory": {catalog{}, 64 << 20, []string{"mcp", "mcp", "mcp"}},
	} {
		b := New(Options{Servers: c.servers, Limits: oci.Limits{Memory: c.memory}})
		got := []string{strings.Join(b.ahead(), " ")}
		b.habits.note("import re\nawait mcp_x.y()")
		b.habits.note("import json")
		for range 8 {
			b.habits.note("print(1)")
		}
		got = append(got, strings.Join(b.ahead(), " "))
		b.habits.note("import json")
		if got = append(got, strings.Join(b.ahead(), " ")); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// catalog is one server, of which no more is asked.
type catalog struct{ Servers }

func (catalog) List() []upstream.Info { return make([]upstream.Info, 1) }

// TestPoolAfterCancel: the pool makes way for a call that waits, and is filled when that is cancelled, though the run it
// waited for goes on.
func TestPoolAfterCancel(t *testing.T) {
	t.Parallel()
	w := make(warmed, 1)
	ran, finish := make(chan struct{}), make(chan struct{})
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		if g.start() == nil { // of the pool, at the end
			return killed(g)
		}
		close(ran)
		<-finish
		return oci.Exit{}, nil
	}, func(o *Options) { pooled(w)(o); o.MaxConcurrency = 1 })
	waits, inTheWay := make(chan struct{}), make(chan struct{})
	var kept atomic.Bool
	o := b.poolOptions()
	busy, madeWay := o.Busy, sync.OnceFunc(func() { close(inTheWay) })
	o.Busy = func() bool {
		if kept.Load() {
			select {
			case <-waits: // however long that takes
			case <-t.Context().Done():
			}
		}
		is := busy()
		if is {
			madeWay()
		}
		return is
	}
	b.pool = pool.New(o)
	keep(t, b, w)
	kept.Store(true)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer close(finish)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls.Go(func() { _, _ = b.Run(t.Context(), Request{Code: "pass"}, Output{}) })
	within(t, "the run", ran)
	calls.Go(func() {
		_, _ = b.Run(ctx, Request{Code: "pass"}, Output{Progress: func(int, string) { close(waits) }})
	})
	within(t, "a pool that makes way", inTheWay)
	if n := b.wanted.Load(); n != 2 {
		t.Errorf("%d sandboxes are wanted, by a run and a call that waits", n)
	}
	cancel()
	within(t, "a warm sandbox", w)
}

// TestThousandCalls: who waits is served in the end.
func TestThousandCalls(t *testing.T) {
	w := make(warmed, 1)
	var running, most atomic.Int64
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		if g.start() == nil { // of the pool, at the end
			return killed(g)
		}
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		g.say(`{"type":"done","result":1}`)
		running.Add(-1)
		return oci.Exit{}, nil
	}, pooled(w))
	keep(t, b, w)
	var calls sync.WaitGroup
	for i := range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		if i%10 == 9 {
			cancel() // while it waits, mostly
		}
		calls.Go(func() {
			defer cancel()
			r, err := b.Run(ctx, Request{Code: "pass"}, Output{})
			if err != nil || r.Status != StatusSuccess && (i%10 != 9 || r.Status != StatusCancelled) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
		})
	}
	calls.Wait()
	if most.Load() > int64(b.opts.MaxConcurrency) {
		t.Errorf("%d ran at once", most.Load())
	}
	if n, m := b.waiting.Load(), b.wanted.Load(); n != 0 || m != 0 {
		t.Errorf("%d still wait, %d are wanted", n, m)
	}
}

// TestPoolThatDiesAtBirth: calls go on, with the real error, and few sandboxes are started.
func TestPoolThatDiesAtBirth(t *testing.T) {
	start := &oci.StartError{Step: "exec python3", Err: syscall.ENOMEM}
	var launched atomic.Int64
	o := options(t)
	pooled(make(warmed))(&o)
	o.Launcher = counting{failing{start}, &launched}
	b := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.pool.Run(ctx) })
	for range 20 {
		r, err := b.Run(t.Context(), Request{Code: "pass"}, Output{})
		if err == nil || r.Error != start.Error() {
			t.Errorf("%+v, %v", r, err)
		}
		b.pool.Answered()
	}
	cancel()
	running.Wait()
	if n := launched.Load(); n > 40 {
		t.Errorf("%d sandboxes were started for 20 calls", n)
	}
}

type counting struct {
	oci.Launcher
	n *atomic.Int64
}

func (c counting) Run(ctx context.Context, k oci.Container, s oci.Streams) (oci.Exit, error) {
	c.n.Add(1)
	return c.Launcher.Run(ctx, k, s)
}
