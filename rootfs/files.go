package rootfs

import (
	"errors"
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
	open    int  // the file whose content comes; -1: none
	full    chan *batch
	empty   chan *batch
	running sync.WaitGroup

	mu  sync.Mutex
	err error // the first of what went wrong behind
}

// A batch is what is handed over at once: for each small file alone it would cost more than writing it. It goes from
// whoever parses an archive (entries.go) to whoever makes the entries, on to whoever fills the files, and back.
type batch struct {
	b     []byte
	parts []part
	err   error // how the archive ends behind it: io.EOF, or why it cannot be read
}

// A part is an entry, or more of the content of the one before.
type part struct {
	tarEntry
	first, last bool
	size        int // of the content in the batch
	fd          int // where that goes; -1: nowhere
}

// batches bounds the memory (there is one for each of the three, and one that waits), batchParts the files that are open.
const (
	batches    = 4
	batchParts = 16
)

func newFileWriter(umask0 bool) *fileWriter {
	w := &fileWriter{umask0: umask0, open: -1, full: make(chan *batch, batches), empty: make(chan *batch, batches)}
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
	close(w.full)
	w.running.Wait()
}

// flush waits until all is written, and says what went wrong, of the first file that did.
func (w *fileWriter) flush() error {
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

// create makes a file whose name has to be free. Its content is what follows in the batch. What is half written when
// something fails is left to whoever removes the tree.
func (w *fileWriter) create(parent *dir, name string, it item) (err error) {
	w.open, err = createFile(parent.fd, name, permissions(it))
	return err
}

// apply makes what is in a batch, each entry by add, which may call create. That an earlier file could not be written is an
// error too, of which flush says more.
func (w *fileWriter) apply(b *batch, add func(tarEntry) error) error {
	err := w.failed()
	for i := range b.parts {
		p := &b.parts[i]
		if p.first && err == nil {
			if err = add(p.tarEntry); err != nil {
				err = entryError(p.name, err)
			}
		}
		p.fd = w.open
		if p.last {
			w.open = -1
		}
	}
	w.full <- b
	return err
}

// abandon closes the file whose content does not come any more.
func (w *fileWriter) abandon() {
	if w.open >= 0 {
		b := <-w.empty
		b.parts = append(b.parts, part{fd: w.open, last: true})
		w.open = -1
		w.full <- b
	}
}

// permissions: the owner can always read and write it, as all of the tree.
func permissions(it item) uint32 { return it.mode&0o777 | 0o600 }

// fill writes a batch. After an error it only closes files.
func (w *fileWriter) fill(b *batch) {
	rest := b.b
	for _, p := range b.parts {
		if p.fd < 0 {
			rest = rest[p.size:]
			continue
		}
		err := w.failed()
		good := err == nil
		if good {
			err = writeAll(p.fd, rest[:p.size])
		}
		rest = rest[p.size:]
		if p.last {
			if err == nil && !w.umask0 {
				err = unix.Fchmod(p.fd, permissions(p.item))
			}
			if err == nil {
				err = setTime(p.fd, p.mtime)
			}
			err = errors.Join(err, closeFile(p.fd))
		}
		if good && err != nil {
			w.mu.Lock()
			w.err = entryError(p.path, err)
			w.mu.Unlock()
		}
	}
	b.reset()
}

func (b *batch) reset() { b.b, b.parts, b.err = b.b[:0], b.parts[:0], nil }

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
		return nil // a year that does not fit
	}
	return setTimes(fd, ts)
}
