package rootfs

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock access rights by the ABI version that brought them. Reading is not among them: the child has to read itself,
// and a thief who has no sockets cannot carry anything away.
const (
	fsWrites = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER // ABI 2
	fsTruncate = unix.LANDLOCK_ACCESS_FS_TRUNCATE  // ABI 3
	fsIoctl    = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV // ABI 5

	// fsAllowed is what the child does in its directories: no devices, FIFOs or sockets.
	fsAllowed = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER
)

// landlockABI is the kernel's version of Landlock; 0 if it has none.
func landlockABI() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// confine takes from this thread, and from the processes that it starts, the right to write outside of some directories,
// to make sockets, to look into other processes and to gain privileges. A kernel without Landlock, or with its first version, which forbids
// every move from one directory to another, confines nothing: the unpacker resolves each path inside the root by itself.
func confine(dirs ...string) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot set no_new_privs: %w", err)
	}
	abi := landlockABI()
	if abi < 2 {
		return refuse()
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: fsWrites}
	if abi >= 3 {
		attr.Handled_access_fs |= fsTruncate
	}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		attr.Handled_access_fs |= fsIoctl
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if abi >= 7 {
		// Version 6 refuses signals between the threads of this process too, which Go's scheduler sends itself.
		attr.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	switch {
	case abi >= 6:
		size = unsafe.Offsetof(attr.Scoped) + unsafe.Sizeof(attr.Scoped)
	case abi >= 4:
		size = unsafe.Offsetof(attr.Handled_access_net) + unsafe.Sizeof(attr.Handled_access_net)
	}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("cannot make a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(rules))
	for _, dir := range dirs {
		if err := allowBeneath(int(rules), dir); err != nil {
			return fmt.Errorf("cannot allow writing to %s: %w", dir, err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		if !errors.Is(errno, unix.E2BIG) { // sixteen layers of it already: we are in somebody's sandbox
			return fmt.Errorf("cannot confine a thread by Landlock: %w", errno)
		}
	}
	return refuse()
}

func allowBeneath(rules int, dir string) error {
	fd, err := openRetry(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: fsAllowed, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
