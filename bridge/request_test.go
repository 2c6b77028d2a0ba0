package bridge

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRequest(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      Request
	}{
		{"code", `{"code":"print(1)"}`, Request{Code: "print(1)"}},
		{"everything", `{"code":"x","servers":["b","a"],"timeout":5}`, Request{Code: "x", Servers: []string{"b", "a"}, Timeout: 5 * time.Second}},
		{"null is nothing", `{"code":"x","servers":null,"timeout":null}`, Request{Code: "x"}},
		{"no servers", `{"code":"x","servers":[]}`, Request{Code: "x", Servers: []string{}}},
		{"a float that is whole", `{"code":"x","timeout":5.0}`, Request{Code: "x", Timeout: 5 * time.Second}},
		{"an exponent", `{"code":"x","timeout":1e2}`, Request{Code: "x", Timeout: 100 * time.Second}},
		{"out of range stays out of range", `{"code":"x","timeout":-3}`, Request{Code: "x", Timeout: -time.Second}},
		{"0 is not the default", `{"code":"x","timeout":0}`, Request{Code: "x", Timeout: -time.Second}},
		{"absurd", `{"code":"x","timeout":1e300}`, Request{Code: "x", Timeout: 1e9 * time.Second}},
		{"blanks", " {\n\"code\" : \"x\" } ", Request{Code: "x"}},
		{"escapes", `{"code":"\u0000\ud83d\ude00\n"}`, Request{Code: "\x00\U0001F600\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRequest(json.RawMessage(tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// badArguments are calls of run_python that are wrong, with what the model is told.
var badArguments = []struct{ name, raw, want string }{
	{"nothing", ``, "code is missing: it is the Python script to run"},
	{"no code", `{}`, "code is missing: it is the Python script to run"},
	{"null", `{"code":null}`, "code is missing: it is the Python script to run"},
	{"a number", `{"code":1}`, "code must be a string, not a number"},
	{"an array of lines", `{"code":["a","b"]}`, "code must be a string, not an array"},
	{"empty", `{"code":""}`, "code is empty: it is the Python script to run"},
	{"blank", `{"code":" \n\t"}`, "code is empty: it is the Python script to run"},
	{"no object", `[]`, "the arguments must be an object with code, and optionally servers and timeout"},
	{"null for all", `null`, "the arguments must be an object with code, and optionally servers and timeout"},
	{"unknown", `{"code":"x","language":"python"}`, `unknown argument "language": there are code, servers and timeout`},
	{"other case", `{"Code":"x"}`, `unknown argument "Code": there are code, servers and timeout`},
	{"servers as a string", `{"code":"x","servers":"files"}`, "servers must be an array of names, not a string"},
	{"servers with a number", `{"code":"x","servers":[1]}`, "servers must be an array of names, and has a number in it"},
	{"servers with an array", `{"code":"x","servers":[["files"]]}`, "servers must be an array of names, and has an array in it"},
	{"servers with null", `{"code":"x","servers":["files",null]}`, "servers must be an array of names, and has null in it"},
	{"servers as an object", `{"code":"x","servers":{}}`, "servers must be an array of names, not an object"},
	{"timeout as a word", `{"code":"x","timeout":"soon"}`, `timeout must be a whole number of seconds, not a string`},
	{"half a second", `{"code":"x","timeout":0.5}`, `timeout must be a whole number of seconds, not 0.5`},
	{"timeout as a boolean", `{"code":"x","timeout":true}`, `timeout must be a whole number of seconds, not a boolean`},
	{"unknown server", `{"code":"x","servers":["file"]}`, `there is no MCP server "file"; did you mean "files"?`},
}

func TestBadArguments(t *testing.T) {
	o := options(t)
	withTools(nil)(&o)
	o.Launcher = failing{fmt.Errorf("nothing is to run")}
	b := New(o)
	for _, tt := range badArguments {
		t.Run(tt.name, func(t *testing.T) {
			var r Result
			if err := json.Unmarshal(b.call(t.Context(), json.RawMessage(tt.raw), nil).StructuredContent.(json.RawMessage), &r); err != nil {
				t.Fatal(err)
			}
			if r.Status != StatusValidationError || r.Error != tt.want {
				t.Errorf("%s: %s\nwant %s", r.Status, r.Error, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	o := options(t)
	o.Timeout, o.MaxTimeout = 30*time.Second, 120*time.Second
	withTools(nil)(&o)
	b := New(o)
	for _, tt := range []struct {
		asked, want time.Duration
		note        bool
	}{
		{0, 30 * time.Second, false},
		{time.Second, time.Second, false},
		{120 * time.Second, 120 * time.Second, false},
		{121 * time.Second, 120 * time.Second, true},
		{1e9 * time.Second, 120 * time.Second, true},
		{-time.Second, time.Second, true},
		{time.Millisecond, time.Second, true},
	} {
		req := Request{Code: "x", Timeout: tt.asked}
		note, err := b.check(&req)
		if err != nil || req.Timeout != tt.want || (note != "") != tt.note {
			t.Errorf("%v became %v, note %q, %v; want %v", tt.asked, req.Timeout, note, err, tt.want)
		}
		if tt.note && !strings.Contains(note, "1 to 120") {
			t.Errorf("the note %q does not say what is allowed", note)
		}
	}
	for _, tt := range []struct {
		name string
		req  Request
		want string
	}{
		{"too long", Request{Code: strings.Repeat("x", MaxCode+1)}, "8388609 bytes, at most 8388608"},
		{"no UTF-8", Request{Code: "print('\xff')"}, "not valid UTF-8 (byte 7)"},
		{"a server that is not there", Request{Code: "x", Servers: []string{"files", "nope"}}, `there is no MCP server "nope"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := b.check(&tt.req); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	t.Run("just short enough", func(t *testing.T) {
		if _, err := b.check(&Request{Code: strings.Repeat("x", MaxCode)}); err != nil {
			t.Error(err)
		}
	})
	t.Run("servers", func(t *testing.T) {
		given := []string{"web-search", "files", "files"}
		req := Request{Code: "x", Servers: given}
		if _, err := b.check(&req); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"files", "web-search"}, req.Servers); diff != "" {
			t.Error(diff)
		}
		if given[0] != "web-search" || given[2] != "files" {
			t.Errorf("the caller's own slice was changed: %v", given)
		}
	})
}

// TestUnknownServerIsBounded: a caller's text is quoted in one line, and a long list is cut.
func TestUnknownServerIsBounded(t *testing.T) {
	known := make([]string, 500)
	for i := range known {
		known[i] = fmt.Sprintf("server-%d", i)
	}
	text := unknownServer(strings.Repeat("é\n", 5000), known).Error()
	if len(text) > 1000 || strings.Contains(text, "\n") || !strings.Contains(text, "and 480 more") {
		t.Error(text)
	}
}

func TestSchemasAreJSON(t *testing.T) {
	for _, s := range []string{inputSchema, outputSchema} {
		var v map[string]any
		if err := json.Unmarshal([]byte(s), &v); err != nil || v["type"] != "object" {
			t.Errorf("%s: %v", s, err)
		}
	}
}
