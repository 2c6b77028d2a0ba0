//go:build linux && cgo

package probes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mcp-bridge/mcp-bridge/bridge"
)

// The time that a lie has, and what those have that only their timeout can end.
const (
	protoTimeout  = 4 * time.Second
	protoHopeless = 2 * time.Second
)

// A lie is one file of testdata/proto. It has as many cases as it can send wrong frames; each is a run.
type lie struct {
	cases int // 0: it has no cases
	want  []bridge.Status
	// except are the cases with another end; the last case of several is the empty frame.
	except map[int][]bridge.Status
	calls  int // at most so many calls of the allowed tool are made in a run
	check  func(*testing.T, int, bridge.Result)
}

var (
	success = []bridge.Status{bridge.StatusSuccess}
	failure = []bridge.Status{bridge.StatusError}
)

var lies = map[string]lie{
	"ansi":         {want: failure},
	"authority":    {want: success, calls: 1},
	"call_and_die": {want: failure, calls: 20, check: exitCode(3)},
	"close_stdout": {want: success},
	"deep_json":    {cases: 5, want: failure, except: map[int][]bridge.Status{4: success}},
	// Half a frame is what a killed process leaves. That it ended, and how, is the host's to see; the value is the
	// script's to choose, with a whole frame as with a last expression.
	"exit_paths": {
		cases: 6, want: success, check: ownValueOnly,
		except: map[int][]bridge.Status{3: failure, 4: failure, 5: {bridge.StatusTimeout}},
	},
	"forged_done": {cases: 19, want: failure, check: noResult},
	"garbage":     {cases: 9, want: failure},
	"giant_frame": {cases: 2, want: failure},
	"invalid_utf8": {
		cases: 11, want: failure, except: map[int][]bridge.Status{10: success},
	},
	"mcp_on_stdout":  {cases: 2, want: failure, except: map[int][]bridge.Status{0: success}},
	"numbers":        {cases: 9, want: failure, except: map[int][]bridge.Status{8: success}},
	"patched_runner": {want: success},
	"result_types": {
		cases: 5, want: []bridge.Status{bridge.StatusSuccess, bridge.StatusError, bridge.StatusOOM, bridge.StatusTimeout},
		check: notForged,
	},
	"rpc_after_done": {cases: 2, want: success, except: map[int][]bridge.Status{1: failure}},
	"rpc_flood": {
		cases: 2, want: []bridge.Status{bridge.StatusTimeout, bridge.StatusError}, calls: 10_000,
	},
	"rpc_ids":      {cases: 21, want: failure, calls: 1},
	"scm_rights":   {want: success},
	"sigkill_self": {want: failure, check: exitCode(137)},
	"stdout_flood": {want: []bridge.Status{bridge.StatusSuccess, bridge.StatusTimeout}, check: cut},
	"steal_stdin":  {want: success},
	"unterminated": {want: []bridge.Status{bridge.StatusTimeout}},
}

func exitCode(code int) func(*testing.T, int, bridge.Result) {
	return func(t *testing.T, _ int, res bridge.Result) {
		if res.ExitCode == nil || *res.ExitCode != code {
			t.Errorf("the exit code is not %d: %s", code, describe(res))
		}
	}
}

func ownValueOnly(t *testing.T, i int, res bridge.Result) {
	switch i {
	case 0, 1:
		noResult(t, i, res)
	case 3:
		exitCode(3)(t, i, res)
	case 4:
		exitCode(137)(t, i, res)
	}
}

func noResult(t *testing.T, _ int, res bridge.Result) {
	if res.Result != nil {
		t.Errorf("it has a value: %s", describe(res))
	}
}

func notForged(t *testing.T, _ int, res bridge.Result) {
	if strings.Contains(string(res.Result), `"type":"done"`) {
		t.Errorf("a value broke out of its string: %s", describe(res))
	}
}

func cut(t *testing.T, _ int, res bridge.Result) {
	if !res.Truncated {
		t.Errorf("nobody says that the output was cut: %.300s", describe(res))
	}
}

// growth is how much memory a lie may cost the host while it is told: a small multiple of the codec's bound of 64 MiB for
// one message.
const growth = 384 << 20

// TestProtocol: a lie costs its own run at most.
func TestProtocol(t *testing.T) {
	long(t)
	c := plant(t)
	h := newHouse(t, houseOptions{limits: smallLimits})
	h.next(t)
	var came []outcome
	for _, name := range probesIn(t, "proto") {
		l, ok := lies[name]
		if !ok {
			t.Errorf("%s: nobody has said how it must end", name)
		}
		for i := range max(l.cases, 1) {
			id := fmt.Sprintf("%s/%d", name, i)
			t.Run(id, func(t *testing.T) {
				tell(t, h, c, name, l, i)
				came = append(came, outcome{"proto." + id, "BLOCKED"})
			})
		}
	}
	record(t, came, false)
}

func tell(t *testing.T, h *house, c *canaries, name string, l lie, i int) {
	before := h.traces(t)
	resetPeak(t)
	resting := peak(t)
	code := c.preamble(t) + probe(t, "proto.py") + probe(t, "proto/"+name+".py")
	if l.cases > 0 {
		code = fmt.Sprintf("CASE = %d\n", i) + code
	}
	want, timeout := l.want, protoTimeout
	if other, ok := l.except[i]; ok {
		want = other
	}
	if want[0] == bridge.StatusTimeout {
		timeout = protoHopeless
	}
	res := h.run(t, timeout, code)
	more := peak(t) - resting
	t.Logf("%s; it cost the host %d MiB", res.Status, more>>20)
	if more > growth {
		t.Errorf("that is more than %d MiB", growth>>20)
	}
	if !slices.Contains(want, res.Status) {
		t.Errorf("it ended as %s, want %v: %s", res.Status, want, describe(res))
	}
	for _, line := range res.Stdout {
		if n, ok := strings.CutPrefix(line, "CASES "); ok && n != fmt.Sprint(l.cases) {
			t.Errorf("it has %s cases, the table says %d", n, l.cases)
		}
	}
	for _, v := range verdicts(res.Stdout) {
		if v.word == "ESCAPED" {
			t.Errorf("%s %s %s", v.name, v.word, v.detail)
		}
	}
	calls := h.takeCalls()
	for _, call := range calls {
		if call.server != allowedServer {
			t.Errorf("a call of %q was made", call.server)
		}
	}
	if len(calls) > l.calls {
		t.Errorf("%d calls were made, at most %d may be", len(calls), l.calls)
	}
	if name == "authority" && len(calls) != 1 {
		t.Errorf("%d calls were made, want the one that is allowed", len(calls))
	}
	h.mu.Lock()
	for _, code := range h.runners {
		if strings.Contains(string(code), "FORGED") {
			t.Error("a script has replaced the runner of those after it")
		}
	}
	h.mu.Unlock()
	if l.check != nil {
		l.check(t, i, res)
	}
	rendered(t, res)
	if hurt := c.hurt(); len(hurt) > 0 {
		t.Errorf("on the host: %v", hurt)
	}
	h.nothingLeft(t, before)
	h.next(t)
}

// rendered checks what a client gets: text without anything that moves a cursor, and JSON that can be read.
func rendered(t *testing.T, res bridge.Result) {
	t.Helper()
	for _, mode := range []bridge.Mode{bridge.ModeTOON, bridge.ModeJSON} {
		text, structured := res.Render(mode)
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%s: control characters in what is shown: %.300q", mode, text)
		}
		if len(structured) > 0 && !json.Valid(structured) {
			t.Errorf("%s: not JSON: %.300q", mode, structured)
		}
	}
}
