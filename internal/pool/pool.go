// Package pool keeps things ready that are used once: started ahead, handed over in order, replaced behind that. It does
// not know what they are; here they are sandboxes.
package pool

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Sandbox is what a pool keeps.
type Sandbox interface {
	comparable
	Warm() <-chan struct{} // closed when it is ready for use
	Take() bool            // it is handed over, warm or not, unless it says that now it cannot
	Kill(cause error)      // ends it, without waiting
	Gone() <-chan struct{} // closed when nothing is left of it
	Err() error            // why it has ended, once it is gone
	Close()                // frees what one that nobody took still holds
}

// Options of a [Pool] of sandboxes S that are made by recipes R. All but Busy, Room and Pressure are required.
type Options[R any, S Sandbox] struct {
	Start func(context.Context, R) (S, error)
	Same  func(a, b R) bool // whether what was made by one will do for the other

	Size int           // how many are ready when nothing happens
	Max  int           // how many when many are wanted at once
	Idle time.Duration // how long they stay when none is wanted

	Wanted   func() int          // how many are used now or waited for, also of those that were started elsewhere
	Busy     func() bool         // somebody waits for what a start would take
	Room     func(n int) bool    // there is memory for one more beside n
	Pressure func(func()) func() // calls back when memory is short, until the function that it returns is called

	Logger *slog.Logger
}

const (
	// maxStarts is how many start at once. More of them are no faster, and slow down who waits.
	maxStarts = 2
	// maxAge is how long one is kept. Nothing is known to go bad; what is replaced now and then need not be known.
	maxAge = time.Hour
	// behind is how long after a hand-over the place is filled, if the answer has not been given before.
	behind = 50 * time.Millisecond
	// breath is how long after an answer that is. A start is a row of long system calls, for which a client that has just
	// been woken would wait.
	breath = 3 * time.Millisecond
	// settle is how long more than were needed are kept.
	settle = time.Minute
	// young is the age at which a death says that the next one will not live longer. Of one that was never warm each does.
	young    = 10 * time.Second
	firstLag = time.Second
	maxLag   = time.Minute
	relief   = 30 * time.Second // how long a pool keeps away when memory is short
)

// A Pool is safe for concurrent use. It does nothing unless Run runs.
type Pool[R any, S Sandbox] struct {
	opts Options[R, S]
	wake chan struct{}
	jobs sync.WaitGroup

	mu      sync.Mutex
	open    bool
	recipe  *R // of the last use; nil before the first
	items   []*item[S]
	used    time.Time // the last use
	due     time.Time // no start before, for who waits for an answer
	held    time.Time // no start before, because of failures or memory
	putOff  bool      // a start was due, but somebody waited for what it takes, or there was no room
	fails   int       // starts in a row that came to nothing
	grown   int       // how many more than Size are kept
	spare   int       // how many were ready at least, since counted
	counted time.Time
}

type item[S Sandbox] struct {
	sandbox S
	born    time.Time
	warm    bool
	taken   bool
}

// New makes a Pool.
func New[R any, S Sandbox](o Options[R, S]) *Pool[R, S] {
	return &Pool[R, S]{opts: o, wake: make(chan struct{}, 1)}
}

// Run keeps the pool filled until ctx ends, and returns when all that were started in it are gone, those included that
// have been taken.
func (p *Pool[R, S]) Run(ctx context.Context) {
	if p.opts.Size <= 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer p.jobs.Wait()
	defer cancel()
	p.mu.Lock()
	p.open = true
	p.mu.Unlock()
	if p.opts.Pressure != nil {
		defer p.opts.Pressure(p.giveWay)()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.close()
			return
		case <-p.wake:
		case <-timer.C:
		}
		if wait := p.step(ctx); wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// close ends what is there; ctx has ended what was taken.
func (p *Pool[R, S]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = false
	p.drop(len(p.items))
}

// Fill has the pool filled by a recipe before the first use.
func (p *Pool[R, S]) Fill(r R) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.recipe == nil {
		p.recipe, p.used, p.counted = &r, time.Now(), time.Now()
		p.nudge()
	}
}

// Take hands over the one that has been ready longest, or else the one that will be ready first. It is false if there is
// none that r would make, or that lets itself be taken now.
func (p *Pool[R, S]) Take(r R) (s S, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return s, false
	}
	now := time.Now()
	filled := p.recipe != nil && now.Sub(p.used) < p.opts.Idle
	if p.recipe != nil && !p.opts.Same(*p.recipe, r) {
		filled = false
		p.drop(len(p.items))
	}
	p.recipe, p.used, p.due = &r, now, now.Add(behind)
	defer p.nudge()
	i := slices.IndexFunc(p.items, func(i *item[S]) bool { return i.warm })
	if i < 0 {
		p.spare = 0
		i = slices.IndexFunc(p.items, func(i *item[S]) bool { return i.sandbox.Take() })
		if i < 0 && len(p.items) >= p.opts.Wanted() { // what it wants there is, and is on its way
			return s, false
		}
		// A client that asks for one after the other, sooner than a start takes, misses each time. So a miss counts as a
		// wish for one more only up to what is wanted now.
		if filled && !now.Before(p.held) && p.opts.Size+p.grown < min(p.opts.Max, p.opts.Wanted()) {
			p.grown++
		}
		if i < 0 {
			return s, false
		}
	} else {
		p.items[i].sandbox.Take()
		p.fails = 0
	}
	p.items[i].taken = true
	s = p.items[i].sandbox
	p.items = slices.Delete(p.items, i, i+1)
	p.spare = min(p.spare, p.ready())
	return s, true
}

// Answered says that somebody has been answered, or does not wait any more to be, and nobody minds the work of replacing what
// that took.
func (p *Pool[R, S]) Answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if soon := now.Add(breath); p.due.After(soon) || p.putOff {
		p.used, p.due = now, soon
		p.nudge()
	}
}

// ready is how many are warm; p.mu is held.
func (p *Pool[R, S]) ready() (n int) {
	for _, i := range p.items {
		if i.warm {
			n++
		}
	}
	return n
}

func (p *Pool[R, S]) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// giveWay ends all that nobody has taken: memory is short.
func (p *Pool[R, S]) giveWay() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.items); n > 0 {
		p.opts.Logger.Debug("memory is short: the pool is emptied", "sandboxes", n)
		p.drop(n)
	}
	p.grown, p.held = 0, time.Now().Add(relief)
	p.nudge()
}

// drop ends the n oldest; p.mu is held.
func (p *Pool[R, S]) drop(n int) {
	for _, i := range p.items[:n] {
		i.sandbox.Kill(nil)
	}
	p.items = slices.Delete(p.items, 0, n)
}

// step does what is to be done now, and returns how long there is nothing more to do; negative is until something
// happens.
func (p *Pool[R, S]) step(ctx context.Context) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.putOff = false
	if p.recipe == nil || ctx.Err() != nil {
		return -1
	}
	if now.Sub(p.used) >= p.opts.Idle {
		p.drop(len(p.items))
		p.grown = 0
		return -1
	}
	next := p.used.Add(p.opts.Idle)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for len(p.items) > 0 && now.Sub(p.items[0].born) >= maxAge {
		p.drop(1)
	}
	if len(p.items) > 0 {
		sooner(p.items[0].born.Add(maxAge))
	}
	if now.Sub(p.counted) >= settle {
		p.grown = max(0, p.grown-p.spare)
		p.spare, p.counted = len(p.items), now
	}
	if p.grown > 0 {
		sooner(p.counted.Add(settle))
	}
	want := min(p.opts.Size+p.grown, max(p.opts.Size, p.opts.Max))
	if n := len(p.items) - want; n > 0 {
		p.drop(n)
	}
	for len(p.items) < want {
		if from := later(p.due, p.held); now.Before(from) {
			sooner(from)
			break
		}
		if len(p.items)-p.ready() >= maxStarts {
			break // a start that ends leads here again
		}
		if p.putOff = p.opts.Busy != nil && p.opts.Busy(); p.putOff {
			break // the next answer leads here again
		}
		if p.putOff = p.opts.Room != nil && !p.opts.Room(len(p.items)); p.putOff {
			sooner(now.Add(relief)) // nobody says when there is room again
			break
		}
		p.start(ctx, now)
	}
	return max(0, time.Until(next))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// start starts one more; p.mu is held.
func (p *Pool[R, S]) start(ctx context.Context, now time.Time) {
	s, err := p.opts.Start(ctx, *p.recipe)
	if err != nil {
		p.failed("error", err)
		return
	}
	i := &item[S]{sandbox: s, born: now}
	p.items = append(p.items, i)
	p.jobs.Go(func() { p.watch(ctx, i) })
}

// watch is with one from its start to its end.
func (p *Pool[R, S]) watch(ctx context.Context, i *item[S]) {
	select {
	case <-i.sandbox.Warm():
		p.warm(i)
		<-i.sandbox.Gone()
	case <-i.sandbox.Gone():
	}
	why := i.sandbox.Err()
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.items, i); at >= 0 { // nobody took it, and nobody ended it
		p.items = slices.Delete(p.items, at, at+1)
		if age := time.Since(i.born); ctx.Err() == nil && (age < young || !i.warm) {
			p.failed("age", age, "error", why)
		} else {
			p.fails = 0
		}
		p.nudge()
	}
	if !i.taken {
		i.sandbox.Close()
	}
}

func (p *Pool[R, S]) warm(i *item[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i.warm = true
	if slices.Contains(p.items, i) {
		p.opts.Logger.Debug("a sandbox is warm", "ready", p.ready(), "took", time.Since(i.born))
	}
	p.nudge()
}

// failed notes that a sandbox came to nothing; p.mu is held.
func (p *Pool[R, S]) failed(why ...any) {
	lag := min(firstLag<<min(p.fails, 10), maxLag)
	if p.fails++; p.fails == 1 {
		p.opts.Logger.Warn("a sandbox that was to be kept ready has died; calls start their own, and the pool tries again", why...)
	} else {
		p.opts.Logger.Debug("a sandbox that was to be kept ready has died again", append(why, "times", p.fails, "next", lag)...)
	}
	p.held = time.Now().Add(lag)
}
