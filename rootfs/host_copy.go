package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// copy makes the snapshot in root, an empty directory.
func (s *snapshot) copy(ctx context.Context, root string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	// Sorted: a directory comes before what is in it.
	for _, path := range slices.Sorted(maps.Keys(s.items)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := copyItem(r, path, s.items[path]); err != nil {
			return fmt.Errorf("cannot copy %s: %w", path, err)
		}
	}
	t, err := openTree(root)
	if err != nil {
		return err
	}
	defer t.close()
	return t.mountPoints()
}

func copyItem(r *os.Root, path string, it hostItem) error {
	name := strings.TrimPrefix(path, "/")
	switch it.mode.Type() {
	case fs.ModeDir:
		if err := r.Mkdir(name, it.mode.Perm()); err != nil {
			return err
		}
		return r.Chmod(name, it.mode.Perm()) // whatever the umask
	case fs.ModeSymlink:
		return r.Symlink(it.target, name)
	}
	dst, err := r.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if it.content != "" {
		_, err = dst.WriteString(it.content)
	} else {
		err = copyContent(dst, path, it)
	}
	if err = errors.Join(err, dst.Chmod(it.mode.Perm()), dst.Close()); err != nil || it.content != "" {
		return err
	}
	mtime := time.Unix(0, it.mtime)
	return r.Chtimes(name, mtime, mtime)
}

// copyContent copies what was planned: a file that changed since is an error, because half an upgrade would be kept
// for good.
func copyContent(dst *os.File, path string, it hostItem) error {
	src, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() != it.size || fi.ModTime().UnixNano() != it.mtime {
		return errors.New("it is changing")
	}
	n, err := io.Copy(dst, io.LimitReader(src, it.size))
	if err == nil && n != it.size {
		err = errors.New("it is changing")
	}
	return err
}
