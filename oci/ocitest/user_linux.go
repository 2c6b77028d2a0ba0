//go:build linux

package ocitest

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// subordinate finds a user of this machine that has ids to give to containers.
func subordinate() (uid, gid uint32, name string) {
	b, err := os.ReadFile("/etc/subuid")
	if err != nil {
		return 0, 0, ""
	}
	for line := range strings.Lines(string(b)) {
		owner, _, _ := strings.Cut(line, ":")
		u, err := user.Lookup(owner)
		if err != nil || u.Uid == "0" {
			continue
		}
		id, _ := strconv.Atoi(u.Uid)
		group, _ := strconv.Atoi(u.Gid)
		return uint32(id), uint32(group), owner
	}
	return 0, 0, ""
}

// nobodys is a user id without a name and without subordinate ids.
const nobodys = 54321

// nested says whether containers run in a second user namespace, and what an effect is then.
func nested() bool { return os.Geteuid() == nobodys }

func ifNested(effect, otherwise string) string {
	if nested() {
		return effect
	}
	return otherwise
}

// AsUser runs the other tests again as users without privileges: one with subordinate ids, and one without, or even
// a name, for whom stage0 nests a second user namespace. Unless systemd has delegated a cgroup, their limits are weak.
func (suite Suite) AsUser(t *testing.T) {
	suite.excepted(t)
	suite.asUsers(t, testsOf(suite))
}

// AsUser runs these tests too.
func (suite HostSuite) AsUser(t *testing.T) {
	suite.excepted(t)
	suite.asUsers(t, testsOf(suite))
}

func (suite Suite) asUsers(t *testing.T, tests []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this is a user already")
	}
	if suite.UserTests != nil {
		tests = suite.UserTests
	}
	t.Run("with subordinate ids", func(t *testing.T) {
		uid, gid, name := subordinate()
		if name == "" {
			skip(t, "no user has a line in /etc/subuid")
		}
		for _, helper := range []string{"newuidmap", "newgidmap"} {
			if _, err := exec.LookPath(helper); err != nil {
				skip(t, "the program "+helper+" is missing (package uidmap)")
			}
		}
		suite.asUser(t, tests, uid, gid, name, []uint32{gid, 4})
	})
	t.Run("with one id", func(t *testing.T) {
		suite.asUser(t, tests, nobodys, nobodys, "", nil)
	})
}

func (suite Suite) asUser(t *testing.T, tests []string, uid, gid uint32, name string, groups []uint32) {
	t.Helper()
	tmp, err := os.MkdirTemp("/var/tmp", "mcp-bridge-"+suite.Name+"-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chown(tmp, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	// A program of the user's own, because the sealed one is not for others to read.
	program := filepath.Join(tmp, suite.Name+".test")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	pattern, prefix := suite.pattern(tests)
	cmd := exec.Command(program, "-test.v", "-test.timeout=5m", "-test.run="+pattern)
	cmd.Dir = tmp
	cmd.Env = suite.selfEnv("", "TMPDIR="+tmp, "HOME="+tmp, "USER="+name, "GOCOVERDIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, withoutPassed(out.String()))
	}
	for _, name := range tests {
		if !strings.Contains(out.String(), "=== RUN   "+prefix+name+"\n") {
			t.Errorf("there is no %s", name)
		}
	}
	passed := strings.Count(out.String(), "--- PASS: ")
	t.Logf("%d passed as %d; skipped:", passed, uid)
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "--- SKIP: ") || strings.Contains(line, exception) {
			t.Log(strings.TrimSpace(line))
		}
	}
	if passed < 100 {
		t.Errorf("only %d tests passed\n%s", passed, withoutPassed(out.String()))
	}
}

// withoutPassed is what a test binary printed with -test.v, without what it says of each test that did not fail: of some
// five hundred lines a CI system shows the first and the last.
func withoutPassed(out string) string {
	var left strings.Builder
	for line := range strings.Lines(out) {
		said := strings.TrimSpace(line)
		if !strings.HasPrefix(said, "=== ") && !strings.HasPrefix(said, "--- PASS: ") && !strings.HasPrefix(said, "--- SKIP: ") {
			left.WriteString(line)
		}
	}
	return left.String()
}
