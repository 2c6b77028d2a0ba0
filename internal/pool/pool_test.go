package pool

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFill(t *testing.T) {
	run(t, func(o *Options[string, *fake]) { o.Size = 3 }, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		wait(time.Hour)
		if n := w.started(); n > 0 {
			t.Errorf("%d were started before anybody asked", n)
		}
		p.Fill("a")
		p.Fill("b") // too late
		wait(time.Second)
		if n := w.living(); n != 3 || w.most > maxStarts {
			t.Errorf("%d live, %d were started at once", n, w.most)
		}
		var order []int
		for range 6 {
			order = append(order, use(t, p, "a"))
			wait(time.Second)
		}
		if !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("handed over in the order %v", order)
		}
	})
}

func TestNoPool(t *testing.T) {
	run(t, func(o *Options[string, *fake]) { o.Size = 0 }, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		if use(t, p, "a") != -1 || w.started() > 0 {
			t.Error("a pool of none has something")
		}
	})
}

// TestBehind: a place is filled when the answer has been given, or when that takes long.
func TestBehind(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(time.Second)
		for _, answered := range []bool{true, false} {
			f, ok := p.Take("a")
			wait(behind / 2)
			before := w.started()
			if answered {
				p.Answered()
				p.Answered() // by what was asked beside the run
				wait(0)
				if w.started() != before {
					t.Error("who was answered has to wait for a start")
				}
				wait(breath)
			} else {
				wait(behind)
			}
			if !ok || w.started() != before+1 {
				t.Errorf("answered %v: %v, %d starts", answered, ok, w.started()-before)
			}
			f.Kill(nil)
			wait(time.Second)
		}
		// Those who wait for what a start takes come first.
		before := w.started()
		w.busy = true
		use(t, p, "a")
		wait(time.Second)
		if w.started() != before {
			t.Error("a place was filled while calls waited")
		}
		w.busy = false
		use(t, p, "a")
		wait(time.Second)
		if w.living() == 0 {
			t.Error("the place is not filled when no call waits any more")
		}
	})
}

// TestPutOff: a place that could not be filled when it was due is filled when it can be, without another use.
func TestPutOff(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(time.Second)
		f, _ := p.Take("a")
		w.set(func() { w.busy = true })
		wait(time.Second)
		p.Answered() // one of those who wait; others still do
		wait(time.Second)
		if n := w.started(); n != 1 {
			t.Errorf("%d starts while calls waited", n-1)
		}
		w.set(func() { w.busy = false })
		p.Answered()
		wait(time.Second)
		if n := w.started(); n != 2 {
			t.Errorf("%d starts when no call waits any more", n-1)
		}
		f.Kill(nil)
		w.set(func() { w.room = 0 })
		use(t, p, "a")
		wait(time.Second)
		if n := w.started(); n != 2 {
			t.Errorf("%d starts without room", n-2)
		}
		w.set(func() { w.room = 100 })
		wait(relief)
		if n := w.started(); n != 3 {
			t.Errorf("%d starts when there is room again", n-2)
		}
	})
}

// TestAdopt: who comes too early gets what has been started already.
func TestAdopt(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(warmUp / 2)
		if id := use(t, p, "a"); id != 0 {
			t.Errorf("got %d", id)
		}
	})
}

// TestRefused: one that cannot be taken before it is warm stays where it is, and the next one in line is taken.
func TestRefused(t *testing.T) {
	run(t, func(o *Options[string, *fake]) { o.Size = 2 }, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		w.cold = true
		p.Fill("a")
		wait(warmUp / 2)
		if id := use(t, p, "a"); id != -1 {
			t.Errorf("got %d", id)
		}
		w.all[1].cold = false
		if id := use(t, p, "a"); id != 1 {
			t.Errorf("got %d, not the one that can be taken", id)
		}
		wait(warmUp)
		if id := use(t, p, "a"); id != 0 {
			t.Errorf("got %d, not the one that has become warm", id)
		}
	})
}

// TestGrowCold: of those that cannot be taken yet there are as many as are wanted, too, and not more.
func TestGrowCold(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		w.cold, w.wanted = true, 3
		p.Fill("a")
		for range 5 {
			wait(warmUp / 10)
			if id := use(t, p, "a"); id != -1 {
				t.Errorf("got %d", id)
			}
		}
		wait(time.Second)
		if n := w.living(); n != 3 {
			t.Errorf("%d for 3 that are wanted", n)
		}
	})
}

// TestGrow: as many as were wanted at once are kept, and then no more than are needed.
func TestGrow(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(time.Second)
		burst := func(n int) (ready int) {
			for i := range n {
				w.wanted = i + 1
				if f, ok := p.Take("a"); ok {
					ready++
					f.Kill(nil)
				}
			}
			p.Answered()
			wait(time.Second)
			return ready
		}
		if n := burst(3); n != 1 {
			t.Errorf("%d were ready at first", n)
		}
		if n := burst(3); n != 3 {
			t.Errorf("%d are ready for the second burst", n)
		}
		burst(100)
		if n := w.living(); n != 4 || w.most > maxStarts {
			t.Errorf("%d are kept, %d started at once; the maximum is 4", n, w.most)
		}
		for range 12 { // one at a time, for longer than it takes to settle
			burst(1)
			wait(15 * time.Second)
		}
		if n := w.living(); n != 1 {
			t.Errorf("%d are kept when one at a time is wanted", n)
		}
	})
}

// TestOneByOne: who asks again at once finds none ready, but never wants more than one.
func TestOneByOne(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(time.Second)
		w.wanted = 1
		for range 20 {
			use(t, p, "a")
			wait(2 * breath)
		}
		wait(time.Second)
		if n := w.living(); n != 1 {
			t.Errorf("%d are kept", n)
		}
	})
}

func TestIdle(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(299 * time.Second)
		if w.living() != 1 {
			t.Fatal("gone too early")
		}
		use(t, p, "a")
		wait(299 * time.Second)
		if w.living() != 1 {
			t.Error("a use does not keep it")
		}
		wait(2 * time.Second)
		if w.living() != 0 {
			t.Error("kept when idle")
		}
		before := w.started()
		wait(24 * time.Hour)
		if w.started() != before {
			t.Error("started when idle")
		}
		if use(t, p, "a") != -1 {
			t.Error("the dead are handed over")
		}
		wait(time.Second)
		if w.living() != 1 {
			t.Error("the next use does not fill it")
		}
	})
}

func TestOld(t *testing.T) {
	run(t, func(o *Options[string, *fake]) { o.Idle = 24 * time.Hour }, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(maxAge + time.Second)
		if w.started() != 2 || w.living() != 1 {
			t.Errorf("%d started, %d live", w.started(), w.living())
		}
	})
}

func TestOtherRecipe(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(time.Second)
		if use(t, p, "b") != -1 {
			t.Error("b was there")
		}
		wait(time.Second)
		if id := use(t, p, "b"); id != 1 || w.all[0].taken {
			t.Errorf("got %d", id)
		}
	})
}

// TestDeaths: one that dies is replaced; those that never live are not tried without end, and one warning says so.
func TestDeaths(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("a")
		wait(time.Minute)
		w.all[0].die()
		wait(time.Second)
		if id := use(t, p, "a"); id != 1 {
			t.Errorf("the dead one is replaced by %d", id)
		}
		w.mu.Lock()
		w.stillborn = warmUp
		w.mu.Unlock()
		before := w.started()
		for range 100 {
			p.Take("a")
			p.Answered()
			wait(time.Second)
		}
		starts := w.started() - before
		if starts < 5 || starts > 10 {
			t.Errorf("%d starts in 100 s of sandboxes that die at birth", starts)
		}
		if n := strings.Count(w.log.String(), "level=WARN"); n != 1 || !strings.Contains(w.log.String(), `error="its end"`) {
			t.Errorf("%d warnings:\n%s", n, w.log.String())
		}
		w.mu.Lock()
		w.stillborn = 0
		w.mu.Unlock()
		for range 5 {
			p.Take("a")
			p.Answered()
			wait(maxLag)
		}
		if w.living() == 0 {
			t.Error("a pool whose sandboxes live again is not filled")
		}
	})
}

// TestHang: those that are given up before they are warm are not tried without end either.
func TestHang(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		w.stillborn = 30 * time.Second
		p.Fill("a")
		wait(5*time.Minute - time.Second) // it is idle then
		if n := w.started(); n < 5 || n > 7 {
			t.Errorf("%d starts in 5 minutes of sandboxes that hang for half of one", n)
		}
		if n := strings.Count(w.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, w.log.String())
		}
	})
}

func TestCannotStart(t *testing.T) {
	run(t, nil, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		p.Fill("none")
		wait(time.Minute)
		if n := strings.Count(w.log.String(), "cannot make a pipe"); n == 0 {
			t.Error("nobody is told")
		}
	})
}

// TestMemory: what is idle gives way first.
func TestMemory(t *testing.T) {
	run(t, func(o *Options[string, *fake]) { o.Size = 3 }, func(t *testing.T, w *world, p *Pool[string, *fake]) {
		w.room = 2
		p.Fill("a")
		wait(time.Second)
		if n := w.living(); n != 2 {
			t.Errorf("%d, with room for 2", n)
		}
		taken, _ := p.Take("a")
		w.pressure()
		wait(time.Second)
		if n := w.living(); n != 1 {
			t.Errorf("%d live under pressure, besides one that is used", n-1)
		}
		select {
		case <-taken.gone:
			t.Error("one that is used was ended")
		default:
		}
		taken.Kill(nil)
		wait(relief)
		if n := w.living(); n != 2 {
			t.Errorf("%d when memory is back", n)
		}
	})
}
