//go:build linux && cgo

package stage0

// stage0.c runs before main, and before the C library, where the stack protector would look for its canary. Link-time
// optimization would not see that the entry point calls it.

// #cgo CFLAGS: -fno-stack-protector -fno-lto
// #cgo LDFLAGS: -Wl,-e,stage0entry
// #include "stage0.h"
import "C"

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Lifeline is the descriptor of the lifeline in a container's first process, before and in stage0: a pipe whose other end
// only the bridge has.
const Lifeline = C.LIFELINE

// Rootfs is the descriptor of the image's directory there; stage0 closes it.
const Rootfs = 6

// Base is the descriptor of a user namespace, for a stage0 that makes a container below it by a plan.
const Base = C.BASE

// Limits are those that bind the command only, as rlimits; 0 is none. stage0 sets them, because libcontainer's init is a
// Go program that needs more address space and threads than a small limit leaves.
type Limits struct{ Memory, Pids uint64 }

// The kinds of report.
const (
	exited, noExec, failed = C.EXITED, C.NO_EXEC, C.FAILED
	started, runtimeEnded  = C.STARTED, C.RUNTIME
)

// ReadStarted reads which process is the container's first, from a stage0 that makes one by a plan. ok is false if it
// could not say anything.
func ReadStarted(r io.Reader) (pid int, ok bool, err error) {
	var words [8]byte
	if _, err := io.ReadFull(r, words[:]); err != nil {
		return 0, false, nil // no report is an answer: stage0 was killed
	}
	if kind := binary.NativeEndian.Uint32(words[:4]); kind == started {
		return int(binary.NativeEndian.Uint32(words[4:])), true, nil
	}
	_, _, err = ReadReport(bytes.NewReader(words[:]), "")
	return 0, true, err
}

// stage0Steps are the steps at which stage0 can fail.
var stage0Steps = [...]string{
	C.AT_START:        "start",
	C.AT_READ_FILTER:  "read the system call filter",
	C.AT_NESTING:      "nest a user namespace",
	C.AT_CAPABILITIES: "drop capabilities",
	C.AT_DUMPABLE:     "be not dumpable",
	C.AT_FILTER:       "load the system call filter (seccomp)",
	C.AT_FORK:         "fork",
	C.AT_DESCRIPTORS:  "arrange descriptors",
	C.AT_LIMITS:       "set rlimits",
	C.AT_PLAN:         "read the plan",
	C.AT_SESSION:      "start a session",
	C.AT_GROUPS:       "drop supplementary groups (setgroups)",
	C.AT_ROOT_IDS:     "become root of the user namespace",
	C.AT_PRIVATE:      "make the host's mounts private (mounting)",
	C.AT_IMAGE:        "open the image's directory or put an overlay over it",
	C.AT_PROC:         `make a fresh proc (mounting "proc")`,
	C.AT_DEVICES:      "take the host's devices",
	C.AT_PIVOT:        "leave the host's mounts (pivot_root)",
	C.AT_MOUNT:        "do a mount (mounting)",
	C.AT_MAKE_DEVICES: "make the devices",
	C.AT_MASK:         "mask by a mount (mounting)",
	C.AT_READONLY:     "make read-only (remount)",
	C.AT_SYSCTL:       "set",
	C.AT_HOSTNAME:     "set the host name (sethostname)",
	C.AT_LOOPBACK:     "bring up loopback",
	C.AT_KEYRING:      "join a session keyring",
	C.AT_CGROUP:       "unshare the cgroup namespace",
	C.AT_RLIMIT:       "set a resource limit",
	C.AT_DIRECTORY:    "enter the working directory",
	C.AT_NO_NEW_PRIVS: "set no_new_privs",
	C.AT_IDS:          "become the container's user",
	C.AT_CLONE:        "make new namespaces (clone, unshare)",
	C.AT_MAPS:         "map ids (uid_map, gid_map)",
	C.AT_BASE:         "enter the user namespace of the subordinate ids (setns)",
	C.AT_ENTER_CGROUP: "enter the cgroup",
	C.AT_RUNTIME:      "execute the runtime",
}

// A Failure is a step that stage0 did not get through.
type Failure struct {
	Step string
	// Nth is the operation of a plan that it belongs to, counted from 0.
	Nth int
	Err syscall.Errno
}

func (f *Failure) Error() string { return fmt.Sprintf("cannot %s: %v", f.Step, f.Err) }

// Unwrap gives the errno.
func (f *Failure) Unwrap() error { return f.Err }

// Args is the command line of pid 1: how many extra descriptors there are, the limits by rlimit, how many bytes
// of filter it has to read, and who the command is to be in a user namespace of its own, if it gets one.
func Args(extra int, weak Limits, filter int, nested oci.User, command []string) []string {
	return append([]string{
		"/proc/self/exe", "stage0", strconv.Itoa(extra),
		strconv.FormatUint(weak.Memory, 10), strconv.FormatUint(weak.Pids, 10), strconv.Itoa(filter),
		strconv.FormatUint(uint64(nested.UID), 10), strconv.FormatUint(uint64(nested.GID), 10),
	}, command...)
}

// Program is the descriptor of this program in a container's first process that an OCI runtime program starts. The
// guest's streams come after it.
const Program = 6

// RuntimeArgs is the command line of a pid 1 that an OCI runtime program starts. Who the command is becomes stage0's to see to.
func RuntimeArgs(extra int, weak Limits, filter int, user oci.User, nested bool, command []string) []string {
	args := Args(extra, weak, filter, user, nil)
	args[0] = "/proc/self/fd/" + strconv.Itoa(Program)
	second := "0"
	if nested {
		second = "1"
	}
	return append(append(args, second), command...)
}

// KeepArgs is the command line of a process that runs an OCI runtime program, born in the cgroups whose tasks files these
// are, until nothing is left of what that has started. It gets the descriptors of stage0.
func KeepArgs(tasks, command []string) []string {
	return slices.Concat([]string{"/proc/self/exe", "stage0", "keep"}, tasks, []string{"--"}, command)
}

// ReadRuntime reads how a runtime program has ended and whether stage0 is there, in whatever order they say it. It returns
// when both have, or either has failed or will not say anything any more.
func ReadRuntime(r io.Reader) (ws syscall.WaitStatus, ended, running bool, err error) {
	for !ended || !running {
		var words [8]byte
		if _, err := io.ReadFull(r, words[:]); err != nil {
			return ws, ended, running, nil // no report is an answer: they were killed
		}
		switch value := binary.NativeEndian.Uint32(words[4:]); binary.NativeEndian.Uint32(words[:4]) {
		case started:
			running = true
		case runtimeEnded:
			if ws, ended = syscall.WaitStatus(value), true; ws != 0 {
				return ws, ended, running, nil
			}
		default:
			_, _, err := ReadReport(bytes.NewReader(words[:]), "")
			return ws, ended, running, err
		}
	}
	return ws, ended, running, nil
}

// HoldArgs is the command line of a process that does nothing until the end of its standard input.
func HoldArgs() []string { return []string{"/proc/self/exe", "stage0"} }

// SetupArgs is the command line of a pid 1 that makes its container by a plan.
func SetupArgs(extra int) []string {
	return []string{"/proc/self/exe", "stage0", strconv.Itoa(extra)}
}

// FilterPipe is a pipe that holds a filter. It is smaller than any pipe.
func FilterPipe(filter []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if _, err := w.Write(filter); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// ReadReport reads what stage0 said of the command's end. It says nothing if it was killed itself; ok is then false, and the
// command was killed with it.
func ReadReport(r io.Reader, command string) (exit oci.Exit, ok bool, err error) {
	var words [8]byte
	if _, err := io.ReadFull(r, words[:]); err != nil {
		return oci.Exit{Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL}, false, nil
	}
	kind, value := binary.NativeEndian.Uint32(words[:4]), binary.NativeEndian.Uint32(words[4:])
	step, nth := int(kind>>8&0xff), int(kind>>16)
	switch kind & 0xff {
	case exited:
		ws := syscall.WaitStatus(value)
		if ws.Signaled() {
			return oci.Exit{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}, true, nil
		}
		return oci.Exit{Code: ws.ExitStatus()}, true, nil
	case noExec:
		return oci.Exit{}, true, &oci.StartError{
			Step: "exec " + path.Base(command),
			Err:  &os.PathError{Op: "exec", Path: command, Err: syscall.Errno(value)},
		}
	case failed:
		if step < len(stage0Steps) {
			return oci.Exit{}, true, &oci.StartError{Step: "stage0", Err: &Failure{stage0Steps[step], nth, syscall.Errno(value)}}
		}
	}
	return oci.Exit{}, true, fmt.Errorf("internal error: stage0 reported %d, %d", kind, value)
}
