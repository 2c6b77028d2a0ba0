//go:build linux

package ocitest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

const idEnv = "OCITEST_ID"

// victim is a bridge that will be killed: it runs a container that does not end by itself.
func (suite Suite) victim(ctx context.Context) int {
	c := python("import os, sys, time\nos.fork()\nprint('ready', flush=True)\ntime.sleep(3600)")
	c.ID = os.Getenv(idEnv)
	l := suite.New(host.Options{StateDir: os.Getenv(stateEnv), AllowWeakLimits: true})
	_, err := l.Run(ctx, c, oci.Streams{Stdout: os.Stdout, Started: func(pid int, _ oci.Enforcement) {
		if err := os.WriteFile(os.Getenv(stateEnv)+".pid", fmt.Append(nil, pid), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}})
	fmt.Fprintln(os.Stderr, "not killed:", err)
	return 1
}

// KilledBridge: a bridge that gets no chance to clean up leaves no process, and the next one cleans up the rest.
func (suite HostSuite) KilledBridge(t *testing.T) {
	suite.excepted(t)
	stateDir, id := filepath.Join(t.TempDir(), "state"), newID()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = suite.selfEnv("victim", stateEnv+"="+stateDir, idEnv+"="+id)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // for a test that ends early
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the bridge to be killed says %q, %v", line, err)
	}
	// Its first process need not be below the bridge, nor in a cgroup.
	first := 0
	Eventually(t, patience, func() string {
		b, err := os.ReadFile(stateDir + ".pid")
		if err == nil {
			first, err = strconv.Atoi(string(b))
		}
		if err != nil {
			return "the bridge has not told the container's first process"
		}
		return ""
	})
	inside := func() []string { return append(descendants(t, first), strconv.Itoa(first)) }
	if len(inside()) < 3 {
		t.Fatalf("only %v are running", inside())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	pids := inside()
	_ = cmd.Wait()
	Eventually(t, 10*time.Second, func() string {
		for _, pid := range append(pids, processesIn(t, id)...) {
			if b, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && strings.Contains(string(b), "time.sleep(3600)") {
				return fmt.Sprintf("process %s of the container is still there", pid)
			}
		}
		return ""
	})
	t.Logf("the container was gone %v after its bridge", time.Since(killed).Round(time.Millisecond))

	left := cgroupsNamed(t, id)
	if os.Geteuid() == 0 && len(left) == 0 {
		t.Error("no cgroup was left, so this tests nothing")
	}
	l := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
	defer l.Close()
	if n := Entries(t, stateDir); n != 1 {
		t.Errorf("%d entries in the state directory before the next start, want the dead one's", n)
	}
	mustRun(t, l, "print(1)")
	if left := cgroupsNamed(t, id); len(left) > 0 {
		t.Errorf("the next start has not removed %v", left)
	}
	if n := Entries(t, stateDir); n != 1 {
		t.Errorf("%d entries in the state directory after the next start, want its own", n)
	}
}

// descendants are the processes below pid.
func descendants(t testing.TB, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		b, _ := os.ReadFile(f) // it may have ended
		for _, child := range strings.Fields(string(b)) {
			var n int
			if _, err := fmt.Sscan(child, &n); err == nil {
				found = append(append(found, child), descendants(t, n)...)
			}
		}
	}
	return found
}

// TwoLaunchersShareAStateDirectory: the second must not take what the first has running for a crash's.
func (suite HostSuite) TwoLaunchersShareAStateDirectory(t *testing.T) {
	suite.excepted(t)
	stateDir := filepath.Join(t.TempDir(), "state")
	first := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
	s := background(t, t.Context(), first, python(untilEOF))
	second := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
	mustRun(t, second, "print(1)")
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	s.release.Close()
	if o := s.wait(t); o.err != nil || o.Code != 0 {
		t.Errorf("%v", o)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := os.Lstat(stateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is left: %v", err)
	}
	// A launcher that is closed may be used again, for that is what a zero one is.
	mustRun(t, first, "print(1)")
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}

// StateDirectoryThatIsRemoved: "git clean" does that, where a bridge runs in a repository.
func (suite Suite) StateDirectoryThatIsRemoved(t *testing.T) {
	suite.excepted(t)
	stateDir := filepath.Join(t.TempDir(), "state")
	l := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
	s := background(t, t.Context(), l, python(untilEOF))
	if err := os.RemoveAll(stateDir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustRun(t, l, "print(1)")
	}
	s.release.Close()
	if o := s.wait(t); o.err != nil || o.Code != 0 {
		t.Errorf("what ran meanwhile: %v", o)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(stateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is left: %v", err)
	}
	if left := ourCgroups(t); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
}

// StateDirectoryThatCannotBeMade: the message says which variable to set.
func (suite HostSuite) StateDirectoryThatCannotBeMade(t *testing.T) {
	suite.excepted(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := suite.New(host.Options{StateDir: filepath.Join(file, "state"), AllowWeakLimits: true})
	defer l.Close()
	if o := run(t, t.Context(), l, python(""), ""); o.err == nil || !strings.Contains(o.err.Error(), "MCP_BRIDGE_STATE_DIR") {
		t.Errorf("%v\nwant an error that names MCP_BRIDGE_STATE_DIR", o)
	}
}

const deadState = "abcdefghijklmnopqrstuvwxyz" // a name such as a crashed launcher's

// forge makes a state directory as a crash would have left it, with the given records.
func forge(t *testing.T, stateDir string, records map[string]any) string {
	t.Helper()
	dead := filepath.Join(stateDir, deadState)
	if err := os.MkdirAll(dead, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, v := range records {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dead, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dead
}

// startOn lets a launcher make its first container in a state directory, which sweeps it.
func (suite Suite) startOn(t *testing.T, stateDir string) {
	t.Helper()
	l := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
	mustRun(t, l, "print(1)")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// bystander is a process in a cgroup that is not ours, below the own one.
func bystander(t *testing.T) (cgroup string, alive func() bool) {
	t.Helper()
	own := ""
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, dir := range []string{filepath.Join("/sys/fs/cgroup", f[1], f[2]), filepath.Join("/sys/fs/cgroup/unified", f[2])} {
			if len(f) == 3 && (f[1] == "pids" || f[1] == "") && unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil {
				own = dir
			}
		}
	}
	cgroup = filepath.Join(own, fmt.Sprintf("bystander-%s%d", idPrefix, ids.Add(1)))
	if own == "" || os.Mkdir(cgroup, 0o755) != nil {
		skip(t, "cannot make a cgroup")
	}
	cmd := exec.Command("/bin/sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if err := os.Remove(cgroup); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	return cgroup, func() bool {
		// A signal that was sent is either pending or has had its effect.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			pending := strings.HasSuffix(name, "Pnd") && strings.Trim(value, "0") != ""
			if pending || name == "State" && strings.ContainsAny(value[:1], "ZX") {
				return false
			}
		}
		return true
	}
}

// ForgedState: the state directory may have come with a cloned repository. Nothing in it may make a bridge kill
// a process or remove a thing that is not its own.
func (suite HostSuite) ForgedState(t *testing.T) {
	suite.excepted(t)
	t.Run("directory that is no cgroup", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		precious := filepath.Join(t.TempDir(), "mcp-bridge-precious")
		if err := os.MkdirAll(filepath.Join(precious, "empty"), 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(precious, "cgroup.kill")
		if err := os.WriteFile(file, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		forge(t, stateDir, map[string]any{"a.json": map[string]string{"": precious, "memory": precious + "/../" + filepath.Base(precious)}})
		suite.startOn(t, stateDir)
		if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
			t.Errorf("the file is now %q, %v", b, err)
		}
		if n := Entries(t, precious); n != 2 {
			t.Errorf("%d entries are left, want 2", n)
		}
	})
	t.Run("removal that was cut short", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		if err := os.Remove(filepath.Join(forge(t, stateDir, nil), "lock")); err != nil {
			t.Fatal(err)
		}
		suite.startOn(t, stateDir)
		if _, err := os.Lstat(stateDir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state directory is left: %v", err)
		}
	})
	t.Run("cgroup of another name", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		cgroup, alive := bystander(t)
		forge(t, stateDir, map[string]any{"a.json": map[string]string{
			"": cgroup, "pids": cgroup + "/mcp-bridge-x/..", "memory": filepath.Dir(cgroup) + "/mcp-bridge-x/../" + filepath.Base(cgroup),
		}})
		suite.startOn(t, stateDir)
		if !alive() {
			t.Errorf("the process of another cgroup was killed")
		}
	})
	t.Run("link of our name to a cgroup of another", func(t *testing.T) {
		// A repository can hold such a link, and need not know where it is cloned to: /proc/self/cwd does.
		stateDir := filepath.Join(t.TempDir(), "state")
		cgroup, alive := bystander(t)
		link := filepath.Join(t.TempDir(), "mcp-bridge-x")
		if err := os.Symlink(cgroup, link); err != nil {
			t.Fatal(err)
		}
		forge(t, stateDir, map[string]any{"a.json": map[string]string{"pids": link}})
		suite.startOn(t, stateDir)
		if !alive() {
			t.Errorf("the process of another cgroup was killed, by way of the link %s", link)
		}
	})
	t.Run("symlinks", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		precious := t.TempDir()
		for _, name := range []string{"lock", "a.json"} {
			if err := os.WriteFile(filepath.Join(precious, name), []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dead := forge(t, stateDir, nil)
		if err := os.Remove(filepath.Join(dead, "lock")); err != nil {
			t.Fatal(err)
		}
		for name, target := range map[string]string{
			filepath.Join(dead, "lock"):                      filepath.Join(precious, "lock"),
			filepath.Join(dead, "a.json"):                    filepath.Join(precious, "a.json"),
			filepath.Join(stateDir, strings.Repeat("a", 26)): precious,
			filepath.Join(stateDir, "new-x"):                 precious,
		} {
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
		}
		l := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
		defer l.Close()
		mustRun(t, l, "print(1)")
		if n := Entries(t, precious); n != 2 {
			t.Errorf("%d files are left behind the links, want 2", n)
		}
	})
	t.Run("records of nonsense", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		dead := forge(t, stateDir, map[string]any{
			"a.json": []int{1}, "b.json": map[string]string{"": ""}, "c.json": map[string]string{"": "/"}, "d.json": "x",
			"e.json": map[string]string{"": "relative/mcp-bridge-x"}, "f.json": map[string]string{"": "/sys/fs/cgroup/mcp-bridge-none"},
		})
		if err := os.WriteFile(filepath.Join(dead, "cut.json"), []byte(`{"": "/sys`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dead, "container"), 0o700); err != nil {
			t.Fatal(err)
		}
		suite.startOn(t, stateDir)
		if _, err := os.Lstat(dead); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a dead state directory is left: %v", err)
		}
	})
	t.Run("huge record", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		dead := forge(t, stateDir, map[string]any{"a.json": map[string]string{}})
		const size = 256 << 20 // of holes
		if err := os.Truncate(filepath.Join(dead, "a.json"), size); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		suite.startOn(t, stateDir)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > size/4 {
			t.Errorf("a record of %d MiB made the launcher take %d MiB of memory", size>>20, took>>20)
		}
	})
	t.Run("pipe instead of a record", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		dead := forge(t, stateDir, nil)
		fifo := filepath.Join(dead, "a.json")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		l := suite.New(host.Options{StateDir: stateDir, AllowWeakLimits: os.Geteuid() != 0})
		defer l.Close()
		done := make(chan error, 1)
		go func() {
			_, err := l.Run(t.Context(), python(""), oci.Streams{})
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the launcher waits for somebody to write to a pipe in the state directory")
			f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // let it go
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			<-done
		}
	})
	t.Run("another user's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can make files of another user")
		}
		stateDir := filepath.Join(t.TempDir(), "state")
		dead := forge(t, stateDir, map[string]any{"a.json": map[string]string{}})
		if err := os.Chown(dead, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		suite.startOn(t, stateDir)
		if _, err := os.Lstat(filepath.Join(dead, "a.json")); err != nil {
			t.Errorf("another user's state was removed: %v", err)
		}
	})
	t.Run("locked", func(t *testing.T) {
		stateDir := filepath.Join(t.TempDir(), "state")
		dead := forge(t, stateDir, map[string]any{"a.json": map[string]string{}})
		lock, err := os.OpenFile(filepath.Join(dead, "lock"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		suite.startOn(t, stateDir)
		if _, err := os.Lstat(filepath.Join(dead, "a.json")); err != nil {
			t.Errorf("a living launcher's state was removed: %v", err)
		}
	})
}
