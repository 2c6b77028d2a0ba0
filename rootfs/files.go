package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A fileWriter makes regular files. They have their names at once; their content is written some files behind, by a
// goroutine of its own: on a file system a small file takes as long to be made as to be filled, and both together longer
// than decoding it. What is done to a name meanwhile does not matter, for the file is open. Each stream of layers has its
// own; it belongs to one goroutine.
type fileWriter struct {
	umask0  bool // the process has no umask: modes need not be set once more
	now     *batch
	full    chan *batch
	empty   chan *batch
	running sync.WaitGroup

	mu  sync.Mutex
	err error // the first of what went wrong behind
}

// A batch is what is handed over at once: for each small file alone it would cost more than writing it.
type batch struct {
	b     []byte
	parts []part
}

// A part is the next size bytes of an open file.
type part struct {
	fd   int
	size int
	last bool
	it   item // of the last: what is left to be done
}

// batches bounds the memory (two are under way while one is filled), batchFiles the files that are open.
const (
	batches    = 3
	batchFiles = 16
)

func newFileWriter(umask0 bool) *fileWriter {
	w := &fileWriter{umask0: umask0, full: make(chan *batch, batches), empty: make(chan *batch, batches)}
	for range batches {
		w.empty <- &batch{}
	}
	w.running.Go(func() {
		for b := range w.full {
			w.fill(b)
			w.empty <- b
		}
	})
	return w
}

// close waits for the goroutine; what has not been flushed may be written or not.
func (w *fileWriter) close() {
	w.hand()
	close(w.full)
	w.running.Wait()
}

// flush waits until all is written, and says what went wrong, of the first file that did.
func (w *fileWriter) flush() error {
	w.hand()
	var all [batches]*batch
	for i := range all {
		all[i] = <-w.empty
	}
	for _, b := range all {
		w.empty <- b
	}
	return w.failed()
}

func (w *fileWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *fileWriter) hand() {
	if w.now != nil {
		w.full <- w.now
		w.now = nil
	}
}

// write makes a file whose name has to be free, and reads its content. What is half written when it fails is left to
// whoever removes the tree. That an earlier file could not be written is an error too, of which flush says more.
func (w *fileWriter) write(ctx context.Context, parent *dir, name string, it item, r io.Reader) error {
	if err := w.failed(); err != nil {
		return err
	}
	fd, err := createFile(parent.fd, name, permissions(it))
	if err != nil {
		return err
	}
	for left := it.size; ; {
		room := w.room()
		n, err := io.ReadFull(r, room[:min(left, int64(len(room)))])
		left -= int64(n)
		if err == nil {
			err = ctx.Err()
		} else {
			err = fmt.Errorf("cannot read its content: %w", noEOF(err))
		}
		last := left == 0 || err != nil // the goroutine closes it
		w.now.b = w.now.b[:len(w.now.b)+n]
		w.now.parts = append(w.now.parts, part{fd: fd, size: n, last: last, it: it})
		if last {
			return err
		}
	}
}

// permissions: the owner can always read and write it, as all of the tree.
func permissions(it item) uint32 { return it.mode&0o777 | 0o600 }

// room is where the next bytes go.
func (w *fileWriter) room() []byte {
	if w.now != nil && (len(w.now.b) == cap(w.now.b) || len(w.now.parts) >= batchFiles) {
		w.hand()
	}
	if w.now == nil {
		w.now = <-w.empty
		if w.now.b == nil {
			w.now.b = make([]byte, 0, chunkSize)
		}
	}
	return w.now.b[len(w.now.b):cap(w.now.b)]
}

// fill writes a batch. After an error it only closes files.
func (w *fileWriter) fill(b *batch) {
	rest := b.b
	for _, p := range b.parts {
		err := w.failed()
		good := err == nil
		if good {
			err = writeAll(p.fd, rest[:p.size])
		}
		rest = rest[p.size:]
		if p.last {
			if err == nil && !w.umask0 {
				err = unix.Fchmod(p.fd, permissions(p.it))
			}
			if err == nil {
				err = setTime(p.fd, p.it.mtime)
			}
			err = errors.Join(err, closeFile(p.fd))
		}
		if good && err != nil {
			w.mu.Lock()
			w.err = entryError(p.it.path, err)
			w.mu.Unlock()
		}
	}
	b.b, b.parts = b.b[:0], b.parts[:0]
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := writeFile(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// setTime sets a file's modification time; times that the file system cannot hold are left at now.
func setTime(fd int, mtime time.Time) error {
	if mtime.Unix() < 0 || mtime.Unix() > 1<<33 {
		return nil
	}
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return nil //nolint:nilerr // a year that does not fit: as above
	}
	return setTimes(fd, ts)
}
