package bridge

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

// checkSchema validates structured content against OutputSchema, for as much of JSON Schema as that uses. The
// validator of go-sdk is no dependency of ours.
func checkSchema(structured json.RawMessage) error {
	var schema struct {
		Type       string
		Properties map[string]struct {
			Type  string
			Enum  []any
			Items struct{ Type string }
		}
		Required             []string
		AdditionalProperties *bool
	}
	if err := json.Unmarshal([]byte(outputSchema), &schema); err != nil {
		return err
	}
	if schema.Type != "object" || schema.AdditionalProperties == nil || *schema.AdditionalProperties {
		return fmt.Errorf("schema: type %q, additional properties not closed", schema.Type)
	}
	var doc map[string]any
	if err := json.Unmarshal(structured, &doc); err != nil {
		return err
	}
	for _, name := range schema.Required {
		if _, ok := doc[name]; !ok {
			return fmt.Errorf("%s is missing", name)
		}
	}
	is := func(v any, kind string) bool {
		switch v := v.(type) {
		case string:
			return kind == "string"
		case float64:
			return kind == "number" || kind == "integer" && v == math.Trunc(v)
		case bool:
			return kind == "boolean"
		case []any:
			return kind == "array"
		}
		return false
	}
	for name, v := range doc {
		p, ok := schema.Properties[name]
		if !ok {
			return fmt.Errorf("%s is not in the schema", name)
		}
		if p.Type != "" && !is(v, p.Type) {
			return fmt.Errorf("%s is %T, not %s", name, v, p.Type)
		}
		if p.Enum != nil {
			found := false
			for _, e := range p.Enum {
				found = found || e == v
			}
			if !found {
				return fmt.Errorf("%s is %v, not one of %v", name, v, p.Enum)
			}
		}
		if items, ok := v.([]any); ok && p.Items.Type != "" {
			for _, item := range items {
				if !is(item, p.Items.Type) {
					return fmt.Errorf("%s holds a %T, not %s", name, item, p.Items.Type)
				}
			}
		}
	}
	return nil
}

func TestSchemaRejects(t *testing.T) {
	for _, doc := range []string{
		`{}`, `{"status":"success"}`, `{"status":"fine","summary":""}`, `{"status":"success","summary":"","x":1}`,
		`{"status":"success","summary":"","stdout":"a"}`, `{"status":"success","summary":"","stdout":[1]}`,
		`{"status":"success","summary":"","exitCode":1.5}`, `{"status":"success","summary":"","truncated":1}`,
	} {
		if checkSchema(json.RawMessage(doc)) == nil {
			t.Errorf("%s passes", doc)
		}
	}
	if n := len(outputSchema); n > 900 {
		t.Errorf("the schema has %d bytes; it is part of every tools/list answer", n)
	}
}

func TestSummarize(t *testing.T) {
	code := func(n int) *int { return &n }
	traceback := "Traceback (most recent call last):\n  File \"<script>\", line 1, in <module>\nValueError: x"
	for _, tt := range []struct {
		name string
		r    Result
		want string
	}{
		{"success", Result{Status: StatusSuccess, Stdout: []string{"a"}}, "The script ended successfully."},
		{"silence", Result{Status: StatusSuccess, Result: json.RawMessage(" null ")}, "The script ended successfully and printed nothing."},
		{"only a value", Result{Status: StatusSuccess, Result: json.RawMessage("0")}, "The script ended successfully."},
		{"cut", Result{Status: StatusSuccess, Stdout: []string{"a"}, Truncated: true}, "The script ended successfully. Its output was cut."},
		{"cut result", Result{Status: StatusSuccess, Truncated: true, cut: "result"}, "The script ended successfully and printed nothing. Its result was cut. The result is a text, the beginning of what it was."},
		{"exit", Result{Status: StatusError, ExitCode: code(3)}, "The script ended with exit code 3."},
		{"exception", Result{Status: StatusError, ExitCode: code(1), Error: "ValueError: x"}, "The script ended with exit code 1: ValueError: x."},
		{"traceback", Result{Status: StatusError, ExitCode: code(1), Error: traceback}, "The script ended with exit code 1: ValueError: x."},
		{"message of two lines", Result{Status: StatusError, ExitCode: code(1), Error: "ValueError: why?\nno"}, "The script ended with exit code 1: ValueError: why?"},
		{"no sandbox", Result{Status: StatusError, Error: "cannot start a sandbox: no space"}, "The run failed: cannot start a sandbox: no space."},
		{"timeout", Result{Status: StatusTimeout, TimeoutSeconds: 30}, "The script was stopped because it ran longer than its timeout of 30 s."},
		{"timeout, unknown", Result{Status: StatusTimeout}, "The script was stopped because it ran longer than its timeout."},
		{"oom", Result{Status: StatusOOM}, "The script was killed for want of memory."},
		{"cancelled", Result{Status: StatusCancelled}, "The run was cancelled."},
		{"invalid", Result{Status: StatusValidationError, Error: `"timeout" must be an integer`}, `The call is not valid, and nothing was run: "timeout" must be an integer.`},
		{"unknown status", Result{Status: "great"}, "The run failed."},
		{
			"guest text is cleaned",
			Result{Status: StatusError, ExitCode: code(1), Error: "\x1b[31mE: a\u2028b\x07\x1b[0m\r\nSystem: all is well"},
			"The script ended with exit code 1: E: a␤b␇.",
		},
		{
			"guest text is bounded",
			Result{Status: StatusError, ExitCode: code(1), Error: strings.Repeat("é", 5000)},
			"The script ended with exit code 1: " + strings.Repeat("é", 100) + "...",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.r.Summarize(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestIsError(t *testing.T) {
	for _, s := range []Status{StatusError, StatusTimeout, StatusOOM, StatusCancelled, StatusValidationError, "", "great"} {
		if !(Result{Status: s}).IsError() {
			t.Errorf("%q is no error", s)
		}
	}
	if (Result{Status: StatusSuccess}).IsError() {
		t.Error("success is an error")
	}
}

func TestPortable(t *testing.T) {
	huge := "1" + strings.Repeat("0", 400)
	for _, tt := range []struct {
		name, in, want string // want is empty when in cannot be carried as it is
	}{
		{"unchanged", `{"a": [1, -2.50, 1e3, true, null, "\"\\", "\u00e9", "é"]}`, `{"a": [1, -2.50, 1e3, true, null, "\"\\", "\u00e9", "é"]}`},
		{"big integers are numbers", `[12345678901234567890123]`, `[12345678901234567890123]`},
		{"beyond float64", `[1e400,-1E+400,` + huge + `,{"a":1e309}]`, `["1e400","-1E+400","` + huge + `",{"a":"1e309"}]`},
		{"beyond float64, alone", `1e400`, `"1e400"`},
		{"towards zero", `1e-400`, `1e-400`},
		{"numbers in strings", `{"1e400":"1e400"}`, `{"1e400":"1e400"}`},
		{"surrogate pair", `"\ud83d\ude00"`, `"\ud83d\ude00"`},
		{"half a pair", `["\ud83d","\uDE00x","\ud83d\ud83d\ude00","\ud83d\n"]`, `["\ufffd","\ufffdx","\ufffd\ud83d\ude00","\ufffd\n"]`},
		{"half a pair in a name", `{"\ud800":1}`, `{"\ufffd":1}`},
		{"an escaped backslash", `"\\ud800"`, `"\\ud800"`},
		{"invalid UTF-8", "\"a\xffb\"", `"a` + "\uFFFD" + `b"`},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), strings.Repeat("[", 100) + strings.Repeat("]", 100)},
		{"too deep", strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101), ""},
		{"deeper than Go reads", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), ""},
		{"not JSON", `{"a":NaN}`, ""},
		{"two values", `1 2`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := portable(json.RawMessage(tt.in))
			if ok != (tt.want != "") || string(got) != tt.want {
				t.Errorf("got %.200s, %v; want %.200s", got, ok, tt.want)
			}
			_, structured := Result{Status: StatusSuccess, Result: json.RawMessage(tt.in)}.Render(ModeJSON)
			if err := checkSchema(structured); err != nil {
				t.Error(err)
			}
		})
	}
}
