package rootfs

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A staged layer is one whose turn has not come: it has been read before all of those below it were. The contents of
// its files are written already, to a flat directory beside the tree; everything else is a log of what to do.
//
// When its turn comes the log is replayed, in its order, by the code that would have unpacked the archive, with a
// rename where that would have written a file. So the tree is the same as if all layers had been unpacked one after the
// other, whatever links, whiteouts and replaced directories mean together: nothing is decided before everything below is
// there. The log is a file because an image may have a million entries with long names.
type staged struct {
	path  string // of the flat directory
	dir   *dir
	log   *os.File
	w     *bufio.Writer
	files *fileWriter
	count int // of files
	rec   []byte
}

func newStaged(path string, files *fileWriter) (*staged, error) {
	if err := mkdirMode(path, 0o700); err != nil {
		return nil, err
	}
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(path, "log"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &staged{path: path, dir: &dir{fd: fd}, log: log, w: bufio.NewWriterSize(log, 32<<10), files: files}, nil
}

func (s *staged) close() {
	unix.Close(s.dir.fd)
	s.log.Close()
}

// remove closes it, and removes what is left of it.
func (s *staged) remove() error {
	s.close()
	return os.RemoveAll(s.path)
}

// add writes an entry to the log, and a file's content beside it.
func (s *staged) add(ctx context.Context, it item, body io.Reader) error {
	kind, err := classify(it.path)
	if err != nil {
		return err
	}
	if it.typ == tar.TypeReg && kind == ordinary {
		if err := s.files.write(ctx, s.dir, strconv.Itoa(s.count), it, body); err != nil {
			return err
		}
		s.count++
	}
	b := append(s.rec[:0], it.typ)
	b = binary.AppendUvarint(b, uint64(it.mode))
	b = binary.AppendUvarint(b, uint64(len(it.path)))
	b = append(b, it.path...)
	b = binary.AppendUvarint(b, uint64(len(it.link)))
	b = append(b, it.link...)
	s.rec = b
	_, err = s.w.Write(b)
	return err
}

// replay does what the log says to the tree.
func (s *staged) replay(ctx context.Context, t *tree) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	if _, err := s.log.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, next := bufio.NewReaderSize(s.log, 32<<10), 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		it, err := s.read(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("internal error: cannot read the log of a layer: %w", err)
		}
		err = t.add(it, func(parent *dir, name string) error {
			number := strconv.Itoa(next)
			next++
			return t.put(parent, name, func() error { return renameNew(s.dir, number, parent, name) })
		})
		if err != nil {
			return entryError(it.path, err)
		}
	}
	if next != s.count {
		return fmt.Errorf("internal error: the log of a layer has %d files of %d", next, s.count)
	}
	return nil
}

func (s *staged) read(r *bufio.Reader) (it item, err error) {
	if it.typ, err = r.ReadByte(); err != nil {
		return it, err // io.EOF: the end
	}
	mode, err := binary.ReadUvarint(r)
	if err != nil {
		return it, noEOF(err)
	}
	it.mode = uint32(mode) //nolint:gosec // it was one
	for _, p := range []*string{&it.path, &it.link} {
		n, err := binary.ReadUvarint(r)
		if err == nil && n >= maxPath {
			err = errors.New("a name is too long")
		}
		if err != nil {
			return it, noEOF(err)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return it, noEOF(err)
		}
		*p = string(b)
	}
	return it, nil
}

// renameByLink is renameNew where the system cannot do it at once.
func renameByLink(from *dir, old string, to *dir, name string) error {
	if err := unix.Linkat(from.fd, old, to.fd, name, 0); err != nil {
		return err
	}
	return unix.Unlinkat(from.fd, old, 0)
}

