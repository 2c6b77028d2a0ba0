// Package oci says what a sandbox is: a [Container] with its [Limits], the [Launcher] that runs one, and the OCI
// runtime specification that is made from it ([Spec]). It is vocabulary and pure functions for every OS; the launchers
// live in the packages below it. It does not fetch images, and it knows nothing of Python or MCP.
package oci

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Workspace is the directory a container starts in, and its home: a tmpfs that goes with the container.
const Workspace = "/workspace"

// A Container is one sandbox: what runs in it, on which files, within which limits. Everything that is not here is the
// same for all of them and is decided by [Spec].
type Container struct {
	// ID names the container in the state directory and in the cgroup tree: unique on the host, and of the characters
	// a-z, 0-9 and "-" only, 64 at most.
	ID string
	// Rootfs is the absolute path of the directory that becomes the read-only root.
	Rootfs string
	// Image stands in for Rootfs with a launcher whose engine keeps the images itself: what that engine calls it.
	Image string
	// Args is the command with its arguments; the first is an absolute path in Rootfs.
	Args []string
	// Env is the whole environment ("NAME=value"); nothing of the host's is added.
	Env []string
	// User is who the command runs as. Never 0.
	User User
	// Limits are enforced by the kernel.
	Limits Limits
}

// User is a numeric user and group id as seen in the container.
type User struct{ UID, GID uint32 }

// Limits bound one container. The zero value of a field means that there is no such limit, except for the sizes of
// the tmpfs mounts, which are always bounded.
type Limits struct {
	// Memory is in bytes and covers all processes, their page cache and the tmpfs mounts. Swap is not added to it.
	Memory int64
	// Pids is the number of tasks (processes and threads), the one of stage0 included.
	Pids int64
	// CPUs is the share of CPU time: 1.5 means one and a half CPUs.
	CPUs float64
}

// Streams are the container's ends of the pipes that a launcher hands over: pipes only, never a host file, because a
// launcher changes the owner of what it passes (libcontainer's fixStdioPermissions). A launcher does not close them.
type Streams struct {
	// Stdin, Stdout and Stderr become descriptors 0, 1 and 2; a nil one is /dev/null.
	Stdin, Stdout, Stderr *os.File
	// Extra become descriptors 3, 4, ... They let a protocol run beside the raw output of the program, so that
	// what a crashing process wrote last is never lost, and nothing it writes can look like a message.
	Extra []*os.File
	// Started, if not nil, is told the container's first process, as it is numbered here, and what enforces the limits, of
	// each try to start. It must not block.
	Started func(pid int, limits Enforcement)
	// Exited, if not nil, is told how the command has ended as soon as that is known, at most once and before Run returns
	// the same: ending a container's namespaces takes longer than a small script does. Other processes of the container
	// are being killed then; the end of the streams is the end of the last that has them. It must not block.
	Exited func(Exit)
}

// Exit is how a container ended, by the host's own observation; of an engine's container the code is that of its pid 1.
type Exit struct {
	// Code is the exit code of the command, 128 plus the number of the signal that ended it.
	Code int
	// Signal ended the command, if not 0.
	Signal syscall.Signal
	// OOM says that a process of the container was killed for want of memory, by the kernel or, where the limits are by
	// rlimits, by the launcher.
	OOM bool
	// Starved says of an OOM that it was not the container's own limit which was reached: a cgroup above it had no memory left,
	// or the machine. An engine that is not on this machine cannot tell.
	Starved bool
	// Limits names what enforced the limits of this container.
	Limits Enforcement
}

// Enforcement names what enforces the limits of a container.
type Enforcement string

// The ways to enforce limits. By rlimits means that processes and address space are bounded by them, memory by a watchdog
// that looks every now and then, and the share of CPU time not at all. Lost means that they were a cgroup's, and were not
// there any more at the end: somebody has switched a controller off.
const (
	ByCgroup  Enforcement = "cgroup"
	ByRlimits Enforcement = "rlimit"
	Lost      Enforcement = "lost"
)

// A Launcher runs one container to its end. When Run returns, nothing of the container is left: no process, cgroup,
// mount or state directory. Cancelling ctx kills it; the Exit then tells how far it came, and the error is nil when it
// had started. Run may be called concurrently. Streams must be read from and written to by the caller meanwhile.
type Launcher interface {
	Run(ctx context.Context, c Container, s Streams) (Exit, error)
}

// StartError says that a container did not come to run its command. Step is where it stopped.
type StartError struct {
	Step string
	Err  error
}

func (e *StartError) Error() string {
	return fmt.Sprintf("cannot start container: %s: %v", e.Step, e.Err)
}
func (e *StartError) Unwrap() error { return e.Err }

// HostError says that this host cannot run containers, or not at full strength: what is missing, and what the user
// can do about it.
type HostError struct {
	Missing string // what the host lacks, and how that was seen
	Fix     string // a command or setting that mends it
}

func (e *HostError) Error() string { return e.Missing + "; " + e.Fix }

// ValidID says if a container may be called so: up to 64 lower-case letters, digits and hyphens.
func ValidID(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// validate reports the first thing in c that no launcher can run. A violation is a bug of the caller.
func (c Container) validate() error {
	switch {
	case !ValidID(c.ID):
		return fmt.Errorf("invalid container id %q", c.ID)
	case c.Image != "":
		return fmt.Errorf("image %q: only an engine has images of its own", c.Image)
	case !path.IsAbs(c.Rootfs) || path.Clean(c.Rootfs) != c.Rootfs || c.Rootfs == "/":
		return fmt.Errorf("invalid root directory %q: want a clean absolute path", c.Rootfs)
	case len(c.Args) == 0 || !path.IsAbs(c.Args[0]):
		return fmt.Errorf("invalid command %q: want an absolute path", c.Args)
	case c.User.UID == 0 || c.User.GID == 0:
		return fmt.Errorf("invalid user %d:%d: a container never runs as root", c.User.UID, c.User.GID)
	case c.Limits.Memory < 0 || c.Limits.Pids < 0 || c.Limits.CPUs < 0:
		return fmt.Errorf("invalid limits %+v: negative", c.Limits)
	case slices.ContainsFunc(c.Env, func(kv string) bool { return !strings.Contains(kv, "=") || strings.Contains(kv, "\x00") }):
		return fmt.Errorf("invalid environment: want NAME=value without NUL")
	}
	return nil
}
