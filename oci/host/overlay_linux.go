//go:build linux

package host

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenRootfs opens an image's directory, as good for its path only.
func OpenRootfs(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the image's directory: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// CoverRootfs puts a read-only overlay of the image over the image's own directory, in this thread's mount namespace, for
// a runtime to find there and take for its root. Of a plain directory /proc/self/mountinfo tells the guest the path on the
// host, and so the name of the user; of an overlay it tells the options as they were given, which are numbers of
// descriptors here.
//
// Where this cannot be done (overlayfs may be mounted in a user namespace since Linux 5.11), the directory itself is the
// root: a path is no reason to refuse a container.
func CoverRootfs(path string) {
	// overlayfs wants a second directory where nothing can be written, and an empty tmpfs can be had everywhere.
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	image, err := OpenRootfs(path)
	if err != nil {
		return
	}
	defer image.Close()
	if unix.Mount("none", path, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0755") != nil {
		return
	}
	empty, err := OpenRootfs(path)
	if err != nil {
		return
	}
	defer empty.Close()
	lower := fmt.Sprintf("lowerdir=/proc/self/fd/%d:/proc/self/fd/%d", image.Fd(), empty.Fd())
	if unix.Mount("none", path, "overlay", flags, lower) != nil {
		_ = unix.Unmount(path, unix.MNT_DETACH)
	}
}
