//go:build linux && cgo

package probes

import (
	"embed"
	"maps"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/bridge"
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
var inprocProbes = map[string]int{"fs": 43, "env": 2, "ns": 33, "priv": 15, "sys": 62, "net": 43, "ipc": 3, "tty": 4}

// inproc runs testdata/inproc.py and returns what it found; that it tells of each of its probes is checked.
func inproc(t *testing.T, unfiltered bool) []outcome {
	t.Helper()
	const timeout = 3 * time.Minute
	c := plant(t)
	h := newHouse(t, houseOptions{limits: defaultLimits, unfiltered: unfiltered})
	h.next(t)
	before := h.traces(t)
	res := h.run(t, timeout, c.preamble(t)+probe(t, "inproc.py"))
	found := verdicts(res.Stdout)
	if res.Status != bridge.StatusSuccess {
		t.Fatalf("%d probes have answered: %s", len(found), describe(res))
	}
	if hurt := c.hurt(); len(hurt) > 0 {
		t.Errorf("on the host: %v", hurt)
	}
	h.nothingLeft(t, before)
	h.next(t)
	var list []outcome
	answers := make(map[string]int)
	for _, v := range found {
		family, _, _ := strings.Cut(v.name, ".")
		answers[family]++
		list = append(list, outcome{v.name, v.word})
		t.Logf("%s %s %s", v.name, v.word, v.detail)
	}
	if !maps.Equal(answers, inprocProbes) {
		t.Fatalf("of %v probes %v have answered: %s", inprocProbes, answers, describe(res))
	}
	return list
}

func names(all []outcome, word string) (list []string) {
	for _, o := range all {
		if o.Word == word {
			list = append(list, o.Probe)
		}
	}
	return list
}

// TestInproc: nothing gets out, but for what is allowed.
func TestInproc(t *testing.T) {
	found := inproc(t, false)
	for _, name := range names(found, "ESCAPED") {
		if why, ok := allowed(name); ok {
			t.Logf("%s: allowed: %s", name, why)
		} else {
			t.Errorf("%s ESCAPED", name)
		}
	}
	for _, name := range names(found, "BLOCKED") {
		if e, ok := escapes[name]; ok && !e.weak {
			t.Errorf("%s is blocked: take it from the list of escapes", name)
		}
	}
	for _, name := range names(found, "SKIP") {
		// What was not tried is not known to be blocked; a new one has to be looked at.
		if skips[name].mapping != mapping() {
			t.Errorf("%s was not tried", name)
		}
	}
	record(t, found, false)
}

// TestDescriptors: the script has its three streams, the two pipes of the runner, and what it opens itself.
func TestDescriptors(t *testing.T) {
	h := newHouse(t, houseOptions{limits: defaultLimits})
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
