//go:build !linux

package rootfs

import "golang.org/x/sys/unix"

// dirFlags open a directory; there is no O_PATH outside of Linux, but directories of a tree are readable by us.
const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// openInRoot says that there is no such call, so that the caller resolves links itself.
func openInRoot(int, string) (int, error) { return -1, unix.ENOSYS }

// renameNew renames unless the new name is taken, which is EEXIST.
func renameNew(from *dir, old string, to *dir, name string) error {
	return renameByLink(from, old, to, name)
}
