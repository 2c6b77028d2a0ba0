package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// programVariable hands on the program's path to what it becomes, which may be a copy in memory.
const programVariable = "_BENCH_PROGRAM"

// Isolate starts the program once more, as root with mounts of its own: whatever a contestant mounts ends with the
// process, and the cgroup v2 tree of a hybrid layout, which crun refuses, can be taken away. It returns when that is
// done, with the path of the program.
func Isolate() (program string, err error) {
	if program = os.Getenv(programVariable); program != "" {
		return program, nil
	}
	program, err = os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find own program: %v", err)
	}
	if _, err := os.Stat(program); err != nil { // it is a sealed copy by now
		if program, err = exec.LookPath(os.Args[0]); err == nil {
			program, err = filepath.Abs(program)
		}
		if err != nil {
			return "", fmt.Errorf("cannot find own program: %v", err)
		}
	}
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // exec takes this thread's namespaces
		if err := ownMounts(); err != nil {
			return "", err
		}
	}
	err = unix.Exec(program, os.Args, append(os.Environ(), programVariable+"="+program))
	return "", fmt.Errorf("cannot start %s again: %v", program, err)
}

func ownMounts() error {
	switch err := unix.Unshare(unix.CLONE_NEWNS); {
	case errors.Is(err, unix.EPERM): // root of a container: then it is without
		return nil
	case err != nil:
		return fmt.Errorf("cannot have mounts of its own: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %v", err)
	}
	const unified = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(unified); err != nil {
		return nil
	}
	if err := unix.Unmount(unified, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot unmount %s: %v", unified, err)
	}
	return nil
}
