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

// apply unpacks the tar stream r into the tree. Owners, xattrs, setuid, setgid and devices are not taken over; modes
// and the files' modification times are (a .pyc is valid only for its source's time).
func (t *tree) apply(ctx context.Context, r io.Reader, lower bool) error {
	t.upper = nil
	if lower {
		t.upper = map[slot]struct{}{}
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
		if err := t.entry(ctx, hdr, tr); err != nil {
			return fmt.Errorf("cannot unpack entry %.300q: %w", hdr.Name, err)
		}
	}
}

func (t *tree) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return t.charge(0)
	}
	// Before anything else: a header can declare a terabyte of nothing (a sparse file).
	var size int64
	if isFile(hdr) { // others may carry a size that means nothing
		size = hdr.Size
	}
	if err := t.charge(size); err != nil {
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
		if done, err := t.whiteout(parentPath, name); done || err != nil {
			return err
		}
	}
	parent, err := t.dir(parentPath, true)
	if err != nil {
		return err
	}
	if err := t.make(ctx, hdr, r, parent, name); err != nil {
		return err
	}
	t.mark(parent.ino, name)
	return nil
}

// make puts one entry into a directory.
func (t *tree) make(ctx context.Context, hdr *tar.Header, r io.Reader, parent *dir, name string) error {
	mode := uint32(hdr.Mode) & 0o7777 //nolint:gosec // only these bits
	if isFile(hdr) {
		return t.file(ctx, parent, name, mode, hdr, r)
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		st, err := lstat(parent, name)
		if err == nil && isDir(st) {
			return t.chmodDir(parent, name, mode)
		}
		if err := t.remove(parent, name); err != nil {
			return err
		}
		return t.mkdir(parent, name, mode)

	case tar.TypeSymlink:
		if hdr.Linkname == "" || len(hdr.Linkname) >= maxPath || strings.ContainsRune(hdr.Linkname, 0) {
			return fmt.Errorf("its target %.100q cannot be that of a symbolic link", hdr.Linkname)
		}
		// Whatever it points to: it is resolved inside the root only.
		return t.put(parent, name, func() error { return unix.Symlinkat(hdr.Linkname, parent.fd, name) })

	case tar.TypeLink:
		return t.hardLink(hdr.Linkname, parent, name)

	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		t.skipped++
		return t.remove(parent, name) // it would have replaced that
	}
	return fmt.Errorf("its type %q is unknown", hdr.Typeflag)
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

// file writes a regular file; always a new inode, so that hard links to what was there before keep their content.
func (t *tree) file(ctx context.Context, parent *dir, name string, mode uint32, hdr *tar.Header, r io.Reader) (err error) {
	var fd int
	err = t.put(parent, name, func() (err error) {
		fd, err = openRetry(parent.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = t.copy(ctx, fd, r, hdr.Size)
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

func (t *tree) copy(ctx context.Context, fd int, r io.Reader, size int64) error {
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, t.buf[:min(size, int64(len(t.buf)))])
		if err != nil {
			return fmt.Errorf("cannot read its content: %w", noEOF(err))
		}
		size -= int64(n)
		for b := t.buf[:n]; len(b) > 0; {
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
func (t *tree) hardLink(target string, parent *dir, name string) error {
	path, err := cleanPath(target)
	if err != nil {
		return fmt.Errorf("its target %.300q: %w", target, err)
	}
	if path == "" {
		return errors.New("its target is the root directory")
	}
	toPath, toName := split(path)
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

// whiteout removes what lower layers put there. done is false where the name is an ordinary one after all.
func (t *tree) whiteout(parentPath, name string) (done bool, err error) {
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
	if t.upper == nil {
		return true, nil // there is no lower layer
	}
	parent, err := t.dir(parentPath, false)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return true, nil // no such directory, nothing to hide
	}
	if err != nil {
		return true, err
	}
	if opaque {
		return true, t.eachChild(parent, ".", t.hide)
	}
	return true, t.hide(parent, hidden)
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
