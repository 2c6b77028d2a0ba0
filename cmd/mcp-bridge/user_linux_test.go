package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// someUser is a user without rights who may map subordinate ids.
func someUser(t *testing.T) *user.User {
	t.Helper()
	names := []string{os.Getenv("MCP_BRIDGE_TEST_USER")}
	if f, err := os.Open("/etc/subuid"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			name, _, _ := strings.Cut(lines.Text(), ":")
			names = append(names, name)
		}
	}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil && u.Uid != "0" {
			return u
		}
	}
	skipOrFail(t, "no user but root has a line in /etc/subuid: useradd makes one")
	return nil
}

// copySelf makes a copy of this program that others may execute: go test keeps its binary where nobody else may look.
func copySelf(t *testing.T, file string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(file, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAsUser: root's tests start the bridge as somebody without rights too.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: all tests are as a user")
	}
	u := someUser(t)
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			skipOrFail(t, err.Error()+": hack/setup test installs it")
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(base, "user")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeAll(home) })
	if err := os.Chown(home, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(base, "mcp-bridge.test")
	copySelf(t, exe)
	command := func(weak string, args ...string) *exec.Cmd {
		cmd := exec.Command(exe, args...)
		cmd.Dir = home
		cmd.Env = []string{
			runMain + "=1", chosenRuntime(), "PATH=" + os.Getenv("PATH"), "HOME=" + home, "USER=" + u.Username, "TMPDIR=" + os.TempDir(),
			"MCP_BRIDGE_CACHE_DIR=" + filepath.Join(home, "cache"), "MCP_BRIDGE_STATE_DIR=" + filepath.Join(home, "state"),
			"MCP_BRIDGE_IMAGE=host", "MCP_BRIDGE_ALLOW_WEAK_LIMITS=" + weak, "MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT=1s",
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}

	t.Run("without limits", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		cmd := command("0", "run", "-c", "print('ran')")
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if err == nil {
			// This user has a cgroup, which is fine, if it is one.
			if r := runJSON(t, command("0", "run", "--format", "json", "-c", "pass")); r.Limits != "" {
				t.Errorf("it ran without an enforced limit: %s", r.Limits)
			}
			t.Skip("this user's sandboxes have cgroups")
		}
		if code := exitCode(err); code != 125 || stdout.Len() > 0 {
			t.Errorf("exit code %d, stdout %q", code, &stdout)
		}
		for _, want := range []string{"cannot enforce the limits of memory and processes", "cgroup", "MCP_BRIDGE_ALLOW_WEAK_LIMITS=1"} {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("stderr does not say %q:\n%s", want, &stderr)
			}
		}
	})
	// What `docker run --user 1000` makes.
	t.Run("in root's group", func(t *testing.T) {
		cmd := command("1", "run", "-c", "print('ran')")
		cmd.SysProcAttr.Credential.Gid = 0
		out, err := cmd.CombinedOutput()
		if code := exitCode(err); code != 125 || !strings.Contains(string(out), "gid 0") || !strings.Contains(string(out), "--user "+u.Uid+":"+u.Uid) {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
	t.Run("with weak limits", func(t *testing.T) {
		r := runJSON(t, command("1", "run", "--format", "json", "-c", "import os\nprint(os.getuid(), os.getgid())\nopen('/proc/self/uid_map').read()"))
		if r.Status != "success" || len(r.Stdout) != 1 || r.Stdout[0] != "65534 65534" {
			t.Errorf("%+v", r)
		}
		if strings.Contains(string(r.Result), " 0 ") && strings.Contains(string(r.Result), "4294967295") {
			t.Errorf("ids are mapped one to one: %s", r.Result)
		}
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil && r.Limits == "" {
			t.Error("cgroup v1 is not a user's, but the result does not name what enforced the limits")
		}
	})
	t.Run("over MCP", func(t *testing.T) {
		s := &server{t: t, stderr: &buffer{}, state: filepath.Join(home, "state")}
		s.connect(command("1"))
		m := newMark()
		for range 2 {
			r := s.call(map[string]any{"code": m.say() + "import time\nprint('before', flush=True)\ntime.sleep(1000)", "timeout": 1})
			if r.Status != "timeout" || fmt.Sprint(r.Stdout) != "[before]" {
				t.Errorf("%+v", r)
			}
			m.checkGone(t)
			s.checkAlive()
		}
		s.checkIdle()
		_, _, await := busyCalls(t, s, 2)
		children := descendants(s.pid())
		if err := s.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := eventually(func() error { return noneAlive(children) }); err != nil {
			t.Error(err)
		}
		await()
		_ = within(t, "the end of a session", s.session.Close)
		if out, err := command("1", "run", "-c", "pass").CombinedOutput(); err != nil {
			t.Errorf("the next run: %v\n%s", err, out)
		}
		if exists(s.state) {
			t.Errorf("the state directory is left, with %d entries", entries(s.state))
		}
	})
}

func runJSON(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	var r result
	decode(t, out, &r)
	return r
}
