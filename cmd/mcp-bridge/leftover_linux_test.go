package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A mark is the name of a script's process, and of all that it forks: the one thing of a sandbox that whoever runs the
// tests sees from outside. say is Python that takes it.
type mark string

func newMark() mark { return mark("mb" + strings.ToLower(rand.Text())[:12]) } // a name has 15 bytes at most

func (m mark) say() string { return fmt.Sprintf("open('/proc/self/comm', 'w').write(%q)\n", string(m)) }

func (m mark) processes() []process {
	var out []process
	for _, p := range processes() {
		if p.comm == string(m) && !p.dead {
			out = append(out, p)
		}
	}
	return out
}

// wait waits until at least n processes bear the mark.
func (m mark) wait(t *testing.T, n int) []process {
	t.Helper()
	var ps []process
	if err := eventually(func() error {
		if ps = m.processes(); len(ps) < n {
			return fmt.Errorf("the script has not started: %d of %d processes are there", len(ps), n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ps
}

// checkGone waits until no process bears the mark.
func (m mark) checkGone(t *testing.T) {
	t.Helper()
	if err := eventually(func() error { return noneAlive(m.processes()) }); err != nil {
		t.Error(err)
	}
}

type process struct {
	pid, parent int
	start       string // with the pid: who it is, also when the pid is given away again
	comm        string
	dead        bool // a zombie
}

func processes() map[int]process {
	out := make(map[int]process)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			out[pid] = p
		}
	}
	return out
}

func readProcess(pid int) (process, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// pid (comm) state ppid ...; comm may hold anything.
	s := string(b)
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	f := strings.Fields(s[end+1:])
	if open < 0 || end < open || len(f) < 20 {
		return process{}, false
	}
	parent, _ := strconv.Atoi(f[1])
	return process{pid: pid, parent: parent, start: f[19], comm: s[open+1 : end], dead: f[0] == "Z" || f[0] == "X"}, true
}

// descendants are the processes below pid, zombies too: what the bridge does not wait for is left by it.
func descendants(pid int) []process {
	all := processes()
	var out []process
	for _, p := range all {
		for up := p.parent; up > 1; up = all[up].parent {
			if up == pid {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// noneAlive names those of ps that still live.
func noneAlive(ps []process) error {
	var left []string
	for _, p := range ps {
		if now, ok := readProcess(p.pid); ok && now.start == p.start && !now.dead {
			args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			left = append(left, fmt.Sprintf("%d (%s) %.80q", p.pid, now.comm, args))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%d processes are left: %s", len(left), strings.Join(left[:min(5, len(left))], ", "))
	}
	return nil
}

const unifiedHybrid = "/sys/fs/cgroup/unified"

// cgroupName is what a bridge calls the cgroup of a container; the tests of package libct give other names.
var cgroupName = regexp.MustCompile(`^mcp-bridge-[a-z2-7]{26}$`)

// cgroups are all cgroups of mcp-bridge's containers, also those of bridges that are not ours.
func cgroups() map[string]bool {
	out := make(map[string]bool)
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && cgroupName.MatchString(d.Name()) {
			out[p] = true
			return fs.SkipDir
		}
		return nil // one that goes away meanwhile is none
	})
	return out
}

// cgroupsOf are the directories of the cgroups that were made for the container of a process.
func cgroupsOf(t *testing.T, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || !cgroupName.MatchString(filepath.Base(f[2])) {
			continue
		}
		for _, hierarchy := range []string{"/sys/fs/cgroup", unifiedHybrid, filepath.Join("/sys/fs/cgroup", f[1])} {
			if dir := filepath.Join(hierarchy, f[2]); exists(dir) && !slices.Contains(out, dir) {
				out = append(out, dir)
			}
		}
	}
	return out
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

func noneExist(paths []string) error {
	for _, p := range paths {
		if exists(p) {
			return fmt.Errorf("%s is left", p)
		}
	}
	return nil
}

// noNewCgroups waits until none of the cgroups that have come since before is there any more. Others test at the same
// time, and their cgroups go too: only a leaked one stays.
func noNewCgroups(before map[string]bool) error {
	var candidates map[string]bool
	return eventually(func() error {
		now := cgroups()
		if candidates == nil {
			candidates = now
		}
		for dir := range candidates {
			if before[dir] || !now[dir] || kept(dir) {
				delete(candidates, dir)
			}
		}
		for dir := range candidates {
			return fmt.Errorf("%d cgroups are left, for instance %s", len(candidates), dir)
		}
		return nil
	})
}

// kept says that a living bridge has a sandbox in a cgroup: another test's, as the one that asks has none any more.
func kept(dir string) bool {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	pids := strings.Fields(string(b))
	for _, pid := range pids {
		n, _ := strconv.Atoi(pid)
		p, ok := readProcess(n)
		if !ok || slices.Contains(pids, strconv.Itoa(p.parent)) {
			continue
		}
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.parent))
		if strings.Contains(filepath.Base(exe), "mcp-bridge") || strings.Contains(exe, "memfd:") {
			return true
		}
	}
	return false
}

// mounts are the lines of a process's mount table that have to do with these tests.
func mounts(pid int) []string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	var out []string
	for line := range strings.Lines(string(b)) {
		// "mcp-bridge" is in the path of base, and so of the cache, where every tree is.
		if strings.Contains(line, "mcp-bridge") || strings.Contains(line, base) {
			out = append(out, line)
		}
	}
	return out
}

// entries counts what is in a directory, which is also what a process has open (fd) and how many threads it has (task).
func entries(dir string) int {
	d, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	return len(d)
}

// openFiles says what a process has open.
func openFiles(pid int) []string {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var out []string
	for _, fd := range fds {
		target, _ := os.Readlink(fd)
		out = append(out, filepath.Base(fd)+" "+target)
	}
	return out
}

// idleFiles is what a bridge has open when no sandbox is: not even the one in which it compiles an image's modules, some time
// after the first run.
func (s *server) idleFiles() (files []string) {
	s.t.Helper()
	if err := eventually(func() error {
		before := files
		files = openFiles(s.pid())
		for _, f := range files {
			// The pool may fill itself between an answer and this.
			if strings.HasSuffix(f, ".json") || strings.Contains(f, "pidfd") || strings.HasSuffix(f, "/stat") {
				return fmt.Errorf("a container is there: %s is open", f)
			}
		}
		if !slices.Equal(before, files) {
			return fmt.Errorf("open were %v, are %v", before, files)
		}
		return nil
	}); err != nil {
		s.t.Error(err)
	}
	return files
}

// checkNothingLeft looks for everything that a bridge which has ended might have left.
func checkNothingLeft(t testing.TB, pid int, stateDir string, cgroupsBefore map[string]bool) {
	t.Helper()
	if err := eventually(func() error { return noneAlive(descendants(pid)) }); err != nil {
		t.Error(err)
	}
	if err := noNewCgroups(cgroupsBefore); err != nil {
		t.Error(err)
	}
	if exists(stateDir) {
		t.Errorf("the state directory is left, with %d entries", entries(stateDir))
	}
	if m := mounts(os.Getpid()); len(m) > 0 {
		t.Errorf("mounts are left: %v", m)
	}
}

// checkIdle looks for what a living bridge with no run going on might have kept of its runs.
func (s *server) checkIdle() {
	s.t.Helper()
	if err := eventually(func() error {
		if d := descendants(s.pid()); len(d) > 0 {
			return fmt.Errorf("%d processes are left, for instance %+v", len(d), d[0])
		}
		dirs, _ := filepath.Glob(filepath.Join(s.state, "*", "*"))
		if len(dirs) > 1 || len(dirs) == 1 && filepath.Base(dirs[0]) != "lock" {
			return fmt.Errorf("left in the state directory: %v", dirs)
		}
		return errors.Join(sameMountNamespace(s.pid()), noneInFifo(s.pid()))
	}); err != nil {
		s.t.Error(err)
	}
	if m := mounts(s.pid()); len(m) > 0 {
		s.t.Errorf("mounts are left: %v", m)
	}
}

// sameMountNamespace looks for threads that a launch has left in a container's mount namespace: that keeps the
// container's tree and its files in memory, and a main thread there falsifies what the bridge reads in /proc/self.
func sameMountNamespace(pid int) error {
	want, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		if got, err := os.Readlink(filepath.Join(task, "ns/mnt")); err == nil && got != want {
			return fmt.Errorf("thread %s of the bridge %d is in another mount namespace, %s", filepath.Base(task), pid, got)
		}
	}
	return nil
}

// noneInFifo looks for threads that wait for somebody to open the other end of a fifo: of a container that has ended
// nobody will. The kernel tells what a thread waits in only to those who may trace it; others see nothing here.
func noneInFifo(pid int) error {
	n := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	for _, task := range tasks {
		if where, err := os.ReadFile(task); err == nil && string(where) == "wait_for_partner" {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d threads of the bridge %d wait for ever in open(2) of a fifo", n, pid)
	}
	return nil
}
