package upstream

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// starts bounds how many programs start at once. Most are interpreters that load for seconds; of many at the same time each
// takes longer than a start may, and none gets ready.
type starts struct {
	places   chan struct{}
	patience time.Duration // after it a start is taken to wait for something else than the processors
}

func newStarts() *starts {
	return &starts{places: make(chan struct{}, max(4, 2*runtime.NumCPU())), patience: 5 * time.Second}
}

// begin waits for a place, in the order of those that ask. end, which is never nil, gives it back.
func (s *starts) begin(ctx context.Context) (end func(), err error) {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return func() {}, ctx.Err()
	}
	leave := sync.OnceFunc(func() { <-s.places })
	late := time.AfterFunc(s.patience, leave)
	return func() {
		late.Stop()
		leave()
	}, nil
}
