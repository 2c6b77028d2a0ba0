package rootfs

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A job is what an unpacker is told to do, and all that it knows of an image.
type job struct {
	Root    string     `json:"root"`    // an empty directory, to become the tree
	Scratch string     `json:"scratch"` // another one in the same file system
	Layers  []jobLayer `json:"layers"`

	bytes int64 // test only: what a layer may add, if not 0
}

type jobLayer struct {
	Size      int64            `json:"size"`      // of the blob
	Blob      digest.Algorithm `json:"blob"`      // of the blob's digest, which whoever sends the blob computes
	Algorithm digest.Algorithm `json:"algorithm"` // of the diff ID
}

// A jobResult is what it found.
type jobResult struct {
	DiffIDs []digest.Digest `json:"diffIDs"` // empty: the blob's digest, for a layer that is not compressed
	Skipped int             `json:"skipped,omitempty"`
	Bytes   int64           `json:"bytes"`
}

// A layerError says which layer of an image it was.
type layerError struct {
	layer int
	err   error
}

func (e *layerError) Error() string { return fmt.Sprintf("layer %d: %v", e.layer, e.err) }
func (e *layerError) Unwrap() error { return e.err }

// An unpacker makes one tree of layers that arrive at the same time. Layers are applied in their order: the lowest that
// is not finished has its turn and is written directly; those above it are staged meanwhile.
type unpacker struct {
	job    job
	budget budget
	tree   *tree // belongs to the goroutine whose layer has its turn
	umask0 bool
	come   []atomic.Bool // layers that have come

	turn   atomic.Int64 // changed with mu held
	mu     sync.Mutex
	waits  map[int]*layerWriter // read to their end before their turn
	result jobResult
}

// run unpacks the layers that come in streams: of each any number, one after the other, with the number of the layer in
// four bytes and then as many bytes as the job says. Streams end when all layers have come. A layer may come in any
// stream and at any time: none waits for another one. When it fails, the streams are closed.
func (j job) run(ctx context.Context, streams []io.ReadCloser, umask0 bool) (jobResult, error) {
	t, err := openTree(j.Root)
	if err != nil {
		return jobResult{}, err
	}
	defer t.close()
	u := &unpacker{job: j, tree: t, umask0: umask0, waits: map[int]*layerWriter{}, come: make([]atomic.Bool, len(j.Layers))}
	u.result.DiffIDs = make([]digest.Digest, len(j.Layers))
	defer u.closeWaiting()

	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { // a decoder may be waiting for more
		for _, s := range streams {
			s.Close()
		}
	})()
	for _, s := range streams {
		g.Go(func() error { return u.stream(ctx, s) })
	}
	if err := g.Wait(); err != nil {
		return jobResult{}, err
	}
	if n := int(u.turn.Load()); n != len(j.Layers) {
		return jobResult{}, fmt.Errorf("internal error: %d layers of %d have come", n, len(j.Layers))
	}
	u.result.Skipped, u.result.Bytes = t.skipped, u.budget.bytes.Load()
	return u.result, nil
}

func (u *unpacker) closeWaiting() {
	for _, l := range u.waits {
		l.abandon()
	}
}

func (u *unpacker) stream(ctx context.Context, r io.Reader) error {
	files := newFileWriter(u.umask0)
	defer files.close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("internal error: cannot read which layer comes: %w", err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if uint64(n) >= uint64(len(u.job.Layers)) || u.come[n].Swap(true) {
			return fmt.Errorf("internal error: layer %d is not expected", n)
		}
		l := &layerWriter{u: u, n: int(n), quota: newQuota(&u.budget, u.job.Layers[n].Size), files: files}
		if u.job.bytes > 0 {
			l.quota.left = u.job.bytes
		}
		if err := u.read(ctx, l, io.LimitReader(r, u.job.Layers[n].Size)); err != nil {
			l.abandon()
			return &layerError{l.n, err}
		}
		if err := u.finished(ctx, l); err != nil {
			return err
		}
	}
}

// read reads one layer to its end.
func (u *unpacker) read(ctx context.Context, l *layerWriter, blob io.Reader) error {
	r, err := newLayerReader(blob, u.job.Layers[l.n], l.quota.left)
	if err != nil {
		return err
	}
	defer r.close()
	err = eachItem(ctx, r, l.quota, l.files, func(it item) error { return l.add(ctx, it) })
	u.result.DiffIDs[l.n], err = r.finish(ctx, cmp.Or(l.files.flush(), err))
	return err
}

// A layerWriter takes the entries of one layer.
type layerWriter struct {
	u      *unpacker
	n      int
	quota  *quota
	files  *fileWriter
	staged *staged // until its turn comes
	direct bool    // since then
}

func (l *layerWriter) add(ctx context.Context, it item) error {
	if !l.direct {
		if int(l.u.turn.Load()) != l.n {
			return l.stage(it)
		}
		if err := l.takeTurn(ctx); err != nil {
			return err
		}
	}
	t := l.u.tree
	return t.add(it, func(parent *dir, name string) error {
		return t.put(parent, name, func() error { return l.files.create(parent, name, it) })
	})
}

func (l *layerWriter) stage(it item) (err error) {
	if l.staged == nil {
		if l.staged, err = newStaged(filepath.Join(l.u.job.Scratch, strconv.Itoa(l.n)), l.files); err != nil {
			return err
		}
	}
	return l.staged.add(it)
}

// takeTurn does what has been staged. From here on the tree is this layer's.
func (l *layerWriter) takeTurn(ctx context.Context) error {
	l.direct = true
	l.u.tree.begin(l.quota, l.n > 0)
	s := l.staged
	if s == nil {
		return nil
	}
	l.staged = nil
	err := s.replay(ctx, l.u.tree)
	return errors.Join(err, s.remove())
}

func (l *layerWriter) abandon() {
	if l.staged != nil {
		l.staged.close()
	}
}

// finished ends a layer that has been read. If it has its turn, so do the layers above it that wait.
func (u *unpacker) finished(ctx context.Context, l *layerWriter) error {
	for l != nil {
		if !l.direct && !u.hasTurn(l) {
			return nil // whoever finishes the one below does it
		}
		if !l.direct {
			if err := l.takeTurn(ctx); err != nil {
				return &layerError{l.n, err}
			}
		}
		u.mu.Lock()
		u.turn.Store(int64(l.n + 1))
		l = u.waits[l.n+1]
		if l != nil {
			delete(u.waits, l.n)
		}
		u.mu.Unlock()
	}
	return nil
}

// hasTurn says if a layer has its turn; else it is left for later.
func (u *unpacker) hasTurn(l *layerWriter) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if int(u.turn.Load()) == l.n {
		return true
	}
	u.waits[l.n] = l
	return false
}
