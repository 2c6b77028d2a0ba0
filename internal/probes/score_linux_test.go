//go:build linux && cgo

package probes

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// escapes are the probes that may get through, and why. One that is only weak may do so where rlimits enforce limits.
// When one of the others is blocked, its line has to go.
var escapes = map[string]struct {
	why  string
	weak bool
}{
	"dos.cpu_threads": {weak: true, why: "no rlimit bounds the share of CPU time"},
}

func allowed(name string) (why string, ok bool) {
	e, ok := escapes[name]
	if e.weak && !weak {
		return "", false
	}
	return e.why, ok
}

// skips are the probes that cannot be decided from inside, by mapping.
var skips = map[string]struct{ mapping, why string }{
	"priv.host_uid_shared": {single, "a user with one id has no other to give: on the host the script's processes are the user's own (seen by TestTracesAreSeen), " +
		"but two user namespaces keep them from all that is the user's"},
}

// families are those of the probes, by the first part of their names.
var families = []string{"fs", "env", "ns", "priv", "sys", "net", "ipc", "tty", "dos", "proto"}

// An outcome is what came of one probe.
type outcome struct{ Probe, Word string }

// A score is what one family of probes came to.
type score struct {
	Launcher   int `json:",omitempty"` // an index in launchers; only the first one's are documented
	Mapping    string
	Limits     string // what enforced them
	Unfiltered bool   `json:",omitempty"` // the negative control
	Family     string
	Blocked    int
	Skipped    []string `json:",omitempty"`
	Escaped    []string `json:",omitempty"`
}

func (s score) total() int { return s.Blocked + len(s.Skipped) + len(s.Escaped) }

func (s score) String() string {
	return fmt.Sprintf("%s, %s, limits by %s, %s: %d blocked, skipped %v, escaped %v", launchers[s.Launcher].name, s.Mapping, s.Limits, s.Family, s.Blocked, s.Skipped, s.Escaped)
}

// differs says that the other is of the same probes, in the same circumstances but for the launcher, and not the same.
func (s score) differs(other score) bool {
	s.Launcher = other.Launcher
	return s.Mapping == other.Mapping && s.Limits == other.Limits && s.Unfiltered == other.Unfiltered && s.Family == other.Family &&
		fmt.Sprint(s) != fmt.Sprint(other)
}

func tally(t testing.TB, list []outcome, unfiltered bool) (all []score) {
	t.Helper()
	which, err := launcher()
	if err != nil {
		t.Fatal(err)
	}
	limits := oci.ByCgroup
	if weak {
		limits = oci.ByRlimits
	}
	for _, family := range families {
		s := score{Launcher: which, Mapping: mapping(), Limits: string(limits), Unfiltered: unfiltered, Family: family}
		for _, o := range list {
			name, rest, _ := strings.Cut(o.Probe, ".")
			switch {
			case name != family || rest == "":
			case o.Word == "ESCAPED":
				s.Escaped = append(s.Escaped, o.Probe)
			case o.Word == "SKIP":
				s.Skipped = append(s.Skipped, o.Probe)
			default:
				s.Blocked++
			}
		}
		slices.Sort(s.Escaped)
		if s.total() > 0 {
			all = append(all, s)
		}
	}
	return all
}

// A board keeps the scores of this process, and of those it has started as users.
type board struct {
	mu   sync.Mutex
	list []score
	bare int // as findings.Bare
}

var scores board

// record keeps a test's outcomes, which have to be those that are documented for such a machine, with any launcher.
func record(t *testing.T, list []outcome, unfiltered bool) {
	t.Helper()
	for _, s := range tally(t, list, unfiltered) {
		scores.add(s)
		t.Log(s)
		if *update && everything() || t.Failed() || unfiltered || s.total() != probesOf(t, s.Family) {
			continue
		}
		for _, said := range documented(t).Scores {
			if !said.Unfiltered && s.differs(said) {
				t.Errorf("docs/probes.md is older than this result (make probes-doc): it says\n%v, and now it is\n%v", said, s)
			}
		}
	}
}

func (b *board) add(s score) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, s)
}

func (b *board) all() []score {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Clone(b.list)
	slices.SortStableFunc(list, func(a, b score) int {
		if a.Unfiltered != b.Unfiltered {
			return cmp.Compare(fmt.Sprint(a.Unfiltered), fmt.Sprint(b.Unfiltered))
		}
		return cmp.Or(
			cmp.Compare(slices.Index(mappings, a.Mapping), slices.Index(mappings, b.Mapping)),
			cmp.Compare(slices.Index(families, a.Family), slices.Index(families, b.Family)),
		)
	})
	return list
}

// probesOf is how many probes testdata has of a family.
func probesOf(t testing.TB, family string) (n int) {
	t.Helper()
	switch family {
	case "dos":
		return len(probesIn(t, "dos"))
	case "proto":
		for _, name := range probesIn(t, "proto") {
			n += max(lies[name].cases, 1)
		}
		return n
	}
	return inprocProbes[family]
}

// The scores that are documented, and where.
type findings struct {
	Machine string
	Scores  []score
	Bare    int // how many get through in a bare user namespace
}

const findingsFile = "testdata/scores.json"

func readFindings() (f findings, err error) {
	b, err := testdata.ReadFile(findingsFile)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err
}

func documented(t testing.TB) findings {
	t.Helper()
	f, err := readFindings()
	if err != nil {
		t.Fatal(err)
	}
	return f
}
