package rootfs

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These calls are made some thousand times for an image, and do not tell Go's scheduler: of one that takes 20 µs it thinks
// that it waits, and gives another thread its place, which costs more than the call. A large write does tell it: that is where
// the kernel makes wait who writes faster than the disk, and others can go on meanwhile.

// largeWrite is where the scheduler's part begins not to matter.
const largeWrite = 32 << 10

// createFile makes a file whose name has to be free, for writing.
func createFile(dir int, name string, mode uint32) (int, error) {
	b, err := unix.ByteSliceFromString(name)
	if err != nil {
		return -1, err
	}
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_LARGEFILE
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&b[0])), flags, uintptr(mode), 0, 0)
		if errno != unix.EINTR {
			return int(fd), orNil(errno)
		}
	}
}

func writeFile(fd int, b []byte) (int, error) {
	if len(b) >= largeWrite {
		return unix.Write(fd, b)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), orNil(errno) // at most len(b), or -1
}

func closeFile(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return orNil(errno)
}

// setTimes sets the times of an open file: without a name there is nothing to look up.
func setTimes(fd int, mtime unix.Timespec) error {
	ts := [2]unix.Timespec{mtime, mtime}
	_, _, errno := unix.RawSyscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	return orNil(errno)
}

func orNil(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
