//go:build linux && cgo

package libct

import "C" // stage0.c, which runs before main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"syscall"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// The kinds of report in stage0.c.
const (
	exited = 1 // value: a wait status
	noExec = 2 // value: errno
	failed = 3 // value: errno
)

// stage0Args is the command line of pid 1. memory (bytes) and pids are limits by rlimit, 0 for none.
func stage0Args(extra int, memory, pids uint64, command []string) []string {
	return append([]string{
		"/proc/self/exe", "stage0", strconv.Itoa(extra), strconv.FormatUint(memory, 10), strconv.FormatUint(pids, 10),
	}, command...)
}

// readReport reads what stage0 said of the command's end. It says nothing if it was killed itself; ok is then false.
func readReport(r io.Reader, command string) (exit oci.Exit, ok bool, err error) {
	var words [8]byte
	if _, err := io.ReadFull(r, words[:]); err != nil {
		return oci.Exit{}, false, nil //nolint:nilerr // no report is an answer: stage0 was killed
	}
	kind, value := binary.NativeEndian.Uint32(words[:4]), binary.NativeEndian.Uint32(words[4:])
	switch kind {
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
		return oci.Exit{}, true, &oci.StartError{Step: "stage0", Err: syscall.Errno(value)}
	}
	return oci.Exit{}, true, fmt.Errorf("internal error: stage0 reported %d, %d", kind, value)
}
