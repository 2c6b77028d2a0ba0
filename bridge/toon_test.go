package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/toon-format/toon-go"
)

// checkTOON decodes a block with the decoder of toon-go and compares it with the structured content, as printed. That
// decoder cannot read all that its encoder writes (lists of anything but plain values): result is compared where it can.
func checkTOON(t *testing.T, structured json.RawMessage, doc string) {
	t.Helper()
	var want map[string]any
	d := json.NewDecoder(bytes.NewReader(structured))
	d.UseNumber()
	if err := d.Decode(&want); err != nil {
		t.Fatal(err)
	}
	if result, ok := want["result"]; ok && !readable(result) {
		var r Result
		if err := json.Unmarshal(structured, &r); err != nil {
			t.Fatal(err)
		}
		r.Result = nil
		without, err := encodeTOON(r.structured())
		if err != nil {
			t.Fatal(err)
		}
		delete(want, "result")
		for line := range strings.SplitSeq(without, "\n") {
			if !strings.Contains("\n"+doc+"\n", "\n"+line+"\n") {
				t.Errorf("line %q is missing from\n%s", line, doc)
			}
		}
		doc = without
	}
	got, err := toon.DecodeString(doc)
	if err != nil {
		t.Errorf("decode: %v\n%s", err, doc)
		return
	}
	if diff := cmp.Diff(asTOON(want), got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s\n%s", diff, doc)
	}
}

// readable says whether the decoder of toon-go reads back what its encoder makes of v: plain values, arrays of them, tables,
// and objects of these.
func readable(v any) bool {
	switch v := v.(type) {
	case []any:
		return table(v) || !slices.ContainsFunc(v, func(item any) bool { return !scalar(item) })
	case map[string]any:
		for _, item := range v {
			if !readable(item) {
				return false
			}
		}
		return true
	}
	return true
}

// table says whether v is a list of objects with the same fields, all of them plain.
func table(v []any) bool {
	if len(v) == 0 {
		return false
	}
	first, _ := v[0].(map[string]any)
	for _, item := range v {
		row, ok := item.(map[string]any)
		if !ok || len(row) == 0 || len(row) != len(first) {
			return false
		}
		for name, cell := range row {
			if _, ok := first[name]; !ok || !scalar(cell) {
				return false
			}
		}
	}
	return true
}

func scalar(v any) bool {
	switch v.(type) {
	case []any, map[string]any:
		return false
	}
	return true
}

// asTOON is what a decoder should give for v: text made printable, numbers as float64 or, where that cannot be, as text.
func asTOON(v any) any {
	switch v := v.(type) {
	case string:
		return printable(v)
	case json.Number:
		switch n := toonNumber(v).(type) {
		case json.Number:
			f, _ := n.Float64()
			return f + 0
		default:
			return n
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = asTOON(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any)
		for name := range v {
			out[printable(name)] = asTOON(v[name])
		}
		return out
	}
	return v
}

func TestEncodeTOON(t *testing.T) {
	for _, tt := range []struct{ name, doc, want string }{
		{"order is kept", `{"z":1,"a":2}`, "z: 1\na: 2"},
		{"table", `{"r":[{"b":1,"a":"x"},{"b":2,"a":"y"}]}`, "r[2]{b,a}:\n  1,x\n  2,y"},
		{"control characters in names", `{"a\u0001":1,"b":[{"\u001b[1mc":2}]}`, "\"a␁\": 1\nb[1]{c}:\n  2"},
		{"exact numbers", `{"n":[1.0,1e2,0.1,123456789012345678]}`, `n[4]: 1,100,0.1,"123456789012345678"`},
		{"carriage return", `{"s":"a\r\nb"}`, `s: "a\r\nb"`},
		{"lone surrogate", `{"s":"\ud800"}`, "s: \uFFFD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := encodeTOON(json.RawMessage(tt.doc))
			if err != nil || got != tt.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
}

func TestEncodeTOONRefuses(t *testing.T) {
	var wide strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&wide, `,"k%05d":0`, i)
	}
	for _, tt := range []struct{ name, doc, want string }{
		{"deep arrays", strings.Repeat("[", 33) + strings.Repeat("]", 33), "nested too deeply"},
		{"very deep", strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), "nested too deeply"},
		{"a name twice", `{"a":1,"a":2}`, "stands twice"},
		{"a name twice once cleaned", `{"a\u0001":1,"a␁":2}`, "stands twice"},
		{"an array without a name", `{"":[1]}`, "empty name"},
		{"a wide table", `[{"a":0` + wide.String() + `}]`, "too many fields"},
		{"a megabyte", `{"s":"` + strings.Repeat("x", 1<<20) + `"}`, "bytes are more than"},
		{"a list of objects that begin with one", `{"a":[{"x":{"y":1}}]}`, "begins with an object"},
		{"an empty object in a list", `{"a":[1,{}]}`, "becomes text"},
		{"objects in a list in a list", `{"a":[[{"x":1},{"x":2}]]}`, "more than plain values"},
		{"a comment", `{"a":[{"x":"#1"},{"x":"b"}]}`, "comment"},
		{"broken", `{"a":`, "EOF"},
		{"two values", `{} {}`, "more than one value"},
		{"nothing", ``, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			got, err := encodeTOON(json.RawMessage(tt.doc))
			if err == nil || !strings.HasPrefix(err.Error(), "cannot encode as TOON: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.100q, error %v; want %q", got, err, tt.want)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	// As a plain object, width costs nothing.
	if _, err := encodeTOON(json.RawMessage(`{"a":0` + wide.String() + `}`)); err != nil {
		t.Errorf("a wide object: %v", err)
	}
}

// TestTOONIsRead: what is encoded is read back by the format's own decoder as what it was; what cannot be is refused. All shapes
// of containers up to a depth, and cells that look like something else.
func TestTOONIsRead(t *testing.T) {
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("../.cache/clients/node_modules/@toon-format/toon")
	}
	if err != nil {
		skipTest(t, err.Error())
	}
	var docs []string
	level := []string{`1`, `"#x"`, `"a: b"`, `"- x"`, `""`, `" x "`, `"true"`, `"1e3"`, `null`, `[]`, `{}`, `[1,"b"]`, `{"a":1}`, `{"a":1,"b":"x"}`}
	for range 2 {
		var next []string
		for i, v := range level {
			w := level[(i+3)%len(level)]
			next = append(
				next, `[`+v+`]`, `[`+v+`,`+w+`]`, `{"x":`+v+`}`, `{"x":`+v+`,"y":`+w+`}`, `[{"x":`+v+`},{"x":`+w+`}]`,
				`[{"x":`+v+`,"y":1},{"x":`+v+`,"y":2}]`, `[{"y":1,"x":`+v+`},{"y":2,"x":`+w+`}]`, `{"#x":`+v+`}`, `[{"#x":`+v+`}]`,
			)
		}
		level = next
		for _, v := range level {
			docs = append(docs, `{"result":`+v+`}`)
		}
	}
	type pair struct{ JSON, TOON string }
	var pairs []pair
	for _, doc := range docs {
		if text, err := encodeTOON(json.RawMessage(doc)); err == nil {
			pairs = append(pairs, pair{doc, text})
		}
	}
	if len(pairs) < len(docs)/4 {
		t.Errorf("only %d of %d are encoded", len(pairs), len(docs))
	}
	in, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "--input-type=module", "-e", `
import { decode } from "@toon-format/toon"
import { isDeepStrictEqual } from "node:util"
let text = ""
for await (const part of process.stdin) text += part
for (const { JSON: doc, TOON: toon } of JSON.parse(text)) {
  let got
  try { got = decode(toon) } catch (e) { got = String(e) }
  if (!isDeepStrictEqual(got, JSON.parse(doc))) console.log(doc + "\n" + toon + "\n=> " + JSON.stringify(got) + "\n")
}`)
	cmd.Dir, cmd.Stdin = "../.cache/clients", bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%.5000s", err, out)
	}
	t.Logf("%d of %d documents are encoded, and read back", len(pairs), len(docs))
}

func TestSameDecimal(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true},
		{"1e3", "1000", true},
		{"1E+3", "1000", true},
		{"-0", "0", true},
		{"0e999999999999999999999", "0", true},
		{"0.001", "1e-3", true},
		{"100.5e-1", "10.05", true},
		{"1", "-1", false},
		{"10", "1", false},
		{"0.1", "0.01", false},
		{"9007199254740993", "9007199254740992", false},
		{"1e999999999999999999999", "1", false},
		{"1e-400", "0", false},
	} {
		if got := sameDecimal(tt.a, tt.b); got != tt.want {
			t.Errorf("sameDecimal(%s, %s) = %v", tt.a, tt.b, got)
		}
		if got := sameDecimal(tt.b, tt.a); got != tt.want {
			t.Errorf("sameDecimal(%s, %s) = %v", tt.b, tt.a, got)
		}
	}
}
