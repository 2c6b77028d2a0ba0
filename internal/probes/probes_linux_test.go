//go:build linux && cgo

package probes

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

//go:embed testdata
var testdata embed.FS

func probe(t testing.TB, name string) string {
	t.Helper()
	b, err := testdata.ReadFile(path.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// probesIn are the names, without ".py", of the probes in a directory.
func probesIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	list, err := testdata.ReadDir(path.Join("testdata", dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, strings.TrimSuffix(e.Name(), ".py"))
	}
	return names
}

// A verdict is one line of a probe.
type verdict struct{ name, word, detail string }

var verdictLine = regexp.MustCompile(`^PROBE (\S+) ([A-Z]+) ?(.*)$`)

func verdicts(stdout []string) (all []verdict) {
	for _, line := range stdout {
		if m := verdictLine.FindStringSubmatch(line); m != nil {
			all = append(all, verdict{m[1], m[2], m[3]})
		}
	}
	return all
}

// inprocProbes is how many there are in testdata/inproc.py.
const inprocProbes = 205

// inproc runs testdata/inproc.py and returns what it found; that it tells of each of its probes is checked.
func inproc(t *testing.T, unfiltered bool) []verdict {
	t.Helper()
	const timeout = 3 * time.Minute
	c := plant(t)
	h := newHouse(t, houseOptions{limits: defaultLimits, timeout: timeout, unfiltered: unfiltered})
	h.next(t)
	before := h.traces(t)
	res := h.run(t, timeout, c.preamble(t)+probe(t, "inproc.py"))
	found := verdicts(res.Stdout)
	if len(found) != inprocProbes || res.Status != bridge.StatusSuccess {
		t.Fatalf("%d of %d probes have answered: %s", len(found), inprocProbes, describe(res))
	}
	if hurt := c.hurt(); len(hurt) > 0 {
		t.Errorf("on the host: %v", hurt)
	}
	h.nothingLeft(t, before)
	h.next(t)
	return found
}

func names(all []verdict, word string) (list []string) {
	for _, v := range all {
		if v.word == word {
			list = append(list, v.name)
		}
	}
	return list
}

// TestInproc: nothing gets out, but for what is allowed.
func TestInproc(t *testing.T) {
	found := inproc(t, false)
	for _, v := range found {
		switch v.word {
		case "ESCAPED":
			if why, ok := allowed(v.name); ok {
				t.Logf("%s %s: allowed: %s", v.name, v.detail, why)
			} else {
				t.Errorf("%s ESCAPED %s", v.name, v.detail)
			}
		case "SKIP":
			// What was not tried is not known to be blocked; a new one has to be looked at.
			if _, ok := mayBeSkipped[v.name]; !ok {
				t.Errorf("%s was not tried: %s", v.name, v.detail)
			}
		}
	}
	scores.add(score{
		Suite: "inproc", Mode: mapping() + ", filter", Limits: limitsName(),
		Blocked: len(names(found, "BLOCKED")), Skipped: len(names(found, "SKIP")), Escaped: names(found, "ESCAPED"),
	})
}

// leastUnfiltered is how many probes must get through without the system call filter: fewer, and the probes prove
// nothing.
const leastUnfiltered = 50

// TestNegativeControl: a suite that cannot fail is none.
func TestNegativeControl(t *testing.T) {
	found := inproc(t, true)
	escaped := names(found, "ESCAPED")
	if len(escaped) < leastUnfiltered {
		t.Errorf("without the filter only %d probes get through: %v", len(escaped), escaped)
	}
	t.Logf("without the filter %d get through: %v", len(escaped), escaped)
	scores.add(score{
		Suite: "inproc", Mode: mapping() + ", no filter", Limits: limitsName(),
		Blocked: len(names(found, "BLOCKED")), Skipped: len(names(found, "SKIP")), Escaped: escaped,
	})
}

func limitsName() string {
	if weak {
		return string(oci.ByRlimits)
	}
	return string(oci.ByCgroup)
}

// TestDescriptors: the script has its three streams, the two pipes of the runner, and what it opens itself.
func TestDescriptors(t *testing.T) {
	h := newHouse(t, houseOptions{limits: defaultLimits, timeout: patience})
	res := h.run(t, patience, `
import os, stat
open_fds = {}
d = os.open("/proc/self/fd", os.O_RDONLY)
for n in sorted(map(int, os.listdir(d))):
    if n != d:
        try: open_fds[n] = stat.filemode(os.fstat(n).st_mode)[0]
        except OSError: pass
" ".join("%d%s" % i for i in open_fds.items())`)
	if got := string(res.Result); got != `"0c 1p 2p 240p 241p"` {
		t.Errorf("descriptors %s; want /dev/null and four pipes: %s", got, describe(res))
	}
}

// TestAsUser runs the other tests again as a user without privileges: another way to map ids, and, unless a cgroup is
// delegated, weak limits.
func TestAsUser(t *testing.T) {
	long(t)
	if os.Geteuid() != 0 {
		t.Skip("this is a user already")
	}
	u := subordinate()
	if u == nil {
		skip(t, "no user has a line in /etc/subuid")
		return // staticcheck does not know that skip has not returned
	}
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			skip(t, "the program "+helper+" is missing (package uidmap)")
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
	dir, err := openDir("user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	// A program of the user's own, because the sealed one is not for others to read.
	program := filepath.Join(dir, "probes.test")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	given, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "scores.json")
	args := []string{"-test.v", "-test.timeout=10m"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(
		os.Environ(), treeEnv+"="+string(given), scoresEnv+"="+file, "TMPDIR="+dir, "HOME="+dir, "USER="+u.Username, "GOCOVERDIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as %s: %v\n%s", u.Username, err, out)
	}
	var theirs []score
	if b, err = os.ReadFile(file); err == nil {
		err = json.Unmarshal(b, &theirs)
	}
	if err != nil || len(theirs) < 2 {
		t.Fatalf("as %s: no scores: %v", u.Username, err)
	}
	for _, s := range theirs {
		scores.add(s)
		t.Log(s)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "allowed: ") || strings.Contains(line, "--- SKIP: ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// subordinate finds a user of this machine that has ids to give to containers.
func subordinate() *user.User {
	owners := []string{os.Getenv("MCP_BRIDGE_TEST_USER")}
	b, _ := os.ReadFile("/etc/subuid") // without it there is none
	for line := range strings.Lines(string(b)) {
		owner, _, _ := strings.Cut(line, ":")
		owners = append(owners, owner)
	}
	for _, owner := range owners {
		if u, err := user.Lookup(owner); err == nil && u.Uid != "0" && slices.ContainsFunc(owners[1:], func(o string) bool { return o == owner }) {
			return u
		}
	}
	return nil
}

func (s score) String() string {
	return fmt.Sprintf("%s, %s, %s: %d blocked, %d skipped, %d escaped %v", s.Suite, s.Mode, s.Limits, s.Blocked, s.Skipped, len(s.Escaped), s.Escaped)
}
