//go:build linux && cgo

package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// firstProcess is the process that a runtime says it has started, if it is the first of a pid namespace of its own: what
// is told to be a container's may be looked at, and frozen, by others.
func firstProcess(pidFile string) (pid int, err error) {
	text, err := readSmall(pidFile)
	if err != nil {
		return 0, fmt.Errorf("it left no process id: %w", err)
	}
	pid, err = strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("it left %.40q for a process id", text)
	}
	status, err := readSmall(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(status, "\nNSpid:"); err == nil && ok {
		line, _, _ := strings.Cut(after, "\n")
		if f := strings.Fields(line); len(f) > 1 && f[len(f)-1] == "1" {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("it left the process id %d, which is not a container's", pid)
}

// readSmall reads the beginning of a file that a program has written.
func readSmall(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<12))
	return string(b), err
}
