package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Whiteouts: image-spec layer.md, "Whiteouts".
const (
	whPrefix = ".wh."
	whMeta   = ".wh..wh." // AUFS's own bookkeeping; of these only the opaque marker means something
	whOpaque = ".wh..wh..opq"
)

// An item is one entry of a layer, as far as it means anything here. Owners, xattrs, setuid and setgid do not; modes and
// the files' modification times do (a .pyc is valid only for its source's time).
type item struct {
	typ   byte   // of archive/tar; TypeReg for everything that is a file
	path  string // clean, below the root; empty for the root itself
	link  string // the target of a hard or symbolic link
	mode  uint32
	mtime time.Time
	size  int64 // of a file
}

// newItem says what a header means, and refuses what it may not.
func newItem(hdr *tar.Header) (it item, err error) {
	it = item{typ: hdr.Typeflag, mode: uint32(hdr.Mode) & 0o7777, mtime: hdr.ModTime}
	if isFile(hdr) { // others may carry a size that means nothing
		it.typ, it.size = tar.TypeReg, hdr.Size
	}
	if it.path, err = cleanPath(hdr.Name); err != nil {
		return it, err
	}
	if it.path == "" && it.typ != tar.TypeDir {
		return it, errors.New("it would replace the root directory")
	}
	switch it.typ {
	case tar.TypeReg, tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeSymlink:
		if it.link = hdr.Linkname; it.link == "" || len(it.link) >= maxPath || strings.ContainsRune(it.link, 0) {
			return it, fmt.Errorf("its target %.100q cannot be that of a symbolic link", it.link)
		}
	case tar.TypeLink:
		if it.link, err = cleanPath(hdr.Linkname); err != nil {
			return it, fmt.Errorf("its target %.300q: %w", hdr.Linkname, err)
		}
		if it.link == "" {
			return it, errors.New("its target is the root directory")
		}
	default:
		return it, fmt.Errorf("its type %q is unknown", it.typ)
	}
	return it, nil
}

// An unpackError says which entry it was.
type unpackError struct {
	name string
	err  error
}

func (e *unpackError) Error() string {
	return fmt.Sprintf("cannot unpack entry %.300q: %v", e.name, e.err)
}
func (e *unpackError) Unwrap() error { return e.err }

// entryError is err with the name of the entry, unless it has one: a layer that takes its turn does what others are about.
func entryError(name string, err error) error {
	if as := (*unpackError)(nil); errors.As(err, &as) {
		return err
	}
	return &unpackError{name, err}
}

// begin begins a layer that may add q. lower says that there are layers below it.
func (t *tree) begin(q *quota, lower bool) {
	t.quota, t.upper = q, nil
	if lower {
		t.upper = map[slot]struct{}{}
	}
}

// add puts one entry into the tree. What a file consists of is for file to know.
func (t *tree) add(it item, file func(parent *dir, name string) error) error {
	t.closeStale()
	if it.path == "" {
		return nil // the root's mode is ours to choose
	}
	if done, err := t.whiteout(it.path); done || err != nil {
		return err
	}
	parentPath, name := split(it.path)
	parent, err := t.dir(parentPath, true)
	if err != nil {
		return err
	}
	if err := t.make(it, parent, name, file); err != nil {
		return err
	}
	t.mark(parent.ino, name)
	return nil
}

// make puts one entry into a directory.
func (t *tree) make(it item, parent *dir, name string, file func(parent *dir, name string) error) error {
	switch it.typ {
	case tar.TypeReg:
		// Always a new inode, so that hard links to what was there before keep their content.
		return file(parent, name)
	case tar.TypeDir:
		st, err := lstat(parent, name)
		if err == nil && isDir(st) {
			return chmodDir(parent, name, it.mode)
		}
		if err := t.remove(parent, name); err != nil {
			return err
		}
		return t.mkdir(parent, name, it.mode)
	case tar.TypeSymlink:
		// Whatever it points to: it is resolved inside the root only.
		return t.put(parent, name, func() error { return unix.Symlinkat(it.link, parent.fd, name) })
	case tar.TypeLink:
		return t.hardLink(it.link, parent, name)
	default: // newItem: a device, a FIFO
		t.skipped++
		return t.remove(parent, name) // it would have replaced that
	}
}

// isFile: archive/tar makes TypeReg of the old TypeRegA itself.
func isFile(hdr *tar.Header) bool {
	return hdr.Typeflag == tar.TypeReg || hdr.Typeflag == tar.TypeCont || hdr.Typeflag == tar.TypeGNUSparse
}

// put makes something new, and removes what has its name only if there is such a thing.
func (t *tree) put(parent *dir, name string, f func() error) error {
	err := f()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := t.remove(parent, name); err != nil {
		return err
	}
	return f()
}

// hardLink links to a file of this or a lower layer. The target is a path inside the root, like any other; there is
// nothing to link to outside.
func (t *tree) hardLink(target string, parent *dir, name string) error {
	toPath, toName := split(target)
	to, err := t.dir(toPath, false)
	if err != nil {
		return fmt.Errorf("its target %.300q: %w", target, err)
	}
	st, err := lstat(to, toName)
	if err != nil {
		return fmt.Errorf("its target %.300q: %w", target, err)
	}
	if isDir(st) {
		return fmt.Errorf("its target %.300q is a directory", target)
	}
	if old, err := lstat(parent, name); err == nil && old.Ino == st.Ino {
		return nil // linked to itself, or once more: removing it first could remove the only name
	}
	return t.put(parent, name, func() error { return unix.Linkat(to.fd, toName, parent.fd, name, 0) })
}

// A whiteKind says what a name that begins with .wh. means.
type whiteKind int

const (
	ordinary    whiteKind = iota
	bookkeeping           // AUFS's: nothing
	hides                 // one name
	opaque                // everything that lower layers have in its directory
)

// classify finds whiteouts by their path alone.
func classify(path string) (whiteKind, error) {
	if !strings.Contains(path, whPrefix) {
		return ordinary, nil
	}
	parent, name := split(path)
	for c := range strings.SplitSeq(parent, "/") {
		if strings.HasPrefix(c, whMeta) {
			return bookkeeping, nil
		}
		if strings.HasPrefix(c, whPrefix) {
			return ordinary, errors.New("a directory on its path is a whiteout")
		}
	}
	switch {
	case !strings.HasPrefix(name, whPrefix):
		return ordinary, nil
	case name == whOpaque:
		return opaque, nil
	case strings.HasPrefix(name, whMeta):
		return bookkeeping, nil
	case name == whPrefix, name == whPrefix+".", name == whPrefix+"..":
		return ordinary, errors.New("it is a whiteout of nothing, of its own directory or of the one above")
	}
	return hides, nil
}

// whiteout removes what lower layers put there. done is false where the name is an ordinary one.
func (t *tree) whiteout(path string) (done bool, err error) {
	kind, err := classify(path)
	if err != nil || kind == ordinary || kind == bookkeeping {
		return kind != ordinary, err
	}
	if t.upper == nil {
		return true, nil // there is no lower layer
	}
	parentPath, name := split(path)
	parent, err := t.dir(parentPath, false)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return true, nil // no such directory, nothing to hide
	}
	if err != nil {
		return true, err
	}
	if kind == opaque {
		return true, t.eachChild(parent, ".", t.hide)
	}
	return true, t.hide(parent, strings.TrimPrefix(name, whPrefix))
}

// hide removes name unless this layer put it there; of a directory it then removes what this layer did not put there.
func (t *tree) hide(parent *dir, name string) error {
	if _, ok := t.upper[slot{parent.ino, name}]; !ok {
		return t.remove(parent, name)
	}
	st, err := lstat(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil || !isDir(st) {
		return err
	}
	return t.eachChild(parent, name, t.hide)
}

// cleanPath makes a name in an archive relative and clean. Nothing is repaired that only an attacker writes.
func cleanPath(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", errors.New("its name has a NUL byte")
	}
	if len(name) >= maxPath {
		return "", fmt.Errorf("%w: its name has more than %d bytes", errBound, maxPath-1)
	}
	var parts []string
	for c := range strings.SplitSeq(name, "/") {
		switch {
		case c == "", c == ".":
			continue
		case c == "..":
			return "", errors.New(`its name has ".."`)
		case len(c) > maxName:
			return "", fmt.Errorf("%w: a part of its name has more than %d bytes", errBound, maxName)
		}
		parts = append(parts, c)
	}
	if len(parts) > maxDepth+1 {
		return "", fmt.Errorf("%w: it is more than %d directories deep", errBound, maxDepth)
	}
	return strings.Join(parts, "/"), nil
}

func split(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}
