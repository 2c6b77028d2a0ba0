package rootfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// dirFlags open a directory for use with the *at calls only: that needs no permission to read it.
const dirFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// openInRoot opens a directory as if root were "/": links, absolute ones too, and ".." stay inside. ENOSYS says that
// this kernel (or a seccomp filter of an old container engine, which answers EPERM) has no openat2.
func openInRoot(root int, path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 100 { // tries; a machine that renames all the time goes the slow way
		fd, err := unix.Openat2(root, path, &how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // EAGAIN: a rename somewhere raced
			continue
		case errors.Is(err, unix.EPERM):
			return -1, unix.ENOSYS
		}
		return fd, err
	}
	return -1, unix.ENOSYS
}

// renameNew renames unless the new name is taken, which is EEXIST.
func renameNew(from *dir, old string, to *dir, name string) error {
	err := unix.Renameat2(from.fd, old, to.fd, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // the file system cannot
		return renameByLink(from, old, to, name)
	}
	return err
}
