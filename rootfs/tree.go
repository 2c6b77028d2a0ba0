package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// A tree is a root directory that is being made. Everything in it is reached through descriptors of directories which
// the kernel resolved inside the root; names that are passed to a system call have a single component and are never
// followed. Nobody else writes to it (its parent is 0700), so what was looked at is still so when it is used.
type tree struct {
	path string
	root *dir

	// dirs knows every directory by its inode: we made them all. A removed one leaves its number behind, which does
	// no harm: it is written again when the number is used again.
	dirs map[uint64]dirInfo
	// open caches directories by the path they were asked for by. stale ones were resolved through something that
	// has been removed; they are closed when the next entry begins, because this one may still hold them.
	open  map[string]*dir
	stale []*dir

	// upper has what the layer that is being applied put where, and all directories on the way: a whiteout hides lower
	// layers only, wherever it stands in the archive. Nil in the first layer, which has nothing below it.
	upper map[slot]struct{}

	// quota is what the layer that is being applied may still add.
	quota     *quota
	noOpenat2 bool // test only: as on a kernel without it

	moves   int // directories that came with all that is in them
	skipped int // devices, FIFOs: what a container may not get from an image
}

type dir struct {
	fd  int
	ino uint64
}

type dirInfo struct {
	parent uint64
	name   string
	depth  int
}

// A slot is a name in a directory.
type slot struct {
	dir  uint64
	name string
}

// maxOpen is how many directories are kept open: tar archives come in depth-first order.
const maxOpen = 16

func openTree(path string) (*tree, error) {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	root, err := newDir(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	return &tree{
		path:  path,
		root:  root,
		dirs:  map[uint64]dirInfo{root.ino: {parent: root.ino}},
		open:  map[string]*dir{},
		quota: newQuota(&budget{}, maxBytes),
	}, nil
}

func newDir(fd int) (*dir, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &dir{fd: fd, ino: uint64(st.Ino)}, nil // the type differs by OS
}

func (t *tree) close() {
	t.forget()
	t.closeStale()
	unix.Close(t.root.fd)
}

// forget drops all resolved paths, because something that may be a part of one is about to be removed.
func (t *tree) forget() {
	for _, d := range t.open {
		t.stale = append(t.stale, d)
	}
	clear(t.open)
}

func (t *tree) closeStale() {
	for _, d := range t.stale {
		unix.Close(d.fd)
	}
	t.stale = t.stale[:0]
}

// dir opens the directory at path (clean, relative, "" for the root), following symbolic links inside the root. With
// create, what is missing is made, and a file in the way is replaced by a directory as umoci and containerd do.
func (t *tree) dir(path string, create bool) (*dir, error) {
	if path == "" {
		return t.root, nil
	}
	if d := t.open[path]; d != nil {
		return d, nil
	}
	fd, err := -1, error(unix.ENOSYS)
	if !t.noOpenat2 {
		fd, err = openInRoot(t.root.fd, path)
	}
	var d *dir
	switch {
	case err == nil:
		d, err = newDir(fd)
	case errors.Is(err, unix.ENOSYS), create && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)):
		d, err = t.walk(path, create)
	}
	if err != nil {
		return nil, err
	}
	if _, ok := t.dirs[d.ino]; !ok {
		unix.Close(d.fd)
		return nil, fmt.Errorf("internal error: %q is a directory that was not made here", path)
	}
	if len(t.open) >= maxOpen {
		t.forget()
	}
	t.open[path] = d
	return d, nil
}

// existing opens the directory at path if the kernel finds it with nothing missing on the way. release it.
func (t *tree) existing(path string) (*dir, error) {
	if path == "" {
		return t.root, nil
	}
	if t.noOpenat2 {
		return nil, unix.ENOSYS
	}
	fd, err := openInRoot(t.root.fd, path)
	if err != nil {
		return nil, err
	}
	d, err := newDir(fd)
	if err != nil {
		return nil, err
	}
	if _, ok := t.dirs[d.ino]; !ok {
		unix.Close(fd)
		return nil, unix.ENOENT
	}
	return d, nil
}

func (t *tree) release(d *dir) {
	if d != t.root {
		unix.Close(d.fd)
	}
}

// walk is dir without openat2: the links are resolved by securejoin, and the result is then opened component by
// component without following any.
func (t *tree) walk(path string, create bool) (*dir, error) {
	full, err := securejoin.SecureJoin(t.path, path)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(t.path, full)
	if err != nil {
		return nil, err
	}
	fd, err := openRetry(t.root.fd, ".", dirFlags, 0)
	if err != nil {
		return nil, err
	}
	d, err := newDir(fd)
	if err != nil {
		return nil, err
	}
	if rel == "." {
		return d, nil
	}
	for name := range strings.SplitSeq(rel, "/") {
		next, err := openRetry(d.fd, name, dirFlags, 0)
		if create && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT)) {
			if err = t.remove(d, name); err == nil {
				if err = t.quota.charge(0); err == nil {
					err = t.mkdir(d, name, 0o755)
				}
			}
			if err == nil {
				next, err = openRetry(d.fd, name, dirFlags, 0)
			}
		}
		unix.Close(d.fd)
		if err != nil {
			return nil, err
		}
		if d, err = newDir(next); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// mkdir makes a directory whose name is free.
func (t *tree) mkdir(parent *dir, name string, mode uint32) error {
	depth := t.dirs[parent.ino].depth + 1
	if depth > maxDepth {
		return fmt.Errorf("%w: directories are more than %d deep", errBound, maxDepth)
	}
	if err := unix.Mkdirat(parent.fd, name, 0o700); err != nil {
		return err
	}
	st, err := lstat(parent, name)
	if err != nil {
		return err
	}
	t.dirs[uint64(st.Ino)] = dirInfo{parent: parent.ino, name: name, depth: depth} // the type differs by OS
	t.mark(parent.ino, name)
	return chmodDir(parent, name, mode)
}

// chmodDir sets the mode of what is known to be a directory. The owner (whoever runs us) always keeps access: it has
// to put files there and to remove them one day.
func chmodDir(parent *dir, name string, mode uint32) error {
	return unix.Fchmodat(parent.fd, name, mode&0o1777|0o700, 0)
}

// remove removes whatever has this name; nothing there is fine.
func (t *tree) remove(parent *dir, name string) error {
	err := unix.Unlinkat(parent.fd, name, 0)
	if err == nil {
		t.forget() // it may have been a link that a path was resolved through
		return nil
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) { // EPERM: what POSIX wants for directories
		return err
	}
	t.forget()
	return t.removeDir(parent, name)
}

func (t *tree) removeDir(parent *dir, name string) error {
	err := t.eachChild(parent, name, func(d *dir, child string) error { return t.remove(d, child) })
	if err != nil {
		return err
	}
	return unix.Unlinkat(parent.fd, name, unix.AT_REMOVEDIR)
}

// eachChild calls f for every name in a directory, which f may remove.
func (t *tree) eachChild(parent *dir, name string, f func(d *dir, child string) error) error {
	fd, err := openRetry(parent.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	d := &dir{fd: fd}
	if st, err := lstat(parent, name); err != nil {
		return err
	} else {
		d.ino = uint64(st.Ino) // the type differs by OS
	}
	// All names first: what readdir(3) says of a directory that changes is not defined. At most maxEntries are there.
	names, err := file.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := f(d, child); err != nil {
			return err
		}
	}
	return nil
}

// mark notes that this layer has something there, and so on all directories above. Directories are marked
// when they are made, so that a slot left by a removed directory, whose number a new one has, ends this at the right place.
func (t *tree) mark(dir uint64, name string) {
	if t.upper == nil {
		return
	}
	for {
		s := slot{dir, name}
		if _, ok := t.upper[s]; ok {
			return
		}
		t.upper[s] = struct{}{}
		info := t.dirs[dir]
		if info.parent == dir {
			return // the root
		}
		dir, name = info.parent, info.name
	}
}

// mountPoints makes the directories that a sandbox mounts something on, because it cannot make them in a read-only
// root. One that is a link or a file would let an image choose where the mounts go.
func (t *tree) mountPoints() error {
	defer t.closeStale()
	for _, name := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "workspace"} {
		st, err := lstat(t.root, name)
		switch {
		case errors.Is(err, unix.ENOENT):
			err = t.mkdir(t.root, name, 0o755)
		case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			err = fmt.Errorf("it is a %s, and has to be a directory", fileType(uint32(st.Mode))) // the type differs by OS
			if name == "etc" || name == "run" || name == "sys" {
				err = nil // mounted on by podman only, which has its own care for links
			}
		}
		if err != nil {
			return fmt.Errorf("cannot use /%s of the image: %w", name, err)
		}
	}
	// podman mounts a file on each of these, and the root of its user namespace may not make them.
	for _, file := range [][2]string{{"etc", "hostname"}, {"run", ".containerenv"}} {
		if err := t.touch(file[0], file[1]); err != nil {
			return fmt.Errorf("cannot make /%s/%s in the image: %w", file[0], file[1], err)
		}
	}
	return nil
}

// touch makes an empty file, unless there is something of its name, or its directory is none.
func (t *tree) touch(parent, name string) error {
	in, err := openRetry(t.root.fd, parent, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return err
	}
	defer unix.Close(in)
	fd, err := openRetry(in, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case err != nil:
		return err
	}
	err = unix.Close(fd)
	never := make([]unix.Timespec, 2) // so that two trees of one image are the same
	return errors.Join(err, unix.UtimesNanoAt(in, name, never, unix.AT_SYMLINK_NOFOLLOW))
}

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFDIR:
		return "directory"
	}
	return "file"
}

func lstat(parent *dir, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(parent.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// openRetry is openat(2) that a signal does not end: Go's runtime sends itself some.
func openRetry(fd int, name string, flags int, mode fs.FileMode) (int, error) {
	for {
		n, err := unix.Openat(fd, name, flags, uint32(mode))
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
