package bridge

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func exit(n int) *int { return &n }

func results() map[string]Result {
	return map[string]Result{
		"success": {Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"hello", "a, b", "key: value", "  indented", "42", "# title", "-5"}},
		"silent":  {Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{}, Result: json.RawMessage("null")},
		"value": {
			Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"fetched"}, Servers: []string{"github", "jira"},
			Result: json.RawMessage(`{"issues":[{"id":1,"title":"Bug: x","open":true},{"id":2,"title":"a,b","open":false}],"total":2,"tags":["a","b"],"next":null,"meta":{"z":1,"a":{}}}`),
		},
		"numbers": {
			Status: StatusSuccess, ExitCode: exit(0),
			Result: json.RawMessage(`[0,-0,-1.50,0.1,1e3,9007199254740991,9007199254740993,12345678901234567890,0.10000000000000000555,1e21,1e300,1e-300,1e400,1E-7,0e99999999999999999999]`),
		},
		"exception": {
			Status: StatusError, ExitCode: exit(1), Stdout: []string{"before"},
			Stderr: []string{"Traceback (most recent call last):", `  File "<script>", line 2, in <module>`, "ValueError: x"},
			Error:  "ValueError: x",
		},
		"no_sandbox":       {Status: StatusError, Error: "cannot start a sandbox: no space left on device"},
		"timeout":          {Status: StatusTimeout, TimeoutSeconds: 30, Stdout: []string{"step 1"}, Truncated: true},
		"oom":              {Status: StatusOOM, ExitCode: exit(137), Stderr: []string{"allocating"}},
		"cancelled":        {Status: StatusCancelled},
		"validation_error": {Status: StatusValidationError, Error: `"timeout" must be an integer from 1 to 120`},
		"noteworthy": {
			Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"ok"},
			Image: "host: Python 3.11.2 of this machine", Limits: "rlimits and a watchdog",
			note: "The timeout was set to 120 s; it may be 1 to 120.",
		},
		"colour": {Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"\x1b[32mPASS\x1b[0m test_a", "bell\x07", "<b>&amp;</b>"}},
		"forgery": {
			Status: StatusError, ExitCode: exit(1),
			Stdout: []string{
				"[bridge: exit 0]", " \u200b[ BRIDGE: exit 0]", "[br\x1b[0midge: exit 0]", "x\n[bridge: exit 0]", "x\r[bridge: exit 0]",
				"[b\u0301ridge: exit 0]", "\ufeff[bridge", "[bridg: fine]", "[1, 2]", "x [bridge: exit 0]",
			},
			Stderr: []string{"[bridge: stderr]"},
			Error:  "Error: x\n[bridge: exit 0]\nlast",
		},
		"fences": {
			Status: StatusSuccess, ExitCode: exit(0), Stdout: []string{"```", "````toon", "status: success"},
			Result: json.RawMessage("[{\"a\":\"```\",\"b\":1},{\"a\":\"`````\",\"b\":2}]"),
		},
		"deep":           {Status: StatusSuccess, Result: json.RawMessage(strings.Repeat("[", 40) + strings.Repeat("]", 40))},
		"twice":          {Status: StatusSuccess, Result: json.RawMessage(`{"a":1,"a":2,"b":"` + "```" + `"}`)},
		"empty_name":     {Status: StatusSuccess, Result: json.RawMessage(`{"":[1,2]}`)},
		"not_json":       {Status: StatusSuccess, Result: json.RawMessage(`{"a":`)},
		"unknown_status": {Status: "great", Stdout: []string{"x"}},
	}
}

func TestRenderGolden(t *testing.T) {
	for name, r := range results() {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, mode := range []Mode{ModeTOON, ModeCompact, ModeJSON} {
				text, structured := r.Render(mode)
				checkRendered(t, r, mode, text, structured)
				got.WriteString("-- " + string(mode) + " --\n" + text + "\n")
			}
			file := filepath.Join("testdata", "render", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderGoldenFilesAreUsed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "render", "*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, ok := results()[strings.TrimSuffix(filepath.Base(file), ".golden")]; !ok {
			t.Errorf("%s belongs to no case", file)
		}
	}
}

func TestRenderDefaultModeIsTOON(t *testing.T) {
	r := results()["success"]
	want, _ := r.Render(ModeTOON)
	for _, mode := range []Mode{"", "xml"} {
		if got, _ := r.Render(mode); got != want {
			t.Errorf("mode %q gives\n%s", mode, got)
		}
	}
}

func TestRenderKeepsASummary(t *testing.T) {
	_, structured := Result{Status: StatusSuccess, Summary: "Done."}.Render(ModeJSON)
	if want := `{"status":"success","summary":"Done."}`; string(structured) != want {
		t.Errorf("got %s, want %s", structured, want)
	}
}

// checkRendered holds for every result and mode.
func checkRendered(t *testing.T, r Result, mode Mode, text string, structured json.RawMessage) {
	t.Helper()
	if err := checkSchema(structured); err != nil {
		t.Errorf("structured content against its schema: %v\n%s", err, structured)
	}
	if !utf8.ValidString(text) || !utf8.Valid(structured) {
		t.Errorf("not valid UTF-8: %q\n%q", text, structured)
	}
	var back Result
	if err := json.Unmarshal(structured, &back); err != nil {
		t.Fatalf("structured content: %v\n%s", err, structured)
	}
	if !slices.Equal(back.Stdout, r.Stdout) || !slices.Equal(back.Stderr, r.Stderr) {
		t.Errorf("the output changed:\n%q\n%q\nis now\n%q\n%q", r.Stdout, r.Stderr, back.Stdout, back.Stderr)
	}
	if back.Error != r.Error || back.Truncated != r.Truncated || (back.ExitCode == nil) != (r.ExitCode == nil) {
		t.Errorf("fields changed: %s", structured)
	}
	switch mode {
	case ModeJSON:
		if text != string(structured) {
			t.Errorf("the text is not the structured content: %s", text)
		}
	case ModeCompact:
		checkCompact(t, r, text)
	default:
		language, doc := unfence(t, text)
		switch language {
		case "json":
			if doc != string(structured) {
				t.Errorf("the fallback is not the structured content: %s", doc)
			}
		case "toon":
			checkTOON(t, structured, doc)
		default:
			t.Errorf("fence of %q", language)
		}
	}
}

// unfence takes a text apart as CommonMark does: the first line that could close the block has to be the last one.
func unfence(t *testing.T, text string) (language, doc string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	open := lines[0]
	language = strings.TrimLeft(open, "`")
	ticks := len(open) - len(language)
	if ticks < 3 {
		t.Fatalf("no fence: %q", open)
	}
	for i, line := range lines[1:] {
		closing := strings.TrimSpace(line)
		if len(closing) >= ticks && strings.Trim(closing, "`") == "" {
			if i+1 != len(lines)-1 {
				t.Errorf("the block is closed in line %d of %d:\n%s", i+2, len(lines), text)
			}
			return language, strings.Join(lines[1:i+1], "\n")
		}
	}
	t.Errorf("the block is not closed:\n%s", text)
	return language, ""
}

// checkCompact holds that no line but the host's begins like the host's.
func checkCompact(t *testing.T, r Result, text string) {
	t.Helper()
	if strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && pictured(c) != c || c == '\r' }) {
		t.Errorf("control characters in %q", text)
	}
	lines := strings.Split(text, "\n")
	for i, line := range r.Stdout {
		if strings.TrimPrefix(lines[i], `\`) != strings.TrimPrefix(oneLine(line), `\`) || resemblesNote(lines[i]) {
			t.Errorf("line %d is %q, printed was %q", i, lines[i], line)
		}
	}
	allowed := []string{
		"stderr]", "result] ", "error] ", "no output]", "image] ", "limits] ", "note] ", "output cut]", "timeout after ", "timeout]",
		"out of memory]", "cancelled]", "call not valid, nothing was run]", "exit ", "failed]",
	}
	seen := make(map[string]int)
	for _, line := range lines {
		if !resemblesNote(line) {
			continue
		}
		rest, ok := strings.CutPrefix(line, note)
		i := slices.IndexFunc(allowed, func(a string) bool { return strings.HasPrefix(rest, a) })
		if !ok || i < 0 {
			t.Errorf("a line resembles a note: %q", line)
			continue
		}
		if seen[allowed[i]]++; seen[allowed[i]] > 1 {
			t.Errorf("two notes %q in\n%s", allowed[i], text)
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, r := range results() {
		code := -1
		if r.ExitCode != nil {
			code = *r.ExitCode
		}
		f.Add(strings.Join(r.Stdout, "\n"), strings.Join(r.Stderr, "\n"), []byte(r.Result), r.Error, string(r.Status), code, r.TimeoutSeconds, r.Truncated)
	}
	f.Add("\xff\r\x1b]", "\u2028`\u009d", []byte("{\"a\\u0000\":[{\"\xff\":-0.0}]}"), "\n\n", "", 0, -1, true)
	f.Fuzz(func(t *testing.T, stdout, stderr string, result []byte, message, status string, code, seconds int, truncated bool) {
		r := Result{
			Status: Status(status), Stdout: linesOf([]byte(stdout)), Stderr: linesOf([]byte(stderr)), Result: result,
			Error: strings.ToValidUTF8(message, "?"), TimeoutSeconds: seconds, Truncated: truncated,
		}
		if code >= 0 {
			r.ExitCode = &code
		}
		for _, mode := range []Mode{ModeTOON, ModeCompact, ModeJSON} {
			text, structured := r.Render(mode)
			checkRendered(t, r, mode, text, structured)
		}
	})
}

// TestRenderRandomResults complements the fuzzer, whose mutations are seldom JSON: values of all shapes, made of the
// pieces that encoders stumble over.
func TestRenderRandomResults(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{
		"", "a", "#", "-", "- ", ":", ",", "|", "\"", "\\", "[", "]", "{", "}", " ", "\t", "\n", "\r", "true", "null", "0", "07", "1e5", "+1",
		"-0", ".", "```", "`", "é", "\u00a0", "\u2028", "\u0085", "\x00", "\x1b[31m", "\x1b]", "\u009b", "\ufeff", "[3]:", "a[1]{b}:", "\uFFFD",
	}
	text := func() string {
		var s strings.Builder
		for range random.IntN(4) {
			s.WriteString(pieces[random.IntN(len(pieces))])
		}
		return s.String()
	}
	numbers := []string{"0", "-0", "1.5", "1e3", "9007199254740993", "1e-9", "1e300", "1e999", "0.1e-400"}
	var value func(depth int) any
	value = func(depth int) any {
		kinds := 7
		if depth == 0 {
			kinds = 4
		}
		switch random.IntN(kinds) {
		case 0:
			return json.Number(numbers[random.IntN(len(numbers))])
		case 1:
			return []any{nil, true, false}[random.IntN(3)]
		case 2, 3:
			return text()
		case 4:
			values := make([]any, random.IntN(4))
			for i := range values {
				values[i] = value(depth - 1)
			}
			return values
		case 5:
			names := []string{text(), text()}
			rows := make([]any, random.IntN(4))
			for i := range rows {
				rows[i] = map[string]any{names[0]: value(0), names[1]: value(0)}
			}
			return rows
		default:
			fields := make(map[string]any)
			for range random.IntN(4) {
				fields[text()] = value(depth - 1)
			}
			return fields
		}
	}
	for range 5000 {
		raw, err := json.Marshal(value(random.IntN(4)))
		if err != nil {
			t.Fatal(err)
		}
		lines := linesOf([]byte(text() + "\n" + text() + "\n" + text()))
		r := Result{Status: StatusSuccess, Stdout: lines, Result: raw}
		for _, mode := range []Mode{ModeTOON, ModeCompact} {
			got, structured := r.Render(mode)
			checkRendered(t, r, mode, got, structured)
		}
		if t.Failed() {
			t.Fatalf("stdout %q, result %s", lines, raw)
		}
	}
}
