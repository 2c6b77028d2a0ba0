//go:build linux && cgo

package probes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The ways in which containers get their ids: a range that root gives them, a user's subordinate ids, or, for a user
// who has none, that user's own id in a second user namespace.
const (
	root   = "root"
	subuid = "subuid"
	single = "single uid"
)

var mappings = []string{root, subuid, single}

// nobodys is a user id without a name and without subordinate ids.
const nobodys = 54321

// mapping names how this process gets its containers' ids.
func mapping() string {
	if os.Geteuid() == 0 {
		return root
	}
	if given := os.Getenv(mappingEnv); given != "" {
		return given
	}
	if u, err := user.Current(); err == nil && slices.Contains(owners(), u.Username) && missingHelper() == "" {
		return subuid
	}
	return single
}

// owners are those of subordinate ids.
func owners() (list []string) {
	b, _ := os.ReadFile("/etc/subuid") // without it there is none
	for line := range strings.Lines(string(b)) {
		owner, _, _ := strings.Cut(line, ":")
		list = append(list, owner)
	}
	return list
}

func missingHelper() string {
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			return helper
		}
	}
	return ""
}

// An account is a user that root's tests run the others as.
type account struct {
	mapping, name string
	uid, gid      uint32
	dir           string // its own
}

// accounts are one user of this machine with subordinate ids, and one without.
func accounts(t *testing.T) (list []account) {
	t.Helper()
	if slices.Contains(owners(), fmt.Sprint(nobodys)) {
		lacking(t, fmt.Sprintf("the user id %d has subordinate ids", nobodys))
	} else {
		list = append(list, account{mapping: single, uid: nobodys, gid: nobodys})
	}
	if helper := missingHelper(); helper != "" {
		lacking(t, "the program "+helper+" is missing (package uidmap)")
		return list
	}
	for _, owner := range append([]string{os.Getenv("MCP_BRIDGE_TEST_USER")}, owners()...) {
		u, err := user.Lookup(owner)
		if err != nil || u.Uid == "0" || !slices.Contains(owners(), owner) {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return append(list, account{mapping: subuid, name: owner, uid: uint32(uid), gid: uint32(gid)})
	}
	lacking(t, "no user has a line in /etc/subuid")
	return list
}

// lacking notes what this machine has not, which on CI is a failure.
func lacking(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Errorf("this has to run on CI: %s", reason)
	}
	t.Logf("not tested: %s", reason)
}

// TestAsUser runs the other tests again as users without privileges: other ways to map ids, and, unless a cgroup is
// delegated, weak limits. They attack from inside at the same time, and lie to the host at the same time; who exhausts
// something does so alone.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is a user already")
	}
	users := accounts(t)
	for i := range users {
		users[i].moveIn(t)
	}
	atOnce := func(name, tests string) {
		t.Run(name, func(t *testing.T) {
			for _, a := range users {
				t.Run(a.mapping, func(t *testing.T) {
					t.Parallel()
					a.test(t, tests)
				})
			}
		})
	}
	atOnce("inproc", "^(TestInproc|TestNegativeControl|TestDescriptors|TestTracesAreSeen)$")
	if !everything() {
		t.Log("dos and proto run in each mapping with CI=true or by make probes")
		return
	}
	if which, err := launcher(); which > 0 || err != nil {
		t.Logf("dos and proto run in each mapping with %s only (%v)", launchers[0].name, err) // they take two minutes
		return
	}
	t.Run("dos", func(t *testing.T) {
		for _, a := range users {
			t.Run(a.mapping, func(t *testing.T) { a.test(t, "^(TestResources|TestLocksKeepNobodyWaiting)$") })
		}
	})
	atOnce("proto", "^TestProtocol$")
}

// moveIn gives the user a directory, and in it a test program, because the sealed one is not for others to read.
func (a *account) moveIn(t *testing.T) {
	t.Helper()
	dir, err := openDir("user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, int(a.uid), int(a.gid)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "probes.test"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	a.dir = dir
}

// test runs tests as the user, and takes over their scores.
func (a account) test(t *testing.T, tests string) {
	t.Helper()
	given, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a.dir, "scores.json")
	cmd := exec.CommandContext(t.Context(), filepath.Join(a.dir, "probes.test"), "-test.v", "-test.timeout=10m", "-test.run", tests)
	if *update {
		cmd.Args = append(cmd.Args, "-update")
	}
	cmd.Dir = a.dir
	cmd.Env = append(
		os.Environ(), treeEnv+"="+string(given), scoresEnv+"="+file, mappingEnv+"="+a.mapping,
		"TMPDIR="+a.dir, "HOME="+a.dir, "USER="+a.name, "GOCOVERDIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: []uint32{a.gid}}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as %d %s: %v\n%s", a.uid, a.name, err, out)
	}
	takeOver(t, file)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "allowed: ") || strings.Contains(line, "--- SKIP: ") || strings.Contains(line, ": waited ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
