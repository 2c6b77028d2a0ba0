package pool

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a sandbox that takes a while to be warm, and ends when it is told to.
type fake struct {
	id         int
	recipe     string
	warm, gone chan struct{}
	die        context.CancelFunc
	cold       bool // it cannot be taken before it is warm
	taken      bool
	closed     bool
}

func (f *fake) Warm() <-chan struct{} { return f.warm }
func (f *fake) Gone() <-chan struct{} { return f.gone }
func (f *fake) Err() error            { return errors.New("its end") }
func (f *fake) Kill(error)            { f.die() }
func (f *fake) Close()                { f.closed = true }

func (f *fake) Take() bool {
	select {
	case <-f.warm:
		f.taken = true
	default:
		f.taken = !f.cold
	}
	return f.taken
}

// world makes fakes and counts them.
type world struct {
	mu        sync.Mutex
	all       []*fake
	most      int           // that started at the same time
	stillborn time.Duration // they die at this age, and are never warm
	cold      bool          // they cannot be taken before they are warm
	wanted    int
	busy      bool
	room      int
	pressure  func()
	log       strings.Builder
}

const warmUp = 100 * time.Millisecond

func (w *world) start(ctx context.Context, recipe string) (*fake, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if recipe == "none" {
		return nil, errors.New("cannot make a pipe")
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &fake{id: len(w.all), recipe: recipe, cold: w.cold, warm: make(chan struct{}), gone: make(chan struct{}), die: cancel}
	w.all = append(w.all, f)
	starting := 0
	for _, f := range w.all {
		select {
		case <-f.warm:
		case <-f.gone:
		default:
			starting++
		}
	}
	w.most = max(w.most, starting)
	stillborn := w.stillborn
	go func() {
		defer close(f.gone)
		select {
		case <-time.After(cmp.Or(stillborn, warmUp)):
		case <-ctx.Done():
			return
		}
		if stillborn > 0 {
			return
		}
		close(f.warm)
		<-ctx.Done()
	}()
	return f, nil
}

// set changes w while the pool looks at it.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) living() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.all {
		select {
		case <-f.gone:
		default:
			n++
		}
	}
	return n
}

func (w *world) started() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// run is a test with a pool that runs; what it has started is gone, and closed if nobody took it, when it ends.
func run(t *testing.T, with func(*Options[string, *fake]), test func(t *testing.T, w *world, p *Pool[string, *fake])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{room: 100}
		o := Options[string, *fake]{
			Start: w.start, Same: func(a, b string) bool { return a == b }, Size: 1, Max: 4, Idle: 5 * time.Minute,
			Wanted:   func() int { return w.wanted },
			Busy:     func() (busy bool) { w.set(func() { busy = w.busy }); return busy },
			Room:     func(n int) (room bool) { w.set(func() { room = n < w.room }); return room },
			Pressure: func(f func()) func() { w.pressure = f; return func() {} },
			Logger:   slog.New(slog.NewTextHandler(&w.log, nil)),
		}
		if with != nil {
			with(&o)
		}
		p := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			p.Run(ctx)
			close(ended)
		}()
		synctest.Wait()
		test(t, w, p)
		cancel()
		<-ended
		if n := w.living(); n > 0 {
			t.Errorf("%d are left", n)
		}
		for _, f := range w.all {
			if f.closed == f.taken {
				t.Errorf("%d: taken %v, closed %v", f.id, f.taken, f.closed)
			}
		}
	})
}

// wait lets time pass, and all that is to happen then happen.
func wait(d time.Duration) {
	<-time.After(d) // of the bubble's clock
	synctest.Wait()
}

// use is a run: it takes what there is, works, and ends it.
func use(t *testing.T, p *Pool[string, *fake], recipe string) (id int) {
	t.Helper()
	f, ok := p.Take(recipe)
	if ok {
		f.Kill(nil)
	}
	p.Answered()
	synctest.Wait()
	if !ok {
		return -1
	}
	if f.recipe != recipe {
		t.Errorf("asked for %s, got %s", recipe, f.recipe)
	}
	return f.id
}
