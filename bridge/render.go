package bridge

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Mode is how the text of a result is written.
type Mode string

// The modes. Anything else is taken for ModeTOON, the default.
const (
	ModeTOON    Mode = "toon"    // a fenced block with the fields of the structured content
	ModeCompact Mode = "compact" // what the script printed, with terse notes
	ModeJSON    Mode = "json"    // the structured content
)

// Render writes the result twice: as text for the model, and as structured content, whose JSON is exact and follows
// [OutputSchema]. It always gives both.
func (r Result) Render(mode Mode) (text string, structured json.RawMessage) {
	r = r.tidy()
	structured = r.structured()
	switch mode {
	case ModeJSON:
		return string(structured), structured
	case ModeCompact:
		return r.compact(), structured
	}
	doc, err := encodeTOON(structured)
	if err != nil {
		// TOON is a courtesy; the fields are what was promised.
		return fence("json", string(structured)), structured
	}
	return fence("toon", doc), structured
}

// fence puts doc into a fenced code block. The fence is longer than any run of backticks in doc, so that no guest can
// end the block and go on in the host's voice.
func fence(language, doc string) string {
	longest, run := 2, 0
	for i := range len(doc) {
		if doc[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	ticks := strings.Repeat("`", longest+1)
	return ticks + language + "\n" + doc + "\n" + ticks
}

// note begins every line of a compact text that is the host's. A guest's line that would begin so, or look so, gets a
// backslash before it: no line is the host's by accident or forgery.
const note = "[bridge: "

// compact writes stdout as it is, and then what else there is to say, each behind a note.
func (r Result) compact() string {
	var lines []string
	say := func(format string, args ...any) {
		lines = append(lines, note+oneLine(fmt.Sprintf(format, args...)))
	}
	for _, line := range r.Stdout {
		lines = append(lines, guestLine(line))
	}
	if len(r.Stderr) > 0 {
		say("stderr]")
		for _, line := range r.Stderr {
			lines = append(lines, guestLine(line))
		}
	}
	if len(r.Result) > 0 {
		say("result] %s", r.Result)
	}
	// A traceback on stderr ends with the error; once is enough.
	if r.Error != "" && !slices.Contains(r.Stderr, r.Error) {
		for i, line := range linesOf([]byte(r.Error)) {
			if i == 0 {
				say("error] %s", line)
			} else {
				lines = append(lines, guestLine(line))
			}
		}
	}
	if len(lines) == 0 && r.Status == StatusSuccess {
		say("no output]")
	}
	if r.Image != "" {
		say("image] %s", r.Image)
	}
	if r.Limits != "" {
		say("limits] %s", r.Limits)
	}
	if r.Truncated {
		say("output cut]")
	}
	if r.note != "" {
		say("note] %s", r.note)
	}
	// The verdict is last: where a reader cuts, it is rather at the beginning.
	switch {
	case r.Status == StatusTimeout && r.TimeoutSeconds > 0:
		say("timeout after %d s]", r.TimeoutSeconds)
	case r.Status == StatusTimeout:
		say("timeout]")
	case r.Status == StatusOOM:
		say("out of memory]")
	case r.Status == StatusCancelled:
		say("cancelled]")
	case r.Status == StatusValidationError:
		say("call not valid, nothing was run]")
	case r.ExitCode != nil && (*r.ExitCode != 0 || r.Status == StatusError):
		say("exit %d]", *r.ExitCode)
	case r.Status == StatusError:
		say("failed]")
	}
	return strings.Join(lines, "\n")
}

// guestLine makes a guest's line safe to stand among the host's.
func guestLine(line string) string {
	line = oneLine(line)
	if resemblesNote(line) {
		return `\` + line
	}
	return line
}

// resemblesNote compares what a reader sees of the line's beginning: without blanks, invisible characters and marks, and
// in any case.
func resemblesNote(line string) bool {
	const seen = "[bridge"
	n := 0
	for _, r := range line {
		if unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Mn, unicode.Me, unicode.Variation_Selector) {
			continue
		}
		if unicode.ToLower(r) != rune(seen[n]) {
			return false
		}
		if n++; n == len(seen) {
			return true
		}
	}
	return false
}
