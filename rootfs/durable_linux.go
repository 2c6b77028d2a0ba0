package rootfs

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// bootID is another one each time the machine is started.
var bootID = sync.OnceValue(func() string {
	b, err := readProc("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// readProc reads a small file of /proc, whose size is always 0.
func readProc(path string) ([]byte, error) {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 100)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}

// syncFS writes the file system of a directory to its disk.
func syncFS(dir string) error {
	fd, err := openRetry(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}
