//go:build linux && cgo

package probes

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// traces are what a run must not change on the host.
type traces struct {
	fds, goroutines, children, files int
	held                             int64
}

// traces are taken while nothing runs. But for memory, which others use too, they are the same before each run of a
// house, and so are taken before the first one only: what leaks a little each time is seen then.
func (h *house) traces(t testing.TB) traces {
	t.Helper()
	if h.before.goroutines == 0 {
		h.before = traces{
			fds: ocitest.Entries(t, "/proc/self/fd"), goroutines: ocitest.Goroutines(t), children: ocitest.Children(t), files: filesBelow(h.state),
		}
	}
	h.before.held = held(t)
	return h.before
}

// lost is what a host may be short of after a run, in bytes: others work on it too.
const lost = 300 << 20

// nothingLeft waits until everything is as it was before. What the kernel tears down has no event to wait for.
func (h *house) nothingLeft(t testing.TB, before traces) {
	t.Helper()
	h.launcher.mu.Lock()
	ids := slices.Clone(h.launcher.ids)
	h.launcher.ids = nil
	h.launcher.mu.Unlock()
	debug.FreeOSMemory()
	ocitest.Eventually(t, patience, func() string { return h.left(t, before, ids) })
}

// left says what of the containers with these ids is still there, if anything is.
func (h *house) left(t testing.TB, before traces, ids []string) string {
	t.Helper()
	if ps := processesOf(t, h.mark); len(ps) > 0 {
		return fmt.Sprintf("processes are left: %v", ps)
	}
	if n := ocitest.Children(t); n > before.children {
		return fmt.Sprintf("%d child processes, %d before", n, before.children)
	}
	if list := cgroupsOf(ids); len(list) > 0 {
		return fmt.Sprintf("cgroups are left: %v", list)
	}
	if list := mountsBelow(t, h.tree.Path, h.state); len(list) > 0 {
		return fmt.Sprintf("mounts are left: %v", list)
	}
	if n := filesBelow(h.state); n > before.files {
		return fmt.Sprintf("%d files and directories of state, %d before", n, before.files)
	}
	if n := ocitest.Entries(t, "/proc/self/fd"); n > before.fds {
		return fmt.Sprintf("%d descriptors, %d before", n, before.fds)
	}
	if n := runtime.NumGoroutine(); n > before.goroutines {
		return fmt.Sprintf("%d goroutines, %d before", n, before.goroutines)
	}
	if more := held(t) - before.held; more > lost {
		return fmt.Sprintf("the host is short of %d MiB", more>>20)
	}
	return ""
}

// TestTracesAreSeen: what is counted after each probe is there to be counted while a script runs, and the script's
// processes have the user id that this mapping promises.
func TestTracesAreSeen(t *testing.T) {
	h := newHouse(t, houseOptions{limits: defaultLimits})
	h.next(t)
	before := h.traces(t)
	h.nothingLeft(t, before)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := h.Run(ctx, bridge.Request{Code: "import time\nprint('here', flush=True)\ntime.sleep(600)"}, bridge.Output{Stdout: onWrite(started)})
		ended <- err
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("it has ended: %v", err)
	}
	h.launcher.mu.Lock()
	ids := slices.Clone(h.launcher.ids)
	h.launcher.mu.Unlock()
	for what, seen := range map[string]bool{
		"processes": len(processesOf(t, h.mark)) > 0, "children": ocitest.Children(t) > before.children,
		"cgroups": weak || len(cgroupsOf(ids)) > 0, "files": filesBelow(h.state) > before.files,
		"descriptors": ocitest.Entries(t, "/proc/self/fd") > before.fds, "goroutines": runtime.NumGoroutine() > before.goroutines,
	} {
		if !seen {
			t.Errorf("a running script has no %s", what)
		}
	}
	for _, pid := range processesOf(t, h.mark) {
		if inner := statusOf(t, pid, "NSpid"); len(inner) < 2 || inner[len(inner)-1] == "1" {
			continue // what starts the script is the container's root
		}
		uid, err := strconv.Atoi(statusOf(t, pid, "Uid")[0])
		if own := uid == os.Geteuid(); err != nil || own != (mapping() == single) || uid == 0 {
			t.Errorf("%s: the script is user %d on the host, which runs as %d: %v", mapping(), uid, os.Geteuid(), err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h.nothingLeft(t, before)
}

// onWrite is closed by the first Write.
type onWrite chan struct{}

func (w onWrite) Write(p []byte) (int, error) {
	select {
	case <-w:
	default:
		close(w)
	}
	return len(p), nil
}

// filesBelow counts what is in a directory, which may be none yet, and change while it is read.
func filesBelow(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error {
		n++
		return nil
	})
	return n
}

// processesOf are the processes that have mark in their environment, which a fork inherits, and those below this one, which
// a user sees although their environment is another user's.
func processesOf(t testing.TB, mark string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	pids = below(strconv.Itoa(os.Getpid()))
	for _, f := range files {
		pid := filepath.Base(filepath.Dir(f))
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(mark)) && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// below are the descendants of a process that are in a process namespace of their own.
func below(pid string) (pids []string) {
	files, _ := filepath.Glob("/proc/" + pid + "/task/*/children") // gone is none
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, child := range strings.Fields(string(b)) {
			if status, _ := os.ReadFile("/proc/" + child + "/status"); nested.Match(status) {
				pids = append(pids, child)
			}
			pids = append(pids, below(child)...)
		}
	}
	return pids
}

var nested = regexp.MustCompile(`(?m)^NSpid:\s+\d+\s+\d+`)

func statusOf(t testing.TB, pid, name string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name+":" {
			return f[1:]
		}
	}
	t.Fatalf("the status of %s has no %s", pid, name)
	return nil
}

// cgroupsOf are the directories of containers in every hierarchy.
func cgroupsOf(ids []string) (found []string) {
	// Others make and remove cgroups meanwhile, so errors on the way say nothing.
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if id, ok := strings.CutPrefix(d.Name(), "mcp-bridge-"); ok && slices.Contains(ids, id) {
			found = append(found, p)
		}
		return nil
	})
	return found
}

func mountsBelow(t testing.TB, dirs ...string) (found []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.Contains(line, dir) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

var pageset = regexp.MustCompile(`(?m)^\s+count:\s+(\d+)$`)

// held is the memory, in bytes, that this process has, or that no living process accounts for: what the kernel keeps for
// a container, such as its tmpfs. That other processes of the host come and go does not matter, nor do the free pages
// that the kernel keeps at each CPU: since Linux 6.7 that can be a gigabyte, it is not in MemAvailable, and goes back at
// 8 MiB a second.
func held(t testing.TB) int64 {
	t.Helper()
	of := func(name string) int64 { return kilobytes(t, "/proc/meminfo", name) << 10 }
	used := of("MemTotal") - of("MemAvailable") - of("AnonPages") + kilobytes(t, "/proc/self/status", "RssAnon")<<10
	zones, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		t.Logf("free pages of CPUs count as held: %v", err)
	}
	for _, m := range pageset.FindAllSubmatch(zones, -1) {
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		used -= n * int64(syscall.Getpagesize())
	}
	return used
}

// peak is the most memory that this process has held since resetPeak, in bytes.
func peak(t testing.TB) int64 { return kilobytes(t, "/proc/self/status", "VmHWM") << 10 }

func resetPeak(t testing.TB) {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

func kilobytes(t testing.TB, file, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name+":" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", file, name)
	return 0
}
