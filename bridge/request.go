package bridge

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// MaxCode is the largest script, in bytes. A model does not write such a thing: it is data, which belongs into a tool's
// answer, and a bound keeps one call from taking the server's memory.
const MaxCode = 8 << 20

// Request is a valid call of run_python.
type Request struct {
	Code    string
	Servers []string
	Timeout time.Duration // 0: the default
	// Filename is what tracebacks call the script; empty is "script.py". It is for people, not part of the tool.
	Filename string
}

// inputSchema is sent with every tools/list answer, so each word counts.
const inputSchema = `{"type":"object","properties":{` +
	`"code":{"type":"string","description":"Python 3 script. Top-level await works. Print what you need, or end with an expression: its value is the result."},` +
	`"servers":{"type":"array","items":{"type":"string"},"description":"MCP servers to load for this run"},` +
	`"timeout":{"type":"integer","minimum":1,"description":"seconds"}},` +
	`"required":["code"],"additionalProperties":false}`

// parseRequest reads the arguments of run_python. Its errors are for the model that wrote them: they name the argument,
// and what would be right.
func parseRequest(raw json.RawMessage) (Request, error) {
	var req Request
	if !utf8.Valid(raw) {
		return req, fmt.Errorf("the arguments are not valid UTF-8")
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	var args map[string]json.RawMessage
	if err := json.Unmarshal(raw, &args); err != nil || args == nil {
		return req, fmt.Errorf("the arguments must be an object with code, and optionally servers and timeout")
	}
	for name := range args {
		if !slices.Contains([]string{"code", "servers", "timeout"}, name) {
			return req, fmt.Errorf("unknown argument %s: there are code, servers and timeout", quote(name))
		}
	}
	if v := args["code"]; !hasValue(v) {
		return req, fmt.Errorf("code is missing: it is the Python script to run")
	} else if err := json.Unmarshal(v, &req.Code); err != nil {
		return req, fmt.Errorf("code must be a string, not %s", kind(v))
	}
	if v := args["servers"]; hasValue(v) {
		var names []json.RawMessage
		if err := json.Unmarshal(v, &names); err != nil {
			return req, fmt.Errorf("servers must be an array of names, not %s", kind(v))
		}
		req.Servers = make([]string, 0, len(names))
		for _, n := range names {
			var name *string
			if err := json.Unmarshal(n, &name); err != nil || name == nil {
				return req, fmt.Errorf("servers must be an array of names, and has %s in it", kind(n))
			}
			req.Servers = append(req.Servers, *name)
		}
	}
	if v := args["timeout"]; hasValue(v) {
		seconds, err := strconv.ParseFloat(string(bytes.TrimSpace(v)), 64)
		if err != nil || seconds != math.Trunc(seconds) {
			what := kind(v)
			if what == "a number" {
				what = clip(string(v), 80)
			}
			return req, fmt.Errorf("timeout must be a whole number of seconds, not %s", what)
		}
		// What is out of range is brought into it later, and said.
		req.Timeout = time.Duration(max(-1, min(seconds, 1e9))) * time.Second
		if req.Timeout == 0 {
			req.Timeout = -time.Second // 0 was asked for; a zero Timeout means the default
		}
	}
	return req, nil
}

// check validates what any caller may have got wrong, and brings the timeout into its range; note says if it did.
func (b *Bridge) check(req *Request) (note string, err error) {
	switch {
	case strings.TrimSpace(req.Code) == "":
		return "", fmt.Errorf("code is empty: it is the Python script to run")
	case len(req.Code) > MaxCode:
		return "", fmt.Errorf("code has %d bytes, at most %d are allowed: let the script fetch its data by a tool, or split it", len(req.Code), MaxCode)
	case !utf8.ValidString(req.Code):
		return "", fmt.Errorf("code is not valid UTF-8 (byte %d)", invalidAt(req.Code))
	}
	_, known := b.servers()
	req.Servers = slices.Compact(slices.Sorted(slices.Values(req.Servers)))
	for _, name := range req.Servers {
		if !slices.Contains(known, name) {
			return "", unknownServer(name, known)
		}
	}
	asked := cmp.Or(req.Timeout, b.opts.Timeout)
	req.Timeout = min(max(asked, time.Second), b.opts.MaxTimeout)
	if req.Timeout != asked {
		note = fmt.Sprintf("The timeout was set to %d s; it may be 1 to %d.", int(req.Timeout.Seconds()), int(b.opts.MaxTimeout.Seconds()))
	}
	return note, nil
}

func unknownServer(name string, known []string) error {
	return fmt.Errorf("there is no MCP server %s; %s", quote(name), upstream.Suggest(name, known, "none is configured"))
}

func invalidAt(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
	}
	return len(s)
}

// quote makes text of a caller's fit for a message: one line, bounded.
func quote(s string) string { return strconv.Quote(clip(s, 80)) }

// kind names the type of a JSON value.
func kind(v json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(v))
	t, err := d.Token()
	if err != nil && err != io.EOF {
		return "that"
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return "an array"
		}
		return "an object"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case float64:
		return "a number"
	}
	return "null"
}
