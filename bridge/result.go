package bridge

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Status is how a call of run_python ended.
type Status string

// The statuses. Each is the host's own observation.
const (
	StatusSuccess         Status = "success"
	StatusError           Status = "error"   // the script failed, or could not be run
	StatusTimeout         Status = "timeout" // the host stopped it
	StatusOOM             Status = "oom"     // the kernel killed it for want of memory
	StatusCancelled       Status = "cancelled"
	StatusValidationError Status = "validation_error" // the call itself was wrong; nothing ran
)

// Result is what one call of run_python came to. Its fields are those of the structured content; one without content is
// left out there. Guest text stands in Stdout, Stderr, Result and Error and nowhere else, except for the bounded
// message that Summarize quotes.
//
// A Result is a value: rendering does not change it.
type Result struct {
	Status   Status          `json:"status"`
	Summary  string          `json:"summary"`            // filled in by Render when empty
	ExitCode *int            `json:"exitCode,omitempty"` // nil when the script did not run to an exit
	Error    string          `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`  // the value of a last expression; null is left out
	Stdout   []string        `json:"stdout,omitempty"`  // of linesOf; behind what must not be lost where a client shows the beginning only
	Stderr   []string        `json:"stderr,omitempty"`  // of linesOf
	Servers  []string        `json:"servers,omitempty"` // MCP servers that this run had

	TimeoutSeconds int    `json:"timeoutSeconds,omitempty"` // for StatusTimeout
	Truncated      bool   `json:"truncated,omitempty"`      // stdout, stderr or result is not complete
	Image          string `json:"image,omitempty"`          // what Python ran, when it is not the one to be expected
	Limits         string `json:"limits,omitempty"`         // what enforced the limits, when it was not a cgroup
	Runtime        string `json:"runtime,omitempty"`        // what ran the sandbox, when it is not the one to be expected

	cut     string        // what is not complete, where that is the result too
	content []mcp.Content // what the script has shown besides
	note    string        // a sentence on what else the caller should know; a part of the summary
}

// Note is what else the caller should know, such as a timeout that was out of range; empty if there is nothing.
func (r Result) Note() string { return r.note }

// IsError says whether the tool result carries isError.
func (r Result) IsError() bool { return r.Status != StatusSuccess }

// outputSchema is the JSON Schema of the structured content that [Result.Render] gives. It is of JSON Schema 2020-12, MCP's
// default, which therefore is not named. It is part of every tools/list answer, where each word costs, so it describes
// only what its names do not say.
const outputSchema = `{"type":"object","properties":{` +
	`"status":{"enum":["success","error","timeout","oom","cancelled","validation_error"]},` +
	`"summary":{"type":"string"},` +
	`"exitCode":{"type":"integer"},` +
	`"error":{"type":"string"},` +
	`"result":{"description":"value of last expression"},` +
	`"stdout":{"type":"array","items":{"type":"string"}},` +
	`"stderr":{"type":"array","items":{"type":"string"}},` +
	`"servers":{"type":"array","items":{"type":"string"}},` +
	`"timeoutSeconds":{"type":"integer"},` +
	`"truncated":{"type":"boolean"},` +
	`"image":{"type":"string"},` +
	`"limits":{"type":"string"},` +
	`"runtime":{"type":"string"}},` +
	`"required":["status","summary"],"additionalProperties":false}`

// Summarize is one sentence on how the run ended, made by the host. It quotes no more of the guest than a bounded line
// of Error.
func (r Result) Summarize() string {
	var s string
	switch r.Status {
	case StatusSuccess:
		s = "The script ended successfully"
		if len(r.Stdout) == 0 && len(r.Stderr) == 0 && !hasValue(r.Result) {
			s += " and printed nothing"
		}
	case StatusTimeout:
		s = "The script was stopped because it ran longer than its timeout"
		if r.TimeoutSeconds > 0 {
			s += fmt.Sprintf(" of %d s", r.TimeoutSeconds)
		}
	case StatusOOM:
		s = "The script was killed for want of memory"
	case StatusCancelled:
		s = "The run was cancelled"
	case StatusValidationError:
		s = "The call is not valid, and nothing was run"
	default:
		s = "The run failed"
		if r.ExitCode != nil {
			s = fmt.Sprintf("The script ended with exit code %d", *r.ExitCode)
		}
	}
	if e := headline(r.Error); e != "" && r.Status != StatusSuccess {
		s += ": " + e
	}
	if !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	if r.Truncated {
		s += " Its " + cmp.Or(r.cut, "output") + " was cut."
		if r.cut != "" {
			s += " The result is a text, the beginning of what it was."
		}
	}
	if r.note != "" {
		s += " " + r.note
	}
	return s
}

// headline is the line of a message that says most: the first, but of a Python traceback the last.
func headline(message string) string {
	const most = 200 // bytes; all of it is in Error
	lines := linesOf([]byte(message))
	if len(lines) == 0 {
		return ""
	}
	line := lines[0]
	if strings.HasPrefix(line, "Traceback ") {
		line = lines[len(lines)-1]
	}
	return clip(strings.TrimSpace(oneLine(line)), most)
}

// hasValue says whether a JSON value is there, and not null. Of a result, None is none: a script that ends in print(x)
// has no value.
func hasValue(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 0 && string(raw) != "null"
}

// tidy gives the result the shape that its schema promises, whatever a caller left open.
func (r Result) tidy() Result {
	switch r.Status {
	case StatusSuccess, StatusError, StatusTimeout, StatusOOM, StatusCancelled, StatusValidationError:
	default:
		// Something that is not known to be a success is none.
		r.Status = StatusError
	}
	if !hasValue(r.Result) {
		r.Result = nil
	} else if value, ok := portable(r.Result); ok {
		r.Result = value
	} else {
		// Not JSON, which the frame codec should not let through, or too deep: its text is still somebody's result.
		r.Result, _ = marshal(string(r.Result))
	}
	if r.Summary == "" {
		r.Summary = r.Summarize()
	}
	return r
}

// structured is the result as JSON, exact to the character.
func (r Result) structured() json.RawMessage {
	doc, err := marshal(r)
	if err != nil {
		// Cannot happen with a tidy result. If it does, the host's verdict stays.
		doc, _ = marshal(Result{Status: StatusError, Summary: "internal error: cannot encode the result: " + err.Error()})
	}
	return doc
}

// marshal is json.Marshal without "\u003c" for "<", which costs a model tokens and helps nobody outside of HTML.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return escapeInvisible(bytes.TrimRight(b.Bytes(), "\n")), nil
}

// escapeInvisible escapes the characters of a JSON text that a terminal obeys and encoding/json leaves as they are: DEL,
// the controls of U+0080 to U+009F (U+009B begins a sequence as ESC [ does), and those that turn the direction of what
// follows. They are only ever in strings, and the value stays the same.
func escapeInvisible(doc []byte) []byte {
	if !bytes.ContainsFunc(doc, invisible) {
		return doc
	}
	var out []byte
	for _, r := range string(doc) {
		if invisible(r) {
			out = fmt.Appendf(out, "\\u%04x", r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func invisible(r rune) bool {
	return r >= 0x7f && r <= 0x9f || turnsDirection(r)
}

// maxDepth is how deep a result may be nested. Parsers recurse: Python's gives up at about 1000, Go's at 10000 counting
// the message around it, and then the client loses the whole answer.
const maxDepth = 100

// portable makes of a guest's JSON what every client can read, with as little change as that takes: one value that a
// client's parser refuses would cost it the whole answer. A number beyond float64 (Go and Rust refuse it; Python does
// so beyond 4300 digits) becomes a string of its digits, half a surrogate pair (Rust refuses it) U+FFFD. It is not ok
// when raw is not JSON at all, or too deep.
func portable(raw json.RawMessage) (value json.RawMessage, ok bool) {
	if !json.Valid(raw) {
		return nil, false
	}
	raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	var out []byte
	done := 0 // raw[:done] is in out
	replace := func(from, to int, with string) {
		out = append(append(out, raw[done:from]...), with...)
		done = to
	}
	depth := 0
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return nil, false
			}
			i++
		case c == ']' || c == '}':
			depth--
			i++
		case c == '-' || c >= '0' && c <= '9':
			end := i + 1
			for end < len(raw) && strings.IndexByte("+-.eE0123456789", raw[end]) >= 0 {
				end++
			}
			number := string(raw[i:end])
			if _, err := strconv.ParseFloat(number, 64); err != nil {
				replace(i, end, `"`+number+`"`)
			}
			i = end
		case c == '"':
			for i++; raw[i] != '"'; {
				if raw[i] != '\\' {
					i++
					continue
				}
				first := surrogate(raw[i:])
				switch {
				case first == 0:
					i += 2 // past the backslash and what it escapes; digits behind "\u" are text like any other
				case first < 0xdc00 && surrogate(raw[i+6:]) >= 0xdc00:
					i += 12
				default:
					replace(i, i+6, `\ufffd`)
					i += 6
				}
			}
			i++
		default:
			i++
		}
	}
	if out == nil {
		return raw, true
	}
	return append(out, raw[done:]...), true
}

// surrogate is the half of a surrogate pair that s, the rest of a JSON text, escapes at its beginning, or zero.
func surrogate(s []byte) uint64 {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0
	}
	if v, err := strconv.ParseUint(string(s[2:6]), 16, 16); err == nil && v >= 0xd800 && v <= 0xdfff {
		return v
	}
	return 0
}
