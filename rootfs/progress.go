package rootfs

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/containers/image/v5/types"
)

// A Phase is what is going on with an image.
type Phase string

// The phases, in their order; an image on this machine is not downloaded.
const (
	Resolving   Phase = "resolving"   // asking what a reference stands for
	Downloading Phase = "downloading" // and unpacking what has arrived
	Unpacking   Phase = "unpacking"   // all bytes are here
)

// Progress is how far Ensure or Refresh is. Bytes are those of the compressed blobs.
type Progress struct {
	Phase Phase
	Done  int64 // bytes so far
	Total int64 // 0: not known yet
}

// progressEvery is the shortest time between two reports of the same phase.
const progressEvery = 100 * time.Millisecond

type progressKey struct{}

// WithProgress returns a context whose calls of Ensure and Refresh tell report how far they are: at each new phase,
// when all bytes are there, and between that a few times a second. report is called by one goroutine at a time, and
// never after the call has returned. It must be quick, and must not use the Store. What is in the cache is not reported.
func WithProgress(ctx context.Context, report func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

func reportOf(ctx context.Context) func(Progress) {
	report, _ := ctx.Value(progressKey{}).(func(Progress)) // nil if there is none
	return report
}

// A meter is where the work tells its progress, and all who wait for it are told. Safe for concurrent use; nil counts
// nothing.
type meter struct {
	mu      sync.Mutex
	now     Progress
	said    time.Time
	reports map[int]func(Progress)
	next    int
}

type meterKey struct{}

func withMeter(ctx context.Context, m *meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

func meterOf(ctx context.Context) *meter {
	m, _ := ctx.Value(meterKey{}).(*meter) // nil if there is none
	return m
}

// join adds a listener, which learns at once how far the work is; leave removes it, and waits for it to have returned.
func (m *meter) join(report func(Progress)) (leave func()) {
	if report == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reports == nil {
		m.reports = make(map[int]func(Progress))
	}
	id := m.next
	m.next++
	m.reports[id] = report
	if m.now.Phase != "" {
		report(m.now)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.reports, id)
	}
}

// phase begins a phase.
func (m *meter) phase(p Phase, total int64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = Progress{Phase: p, Total: total}
	m.say()
}

// add counts bytes. When the last one is here the download becomes unpacking.
func (m *meter) add(n int64) {
	if m == nil || n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Done += n
	if all := m.now.Total > 0 && m.now.Done >= m.now.Total; all {
		m.say()
		if m.now.Phase == Downloading {
			m.now.Phase = Unpacking
			m.say()
		}
	} else if time.Since(m.said) >= progressEvery {
		m.say()
	}
}

func (m *meter) say() {
	m.said = time.Now()
	for _, report := range m.reports {
		report(m.now)
	}
}

// meteredSource counts what is read of an image's blobs.
type meteredSource struct {
	source
	meter *meter
}

func (s meteredSource) GetBlob(ctx context.Context, info types.BlobInfo) (io.ReadCloser, int64, error) {
	rc, size, err := s.source.GetBlob(ctx, info)
	if err != nil {
		return nil, 0, err
	}
	return meteredReader{rc, s.meter}, size, nil
}

type meteredReader struct {
	io.ReadCloser
	meter *meter
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.meter.add(int64(n))
	return n, err
}
