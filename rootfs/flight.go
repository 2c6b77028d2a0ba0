package rootfs

import (
	"context"
	"fmt"
	"sync"
)

// flights lets calls that want the same thing at the same time share one piece of work. The zero value is ready.
type flights struct {
	mu     sync.Mutex
	flying map[string]*flight
}

// A flight is work under way. Its context is no caller's: it ends when the last caller has given up.
type flight struct {
	meter   meter
	cancel  context.CancelFunc
	waiting int           // under flights.mu; a flight with nobody waiting is not in the map any more
	done    chan struct{} // closed when e and err are set
	e       entry
	err     error
}

// do runs work, or joins who runs it under the same key. Who gives up returns at once unless it was the last one: that
// one stops the work, and waits until nothing is left of it.
func (g *flights) do(ctx context.Context, key string, work func(context.Context) (entry, error)) (entry, error) {
	g.mu.Lock()
	f := g.flying[key]
	if f == nil {
		f = g.start(ctx, key, work)
	}
	f.waiting++
	g.mu.Unlock()

	leave := f.meter.join(reportOf(ctx))
	defer leave()
	select {
	case <-f.done:
		return f.e, f.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	f.waiting--
	last := f.waiting == 0
	if last {
		g.forget(key, f) // who comes now starts anew, instead of joining what is being stopped
	}
	g.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
	return entry{}, fmt.Errorf("cannot wait any longer for the image: %w", ctx.Err())
}

func (g *flights) start(ctx context.Context, key string, work func(context.Context) (entry, error)) *flight {
	f := &flight{done: make(chan struct{})}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if g.flying == nil {
		g.flying = make(map[string]*flight)
	}
	g.flying[key] = f
	go func() {
		defer f.cancel()
		f.e, f.err = work(withMeter(ctx, &f.meter))
		g.mu.Lock()
		g.forget(key, f)
		g.mu.Unlock()
		close(f.done)
	}()
	return f
}

func (g *flights) forget(key string, f *flight) {
	if g.flying[key] == f {
		delete(g.flying, key)
	}
}
