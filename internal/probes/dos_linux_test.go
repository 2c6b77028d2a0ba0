//go:build linux && cgo

package probes

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/bridge"
)

// The time that an attack on resources has, and what those have that only their timeout can end.
const (
	dosTimeout  = 12 * time.Second
	dosHopeless = 2 * time.Second
)

// ends are the ways in which an attack on resources may end; one that is not here must end with success. What limits
// it depends on the host: a memory limit kills, an rlimit makes an exception of Python.
var ends = map[string][]bridge.Status{
	"busy_forever":  {bridge.StatusTimeout},
	"native_hang":   {bridge.StatusTimeout},
	"kill_all":      {bridge.StatusError},
	"segv":          {bridge.StatusError},
	"recursion":     {bridge.StatusError, bridge.StatusSuccess, bridge.StatusOOM},
	"fork_bomb_exp": {bridge.StatusSuccess, bridge.StatusTimeout, bridge.StatusError},
	"mem_children":  {bridge.StatusOOM, bridge.StatusSuccess, bridge.StatusError, bridge.StatusTimeout},
	"mem_split":     {bridge.StatusOOM, bridge.StatusSuccess, bridge.StatusError},
	"mem_memfd":     {bridge.StatusOOM, bridge.StatusSuccess},
	"mem_tmpfs":     {bridge.StatusOOM, bridge.StatusSuccess},
	"inodes":        {bridge.StatusOOM, bridge.StatusSuccess},
	"vmas":          {bridge.StatusOOM, bridge.StatusSuccess},
	"thread_bomb":   {bridge.StatusSuccess},
}

// TestResources: each attack ends in time, its output is kept, the host has back what was taken, and the next run works.
func TestResources(t *testing.T) {
	long(t)
	c := plant(t)
	h := newHouse(t, houseOptions{limits: smallLimits})
	h.next(t)
	var came []outcome
	for _, name := range probesIn(t, "dos") {
		t.Run(name, func(t *testing.T) {
			before := h.traces(t)
			start := time.Now()
			code := probe(t, "dos/"+name+".py")
			want, timeout, word := ends[name], dosTimeout, "BLOCKED"
			if len(want) == 1 && want[0] == bridge.StatusTimeout {
				timeout = dosHopeless
			}
			if _, ok := allowed("dos." + name); ok {
				word = "ESCAPED" // nothing keeps it, even if a busy machine seems to
			}
			res := h.run(t, timeout, c.preamble(t)+code)
			t.Logf("%v: %.600s", time.Since(start).Round(time.Millisecond), describe(res))
			if want == nil {
				want = []bridge.Status{bridge.StatusSuccess}
			}
			if !slices.Contains(want, res.Status) {
				t.Errorf("it ended as %s, want %v: %s", res.Status, want, describe(res))
			}
			found := verdicts(res.Stdout)
			if strings.Contains(code, " STARTED") && !slices.ContainsFunc(found, func(v verdict) bool { return v.word == "STARTED" }) {
				t.Errorf("what it printed is lost: %s", describe(res))
			}
			if len(found) == 0 && res.Status == bridge.StatusSuccess {
				t.Errorf("it says nothing: %s", describe(res))
			}
			for _, v := range found {
				switch v.word {
				case "STARTED", "BLOCKED":
				case "ESCAPED":
					if why, ok := allowed(v.name); ok {
						t.Logf("%s %s: allowed: %s", v.name, v.detail, why)
						continue
					}
					fallthrough
				default:
					t.Errorf("%s %s %s", v.name, v.word, v.detail)
				}
			}
			if hurt := c.hurt(); len(hurt) > 0 {
				t.Errorf("on the host: %v", hurt)
			}
			h.nothingLeft(t, before)
			h.next(t)
			came = append(came, outcome{"dos." + name, word})
		})
	}
	record(t, came, false)
}

// TestLocksKeepNobodyWaiting: a lock on a file of the image, which all runs share, is a word that only those hear who
// listen.
func TestLocksKeepNobodyWaiting(t *testing.T) {
	long(t)
	h := newHouse(t, houseOptions{limits: smallLimits})
	locked := make(chan bridge.Result, 1)
	go func() {
		locked <- h.run(t, dosTimeout, `
import fcntl, os, sys, time
kept = []
for p in (os.path.realpath(sys.executable), os.__file__, "/etc/passwd"):
    try:
        kept.append(open(p, "rb")); fcntl.flock(kept[-1], fcntl.LOCK_EX)
    except OSError: pass
time.sleep(1)`)
	}()
	h.next(t)
	if res := <-locked; res.Status != bridge.StatusSuccess {
		t.Error(describe(res))
	}
}
