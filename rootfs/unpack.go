package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
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

// An applier is one layer on its way into a tree.
type applier struct {
	*tree
	// upper has what this layer put where, by directory and name, and all directories on the way: a whiteout hides
	// lower layers only, wherever it stands in the archive. Nil in the first layer, which has nothing below it.
	upper map[slot]struct{}
}

type slot struct {
	dir  uint64
	name string
}

// apply unpacks the tar stream r into the tree. Owners, xattrs, setuid, setgid and devices are not taken over; modes
// and the files' modification times are (a .pyc is valid only for its source's time).
func (t *tree) apply(ctx context.Context, r io.Reader, lower bool) error {
	a := applier{tree: t}
	if lower {
		a.upper = map[slot]struct{}{}
	}
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read its archive after %d entries: %w", t.entries, err)
		}
		t.closeStale()
		if err := a.entry(ctx, hdr, tr); err != nil {
			return fmt.Errorf("cannot unpack entry %.300q: %w", hdr.Name, err)
		}
	}
}

func (a *applier) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return a.charge(0)
	}
	// Before anything else: a header can declare a terabyte of nothing (a sparse file).
	var size int64
	if isFile(hdr) { // others may carry a size that means nothing
		size = hdr.Size
	}
	if err := a.charge(size); err != nil {
		return err
	}
	path, err := cleanPath(hdr.Name)
	if err != nil {
		return err
	}
	if path == "" {
		if hdr.Typeflag != tar.TypeDir {
			return errors.New("it would replace the root directory")
		}
		return nil // the root's mode is ours to choose
	}
	parentPath, name := split(path)
	if strings.HasPrefix(name, whPrefix) || strings.Contains(parentPath, whPrefix) {
		if done, err := a.whiteout(parentPath, name); done || err != nil {
			return err
		}
	}
	parent, err := a.dir(parentPath, true)
	if err != nil {
		return err
	}
	if err := a.make(ctx, hdr, r, parent, name); err != nil {
		return err
	}
	a.mark(parent.ino, name)
	return nil
}

// make puts one entry into a directory.
func (a *applier) make(ctx context.Context, hdr *tar.Header, r io.Reader, parent *dir, name string) error {
	mode := uint32(hdr.Mode) & 0o7777 //nolint:gosec // only these bits
	if isFile(hdr) {
		return a.file(ctx, parent, name, mode, hdr, r)
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		st, err := lstat(parent, name)
		if err == nil && isDir(st) {
			return a.chmodDir(parent, name, mode)
		}
		if err := a.remove(parent, name); err != nil {
			return err
		}
		return a.mkdir(parent, name, mode)

	case tar.TypeSymlink:
		if hdr.Linkname == "" || len(hdr.Linkname) >= maxPath || strings.ContainsRune(hdr.Linkname, 0) {
			return fmt.Errorf("its target %.100q cannot be that of a symbolic link", hdr.Linkname)
		}
		// Whatever it points to: it is resolved inside the root only.
		return a.put(parent, name, func() error { return unix.Symlinkat(hdr.Linkname, parent.fd, name) })

	case tar.TypeLink:
		return a.hardLink(hdr.Linkname, parent, name)

	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		a.skipped++
		return a.remove(parent, name) // it would have replaced that
	}
	return fmt.Errorf("its type %q is unknown", hdr.Typeflag)
}

func isFile(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // old archives have it
		return true
	}
	return false
}

// put makes something new, and removes what has its name only if there is such a thing.
func (a *applier) put(parent *dir, name string, f func() error) error {
	err := f()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := a.remove(parent, name); err != nil {
		return err
	}
	return f()
}

// file writes a regular file; always a new inode, so that hard links to what was there before keep their content.
func (a *applier) file(ctx context.Context, parent *dir, name string, mode uint32, hdr *tar.Header, r io.Reader) (err error) {
	var fd int
	err = a.put(parent, name, func() (err error) {
		fd, err = openRetry(parent.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = a.copy(ctx, fd, r, hdr.Size)
	if err == nil {
		err = unix.Fchmod(fd, mode&0o777|0o600)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return setTime(parent, name, hdr.ModTime)
}

func (a *applier) copy(ctx context.Context, fd int, r io.Reader, size int64) error {
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, a.buf[:min(size, int64(len(a.buf)))])
		if err != nil {
			return fmt.Errorf("cannot read its content: %w", noEOF(err))
		}
		size -= int64(n)
		for b := a.buf[:n]; len(b) > 0; {
			w, err := unix.Write(fd, b)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			b = b[max(w, 0):]
		}
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// setTime sets a modification time; times that the file system cannot hold are left at now.
func setTime(parent *dir, name string, mtime time.Time) error {
	if mtime.Unix() < 0 || mtime.Unix() > 1<<33 {
		return nil
	}
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return nil //nolint:nilerr // a year that does not fit: as above
	}
	return unix.UtimesNanoAt(parent.fd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// hardLink links to a file of this or a lower layer. The target is a path inside the root, like any other; there is
// nothing to link to outside.
func (a *applier) hardLink(target string, parent *dir, name string) error {
	path, err := cleanPath(target)
	if err != nil {
		return fmt.Errorf("its target %.300q: %w", target, err)
	}
	if path == "" {
		return errors.New("its target is the root directory")
	}
	toPath, toName := split(path)
	to, err := a.dir(toPath, false)
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
	return a.put(parent, name, func() error { return unix.Linkat(to.fd, toName, parent.fd, name, 0) })
}

// whiteout removes what lower layers put there. done is false where the name is an ordinary one after all.
func (a *applier) whiteout(parentPath, name string) (done bool, err error) {
	for c := range strings.SplitSeq(parentPath, "/") {
		if strings.HasPrefix(c, whMeta) {
			return true, nil // AUFS's bookkeeping
		}
		if strings.HasPrefix(c, whPrefix) {
			return true, errors.New("a directory on its path is a whiteout")
		}
	}
	hidden, ok := strings.CutPrefix(name, whPrefix)
	if !ok {
		return false, nil
	}
	opaque := name == whOpaque
	switch {
	case opaque:
	case strings.HasPrefix(name, whMeta):
		return true, nil
	case hidden == "", hidden == ".", hidden == "..":
		return true, errors.New("it is a whiteout of nothing, of its own directory or of the one above")
	}
	if a.upper == nil {
		return true, nil // there is no lower layer
	}
	parent, err := a.dir(parentPath, false)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return true, nil // no such directory, nothing to hide
	}
	if err != nil {
		return true, err
	}
	if opaque {
		return true, a.eachChild(parent, ".", a.hide)
	}
	return true, a.hide(parent, hidden)
}

// hide removes name unless this layer put it there; of a directory it then removes what this layer did not put there.
func (a *applier) hide(parent *dir, name string) error {
	if _, ok := a.upper[slot{parent.ino, name}]; !ok {
		return a.remove(parent, name)
	}
	st, err := lstat(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil || !isDir(st) {
		return err
	}
	return a.eachChild(parent, name, a.hide)
}

// mark notes that this layer has something there, and so on all directories above.
func (a *applier) mark(dir uint64, name string) {
	if a.upper == nil {
		return
	}
	for {
		s := slot{dir, name}
		if _, ok := a.upper[s]; ok {
			return
		}
		a.upper[s] = struct{}{}
		info := a.dirs[dir]
		if info.parent == dir {
			return // the root
		}
		dir, name = info.parent, info.name
	}
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
