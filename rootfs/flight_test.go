package rootfs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// TestEnsureShared: many calls for one image are one pull, each hears of its progress, and who gives up does not
// bother the others.
func TestEnsureShared(t *testing.T) {
	isolate(t)
	f := newFake(t)
	ref := f.ref()
	arrived, let := make(chan struct{}), make(chan struct{})
	f.instead = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if f.bigBlob(r) {
			close(arrived) // twice would panic: that is a test, too
			<-let
		}
		return false
	}
	s := registryStore(t)
	type result struct {
		tree Tree
		err  error
	}
	results := make([]chan result, 8)
	phases := make([][]Phase, len(results)) // written by one call's reports, read after its end
	heard := make([]chan struct{}, len(results))
	ctx0, cancel0 := context.WithCancel(t.Context())
	start := func(ctx context.Context, i int) {
		results[i], heard[i] = make(chan result, 1), make(chan struct{}, 100)
		ctx = WithProgress(ctx, func(p Progress) {
			phases[i] = append(phases[i], p.Phase)
			heard[i] <- struct{}{}
		})
		go func() {
			tree, err := s.Ensure(ctx, ref)
			results[i] <- result{tree, err}
		}()
	}
	start(ctx0, 0)
	<-arrived
	for i := range results[1:] {
		start(t.Context(), i+1)
		<-heard[i+1] // it has joined
	}
	cancel0() // the one that began
	if got := <-results[0]; !errors.Is(got.err, context.Canceled) {
		t.Errorf("cancelled: %v", got.err)
	}
	close(let)
	for i, c := range results[1:] {
		got := <-c
		if got.err != nil || got.tree.Env[0] != "X=1" {
			t.Errorf("call %d: %v, %v", i+1, got.tree, got.err)
		}
		if last := phases[i+1][len(phases[i+1])-1]; last != Unpacking {
			t.Errorf("call %d heard %v", i+1, phases[i+1])
		}
	}
	if n := f.count("/manifests/"); n != 1 {
		t.Errorf("%d pulls", n)
	}
	checkClean(t, s, 1)
}

// TestEnsureLastOneLeaves: the pull ends with the last call that waits for it, and the next one begins anew.
func TestEnsureLastOneLeaves(t *testing.T) {
	isolate(t)
	f := newFake(t)
	ref := f.ref()
	arrived, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	f.instead = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !f.bigBlob(r) || n > 1 {
			return false
		}
		fmt.Fprint(w, "some bytes")
		w.(http.Flusher).Flush()
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
		return true
	}
	s := registryStore(t)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 {
		wg.Go(func() {
			if _, err := s.Ensure(ctx, ref); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	<-arrived
	cancel()
	wg.Wait()
	<-gone
	checkClean(t, s, 0)
	if _, err := s.Ensure(t.Context(), ref); err != nil {
		t.Error(err)
	}
}

// TestFlights is about who waits for whom, without any image.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flights
		runs := 0
		stopped := make(chan struct{})
		until := func(ctx context.Context) (entry, error) {
			runs++
			<-ctx.Done()
			<-stopped // the work takes a while to stop
			return entry{}, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := 0
		for range 2 {
			go func() {
				if _, err := g.do(ctx, "a", until); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				ended++
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if ended != 1 || runs != 1 {
			t.Errorf("%d calls ended and %d runs; the last caller waits for the work", ended, runs)
		}
		// Who comes while it stops does not join it.
		if e, err := g.do(t.Context(), "a", func(context.Context) (entry, error) { return entry{Python: "new"}, nil }); err != nil || e.Python != "new" {
			t.Errorf("%v, %v", e, err)
		}
		close(stopped)
		synctest.Wait()
		if ended != 2 || len(g.flying) != 0 {
			t.Errorf("%d calls ended, %d flights are left", ended, len(g.flying))
		}
	})
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		var got []Progress
		leave := m.join(func(p Progress) { got = append(got, p) })
		m.phase(Resolving, 0)
		m.phase(Downloading, 100)
		m.add(10)
		m.add(10) // too soon to be told
		m.add(80)
		var late []Progress
		defer m.join(func(p Progress) { late = append(late, p) })()
		leave()
		m.add(1)
		want := []Progress{{Resolving, 0, 0}, {Downloading, 0, 100}, {Downloading, 100, 100}, {Unpacking, 100, 100}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff([]Progress{{Unpacking, 100, 100}, {Unpacking, 101, 100}}, late); diff != "" {
			t.Errorf("late: (-want +got)\n%s", diff)
		}
		var nobody *meter
		nobody.phase(Resolving, 0)
		nobody.add(1)
	})
}
