//go:build !linux

package rootfs

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// createFile makes a file whose name has to be free, for writing.
func createFile(dir int, name string, mode uint32) (int, error) {
	return openRetry(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, fs.FileMode(mode))
}

func writeFile(fd int, b []byte) (int, error) { return unix.Write(fd, b) }

func closeFile(fd int) error { return unix.Close(fd) }

// setTimes sets the times of an open file, in microseconds.
func setTimes(fd int, mtime unix.Timespec) error {
	tv := unix.NsecToTimeval(mtime.Nano())
	return unix.Futimes(fd, []unix.Timeval{tv, tv})
}
