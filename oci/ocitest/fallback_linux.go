//go:build linux

package ocitest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

const (
	fallbackEnv = "OCITEST_FALLBACK"
	once        = "once" // its value for helpers of which one fails, and then none
)

// NestedInstead runs as a user whose newuidmap does not work, in TestHelpersWithoutEffect: twice, because what the
// first container found out is for all.
func (suite HostSuite) NestedInstead(t *testing.T) {
	suite.excepted(t)
	if os.Getenv(fallbackEnv) == "" {
		t.Skip("only with the user that TestHelpersWithoutEffect makes")
	}
	l := suite.launcher(t)
	if os.Getenv(fallbackEnv) == once {
		if o := run(t, t.Context(), l, python("print(1)"), ""); o.err == nil {
			t.Errorf("it ran without newuidmap: %v", o)
		}
		if out := mustRun(t, l, "print(open('/proc/self/uid_map').read())"); len(strings.Fields(out)) != 6 {
			t.Errorf("the maps of the next container are %q, want two lines", out)
		}
		return
	}
	for range 2 {
		out := mustRun(t, l, "import os; print(os.getuid(), open('/proc/self/uid_map').read().split())")
		if want := "65534 ['65534', '0', '1']\n"; out != want {
			t.Errorf("a container of a user with one id says %q, want %q", out, want)
		}
	}
	for _, c := range host.Diagnose(t.Context(), suite.NewHost, tree.Path, oci.Limits{}) {
		if c.Status == host.Failed || c.Step == "id maps" && !strings.Contains(c.Detail, "second user namespace") {
			t.Errorf("the doctor says %+v", c)
		}
	}
}

// HelpersWithoutEffect: there is a line in /etc/subuid and a newuidmap, and no use in either. A container has one id
// then, as where there is neither. One that fails but once is no verdict: later containers have a subordinate id.
func (suite HostSuite) HelpersWithoutEffect(t *testing.T) {
	suite.excepted(t)
	uid, gid, name := subordinate()
	if os.Geteuid() != 0 || name == "" {
		t.Skip("only root can make a user's newuidmap fail")
	}
	tmp, err := os.MkdirTemp("/var/tmp", "mcp-bridge-"+suite.Name+"-helper-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	no, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err)
	}
	copyFile := func(from, to string, mode os.FileMode) {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(tmp, to), b, 0o755)
		}
		if err == nil {
			err = os.Chmod(filepath.Join(tmp, to), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copyFile("/proc/self/exe", suite.Name+".test", 0o755)
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		copyFile(no, helper, 0o755|os.ModeSetuid)
	}
	home := filepath.Join(tmp, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, owner := range map[string][2]int{tmp: {0, 0}, home: {int(uid), int(gid)}} {
		if err := os.Chown(path, owner[0], owner[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"exit 1", "kill -9 $$"} {
		dir := filepath.Join(tmp, strings.Fields(how)[0])
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, helper := range []string{"newuidmap", "newgidmap"} {
			real, err := exec.LookPath(helper)
			if err == nil {
				script := fmt.Sprintf("#!/bin/sh\nmkdir %s.%s 2>/dev/null && %s\nexec %s \"$@\"\n", filepath.Join(tmp, "home", suite.Name), filepath.Base(dir), how, real)
				err = os.WriteFile(filepath.Join(dir, helper), []byte(script), 0o755)
			}
			if err == nil {
				err = os.Chmod(filepath.Join(dir, helper), 0o755|os.ModeSetuid) // of no effect, but it looks like one that has privileges
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	pattern, prefix := suite.pattern([]string{"NestedInstead"})
	test := []string{filepath.Join(tmp, suite.Name+".test"), "-test.v", "-test.run=" + pattern}
	for how, tt := range map[string]struct {
		args       []string
		path, mode string
	}{
		"they refuse":            {test, tmp + ":" + os.Getenv("PATH"), "1"},
		"they get no privileges": {append([]string{"setpriv", "--no-new-privs"}, test...), os.Getenv("PATH"), "1"},
		"one refuses once":       {test, filepath.Join(tmp, "exit") + ":" + os.Getenv("PATH"), once},
		"one is killed once":     {test, filepath.Join(tmp, "kill") + ":" + os.Getenv("PATH"), once},
	} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(tt.args[0], tt.args[1:]...)
			cmd.Dir = home
			cmd.Env = suite.selfEnv("", "TMPDIR="+home, "HOME="+home, "USER="+name, "PATH="+tt.path, fallbackEnv+"="+tt.mode, "GOCOVERDIR=")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{gid}}}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "--- PASS: "+prefix+"NestedInstead") {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// CgroupThatVanishes: what the first container was put below is no longer there for the second.
func (suite HostSuite) CgroupThatVanishes(t *testing.T) {
	suite.excepted(t)
	if os.Geteuid() != 0 || cgroups.IsCgroup2UnifiedMode() {
		t.Skip("it is done on cgroup v1 only, where root can move this process")
	}
	var away []string
	move := func(to string) {
		if err := os.WriteFile(filepath.Join(to, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0); err != nil {
			t.Fatal(err)
		}
	}
	back := func() {
		for _, dir := range away {
			move(filepath.Dir(dir))
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
		away = nil
	}
	defer back()
	for _, c := range []string{"memory", "pids", "devices", "cpu"} {
		own, err := cgroups.GetOwnCgroupPath(c)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(own, "away-"+idPrefix)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		away = append(away, dir)
		move(dir)
	}
	l := suite.launcher(t)
	mustRun(t, l, "print(1)")
	back()
	if o := run(t, t.Context(), l, python("print(2)"), ""); o.err != nil || o.stdout != "2\n" || o.Limits != oci.ByCgroup {
		t.Errorf("%v", o)
	}
}

// DiagnoseWithoutImage: the steps are the same whatever there is.
func (suite HostSuite) DiagnoseWithoutImage(t *testing.T) {
	suite.excepted(t)
	want := []string{"kernel", "user", "program", "user namespace", "mount namespace", "id maps", "cgroup", "cgroup memory", "cgroup pids", "cgroup cpu", "fresh proc", "mounts", "pivot", "container", "seccomp filter"}
	var got []string
	for _, c := range host.Diagnose(t.Context(), suite.NewHost, "", oci.Limits{Memory: 1 << 29, Pids: 64}) {
		got = append(got, c.Step)
		if c.Detail == "" || strings.ContainsAny(c.Detail, "\n\x1b") {
			t.Errorf("%+v", c)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
}
