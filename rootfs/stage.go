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

// A staged layer is one whose turn has not come: it has been read before all of those below it were. Its files have been
// made already, beside the tree (fileWriter may still be filling the last of them); everything else is a log of what to do.
//
// When its turn comes the log is replayed, in its order, by the code that would have unpacked the archive, with a
// rename where that would have written a file. So the tree is the same as if all layers had been unpacked one after the
// other, whatever links, whiteouts and replaced directories mean together: nothing is decided before everything below is
// there. The log is a file because an image may have a million entries with long names.
//
// Files of directories that come with all that is in them are captured (capture.go); others lie in a flat directory.
type staged struct {
	path     string // of the directory beside the tree
	dir      *dir
	log      *os.File
	w        *bufio.Writer
	files    *fileWriter
	flat     int // files outside of captures
	captures int
	capture  *capture // the open one
	rec      []byte
}

// A stagedItem is an entry of the log.
type stagedItem struct {
	item
	kind stagedKind
	ino  uint64 // of a captured directory
}

type stagedKind byte

const (
	flat     stagedKind = iota
	captured            // it lies in the capture that was opened last
	opens               // it is the directory that opens one
)

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

// add writes an entry to the log, and makes a file beside it.
func (s *staged) add(it item) error {
	kind, err := classify(it.path)
	if err != nil {
		return err
	}
	si := stagedItem{item: it}
	if kind == ordinary {
		err = s.place(&si)
	} else {
		s.capture = nil
	}
	if err != nil {
		return err
	}
	b := append(s.rec[:0], byte(si.kind), it.typ)
	b = binary.AppendUvarint(b, uint64(it.mode))
	b = binary.AppendUvarint(b, si.ino)
	b = binary.AppendUvarint(b, uint64(len(it.path)))
	b = append(b, it.path...)
	b = binary.AppendUvarint(b, uint64(len(it.link)))
	b = append(b, it.link...)
	s.rec = b
	_, err = s.w.Write(b)
	return err
}

// place puts what can be made of an entry already into a capture, or else a file into the flat directory.
func (s *staged) place(si *stagedItem) error {
	done, err := s.toCapture(si)
	if done || err != nil || si.typ != tar.TypeReg {
		return err
	}
	name := flatName(s.flat)
	s.flat++
	return s.files.create(s.dir, name, si.item)
}

func flatName(n int) string { return "f" + strconv.Itoa(n) }

// replay does what the log says to the tree.
func (s *staged) replay(ctx context.Context, t *tree) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	if _, err := s.log.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, c, next := bufio.NewReaderSize(s.log, 32<<10), captureReplay{s: s, t: t}, 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		si, err := s.read(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("internal error: cannot read the log of a layer: %w", err)
		}
		if si.kind == flat {
			err = t.add(si.item, func(parent *dir, name string) error {
				from := flatName(next)
				next++
				return t.put(parent, name, func() error { return renameNew(s.dir, from, parent, name) })
			})
		} else {
			err = c.add(si)
		}
		if err != nil {
			return entryError(si.path, err)
		}
	}
	if next != s.flat {
		return fmt.Errorf("internal error: the log of a layer has %d files of %d", next, s.flat)
	}
	return nil
}

func (s *staged) read(r *bufio.Reader) (si stagedItem, err error) {
	kind, err := r.ReadByte()
	if err != nil {
		return si, err // io.EOF: the end
	}
	si.kind = stagedKind(kind)
	if si.typ, err = r.ReadByte(); err != nil {
		return si, noEOF(err)
	}
	mode, err := binary.ReadUvarint(r)
	if err == nil {
		si.ino, err = binary.ReadUvarint(r)
	}
	if err != nil {
		return si, noEOF(err)
	}
	si.mode = uint32(mode) // written from a uint32
	for _, p := range []*string{&si.path, &si.link} {
		n, err := binary.ReadUvarint(r)
		if err == nil && n >= maxPath {
			err = errors.New("a name is too long")
		}
		if err != nil {
			return si, noEOF(err)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return si, noEOF(err)
		}
		*p = string(b)
	}
	return si, nil
}

// renameByLink is renameNew where the system cannot do it at once.
func renameByLink(from *dir, old string, to *dir, name string) error {
	if err := unix.Linkat(from.fd, old, to.fd, name, 0); err != nil {
		return err
	}
	return unix.Unlinkat(from.fd, old, 0)
}
