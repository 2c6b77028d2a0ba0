//go:build linux && cgo

package probes

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// escapes are the probes that may get through, and why. One that is only weak may do so where rlimits enforce limits.
var escapes = map[string]struct {
	why  string
	weak bool
}{
	"fs.mountinfo_paths": {why: "a mount's root is named in /proc/self/mountinfo, which is the image's place in the host's cache"},
	"dos.mem_split":      {weak: true, why: "RLIMIT_AS bounds each process, not their sum: the memory limit times the limit of processes is what a run can take"},
	"dos.cpu_threads":    {weak: true, why: "no rlimit bounds the share of CPU time"},
}

func allowed(name string) (why string, ok bool) {
	e, ok := escapes[name]
	if e.weak && !weak {
		return "", false
	}
	return e.why, ok
}

// mayBeSkipped are the probes that do not apply everywhere.
var mayBeSkipped = map[string]string{}

// score is what one suite came to in one mode.
type score struct {
	Suite, Mode, Limits string
	Blocked, Skipped    int
	Escaped             []string
}

// A board keeps the scores of this process, and of the one it has started as a user.
type board struct {
	mu   sync.Mutex
	list []score
}

var scores board

func (b *board) add(s score) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(s.Escaped)
	s.Escaped = slices.Compact(s.Escaped)
	b.list = append(b.list, s)
}

func (b *board) all() []score {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Clone(b.list)
	slices.SortStableFunc(list, func(a, b score) int {
		return cmp.Or(strings.Compare(a.Mode, b.Mode), strings.Compare(a.Suite, b.Suite))
	})
	return list
}

const doc = "../../docs/probes.md"

// writeDoc writes what the tests have found on this machine.
func writeDoc() error {
	list := scores.all()
	modes := make(map[string]bool)
	for _, s := range list {
		modes[s.Mode] = true
	}
	if len(modes) < 4 {
		return fmt.Errorf("%s needs all modes, with and without filter, as root and as a user; there are %v", doc, modes)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	var b strings.Builder
	b.WriteString(docHead)
	fmt.Fprintf(&b, "## Scores\n\nLinux %s, %s.\n\n", release, unix.ByteSliceToString(u.Machine[:]))
	b.WriteString("| ids | system calls | limits | suite | blocked | skipped | escaped |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range list {
		ids, filter, _ := strings.Cut(s.Mode, ", ")
		escaped := "0"
		if n := len(s.Escaped); n > 8 {
			escaped = fmt.Sprint(n)
		} else if n > 0 {
			escaped = fmt.Sprintf("%d: `%s`", n, strings.Join(s.Escaped, "`, `"))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %d | %s |\n", ids, filter, s.Limits, s.Suite, s.Blocked, s.Skipped, escaped)
	}
	b.WriteString(allowedText())
	return os.WriteFile(doc, []byte(b.String()), 0o644)
}

const docHead = `# Attack probes

Made by ` + "`go test ./internal/probes -update`" + ` as root; do not edit. The probes are in ` + "`internal/probes/testdata`" + `, and run as
scripts of ` + "`run_python`" + ` through the same bridge, launcher and filter that the program has: inproc in every test run,
all of them by make probes.

* ` + "`inproc`" + `: one script that tries 205 ways out, by name. Without the filter at least 50 of them must get through,
  or the suite has lost its teeth.
* ` + "`dos`" + `: each exhausts something. It ends in time, what it printed is kept, the host has its memory back, nothing
  of it is left (processes, cgroups, mounts, descriptors, goroutines), and the next run works.
* ` + "`proto`" + `: each lies to the host through the channel, with one wrong frame a run. No tool is called that it may not
  call, a forged end is no success, and only its own result suffers.

`

func allowedText() string {
	var b strings.Builder
	b.WriteString("\n## What may escape\n\n| probe | where | why |\n| --- | --- | --- |\n")
	var names []string
	for name := range escapes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		where := "everywhere"
		if escapes[name].weak {
			where = "limits by rlimit"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, where, escapes[name].why)
	}
	return b.String()
}

// TestDoc: what may escape is documented, word for word. The scores are those of the machine that wrote them.
func TestDoc(t *testing.T) {
	if *update {
		t.Skip("it is about to be written")
	}
	b, err := os.ReadFile(doc)
	if errors.Is(err, os.ErrNotExist) && os.Getenv(scoresEnv) != "" {
		t.Skip("runs away from the source")
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(b), allowedText()) || !strings.HasPrefix(string(b), docHead) {
		t.Error("docs/probes.md is not of these tests: go test ./internal/probes -update")
	}
}
