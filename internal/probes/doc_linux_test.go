//go:build linux && cgo

package probes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	doc         = "../../docs/probes.md"
	security    = "../../SECURITY.md"
	scoresBegin = "<!-- scores -->\n"
	scoresEnd   = "<!-- /scores -->"
)

// writeDoc writes what the tests have found on this machine, and the two texts that are made of it. If not all tests have
// run, it makes the texts anew of what was found before.
func writeDoc() error {
	f, err := readFindings()
	if everything() {
		f, err = found()
	}
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(f, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(findingsFile, append(b, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(doc, []byte(f.doc()), 0o644); err != nil {
		return err
	}
	text, err := os.ReadFile(security)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	before, _, after, err := cutScores(string(text))
	if err != nil {
		return err
	}
	return os.WriteFile(security, []byte(before+scoresBegin+f.compact()+scoresEnd+after), 0o644)
}

// found is what all the tests have found.
func found() (f findings, err error) {
	all := scores.all()
	f.Bare = scores.bare
	if f.Machine, err = machine(); err != nil {
		return f, err
	}
	for i, l := range launchers {
		if l.only {
			continue
		}
		found := findings{Scores: slices.DeleteFunc(slices.Clone(all), func(s score) bool { return s.Launcher != i })}
		for _, m := range mappings {
			for _, family := range families {
				_, inproc := inprocProbes[family]
				if _, ok := found.find(m, family, false); !ok && (inproc || i == 0 || m == root) {
					return f, fmt.Errorf("%s needs all tests as root (make probes-doc): there are no %s probes with %s and %s", doc, family, m, l.name)
				}
			}
		}
		if i == 0 {
			f.Scores = found.Scores
		}
		for _, s := range found.Scores {
			if i := slices.IndexFunc(f.Scores, s.differs); i >= 0 && !s.Unfiltered {
				return f, fmt.Errorf("%s is of all launchers, which differ:\n%v\n%v", doc, s, f.Scores[i])
			}
		}
	}
	return f, nil
}

// machine is the kernel that this runs on.
func machine() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return "Linux " + release + ", " + unix.ByteSliceToString(u.Machine[:]), nil
}

func cutScores(text string) (before, between, after string, err error) {
	before, rest, ok := strings.Cut(text, scoresBegin)
	between, after, ok2 := strings.Cut(rest, scoresEnd)
	if !ok || !ok2 {
		return "", "", "", fmt.Errorf("%s has no lines %q and %q", security, strings.TrimSpace(scoresBegin), scoresEnd)
	}
	return before, between, after, nil
}

func (f findings) find(mapping, family string, unfiltered bool) (score, bool) {
	i := slices.IndexFunc(f.Scores, func(s score) bool {
		return s.Mapping == mapping && s.Family == family && s.Unfiltered == unfiltered
	})
	if i < 0 {
		return score{}, false
	}
	return f.Scores[i], true
}

// table has a line for each mapping and a column for each family, and for their sum.
func (f findings) table(unfiltered bool, families []string, cell func(score) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| ids | limits by | %s | sum |\n| --- | --- |%s --- |\n", strings.Join(families, " | "), strings.Repeat(" --- |", len(families)))
	for _, m := range mappings {
		var sum score
		var cells []string
		for _, family := range families {
			s, _ := f.find(m, family, unfiltered)
			cells = append(cells, cell(s))
			sum.Limits, sum.Blocked = s.Limits, sum.Blocked+s.Blocked
			sum.Skipped, sum.Escaped = append(sum.Skipped, s.Skipped...), append(sum.Escaped, s.Escaped...)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", m, sum.Limits, strings.Join(cells, " | "), cell(sum))
	}
	return b.String()
}

// compact is what SECURITY.md shows.
func (f findings) compact() string {
	return "Blocked, of all probes, on " + f.Machine + " (what is not, and why: docs/probes.md):\n\n" +
		f.table(false, families, func(s score) string {
			if s.Blocked == s.total() {
				return fmt.Sprint(s.Blocked)
			}
			return fmt.Sprintf("%d of %d", s.Blocked, s.total())
		})
}

const docHead = `# Attack probes

Made by ` + "`make probes-doc`" + ` as root; do not edit. The probes are in ` + "`internal/probes/testdata`" + `, and run as scripts of
` + "`run_python`" + ` through the same bridge, launchers and filter that the program has. A score is what each of the launchers has
(` + "`direct`, `libcontainer`" + `).

* ` + "`fs` to `tty`" + `: one script (` + "`inproc.py`" + `) that tries 205 ways out, by name.
* ` + "`dos`" + `: each exhausts something. It ends in time, what it printed is kept, the host has its memory back, and the next run works.
* ` + "`proto`" + `: each lies to the host through the channel, with one wrong frame a run. No tool is called that it may not call, a
  forged end is no success, and only its own result suffers.

After each, nothing of it is left: processes, cgroups, mounts, descriptors, goroutines, files of state, memory.
` + "`make test`" + ` runs all of them as root, and the script of 205 in each mapping with each launcher; CI, and
` + "`make probes`" + `, all of them in each mapping with the direct launcher, and as root with the others.

`

func (f findings) doc() string {
	var b strings.Builder
	b.WriteString(docHead)
	fmt.Fprintf(&b, "## Scores\n\nblocked / skipped / escaped, on %s:\n\n", f.Machine)
	b.WriteString(f.table(false, families, func(s score) string {
		return fmt.Sprintf("%d / %d / %d", s.Blocked, len(s.Skipped), len(s.Escaped))
	}))
	b.WriteString("\n* root: ids of a range that is nobody's. subuid: a user's subordinate ids. single uid: a user who has none; stage0 makes a\n" +
		"  second user namespace.\n" +
		"* cgroup: the kernel holds all processes together to the limits. rlimit: each process by itself, and a watchdog adds up\n" +
		"  their memory. A user has no cgroup on a machine with cgroup v1, so a run must allow it (`MCP_BRIDGE_ALLOW_WEAK_LIMITS=1`),\n" +
		"  and each result names it.\n")
	b.WriteString("\n## What is not blocked\n\n| probe | ids | limits by | outcome | why |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range f.Scores {
		if s.Unfiltered {
			continue
		}
		for _, name := range s.Skipped {
			fmt.Fprintf(&b, "| `%s` | %s | %s | skipped | %s |\n", name, s.Mapping, s.Limits, skips[name].why)
		}
		for _, name := range s.Escaped {
			fmt.Fprintf(&b, "| `%s` | %s | %s | escaped | %s |\n", name, s.Mapping, s.Limits, escapes[name].why)
		}
	}
	fmt.Fprintf(&b, "\n## Negative controls\n\nA suite that cannot fail is none. Without the filter of system calls at least %d must get through (on another kernel %d), and without\n"+
		"any wall but a user and a process namespace at least %d; here %d do. Some must be among them by name.\n\n", leastUnfiltered, leastElsewhere, leastBare, f.Bare)
	b.WriteString("Escaped without the filter:\n\n")
	b.WriteString(f.table(true, families[:slices.Index(families, "dos")], func(s score) string { return fmt.Sprint(len(s.Escaped)) }))
	fmt.Fprintf(&b, "\n* by name without the filter: `%s`\n* by name in a bare namespace: `%s`\n", strings.Join(mustEscapeUnfiltered, "`, `"), strings.Join(mustEscapeBare, "`, `"))
	return b.String()
}

// TestDoc: the texts are those of the findings, and the findings are of all probes that there are. That they are also
// those of this run is checked where each outcome is recorded.
func TestDoc(t *testing.T) {
	if *update {
		t.Skip("it is about to be written")
	}
	f := documented(t)
	for _, m := range mappings {
		for _, family := range families {
			s, _ := f.find(m, family, false)
			if n := probesOf(t, family); s.total() != n {
				t.Errorf("%s: it knows %d of %d probes (%s, %s)", findingsFile, s.total(), n, m, family)
			}
			for _, name := range s.Escaped {
				if e, ok := escapes[name]; !ok || e.weak && s.Limits != "rlimit" {
					t.Errorf("%s: %s may not escape (%s)", findingsFile, name, m)
				}
			}
			for _, name := range s.Skipped {
				if skips[name].mapping != m {
					t.Errorf("%s: %s may not be skipped (%s)", findingsFile, name, m)
				}
			}
		}
	}
	b, err := os.ReadFile(doc)
	if errors.Is(err, os.ErrNotExist) && os.Getenv(scoresEnv) != "" {
		t.Skip("runs away from the source")
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != f.doc() {
		t.Error("docs/probes.md is not of these tests: make probes-doc")
	}
	b, err = os.ReadFile(security)
	if err != nil {
		t.Fatal(err)
	}
	if _, between, _, err := cutScores(string(b)); err != nil || between != f.compact() {
		t.Errorf("the scores of SECURITY.md are not those of these tests: make probes-doc (%v)", err)
	}
}
