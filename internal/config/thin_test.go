package config

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keepSome wants "a", and below "p" only "q".
func keepSome(key ...string) bool {
	return key[0] == "a" || key[0] == "p" && (len(key) == 1 || key[1] == "q")
}

// checkThin: what is thinned reads as what is read whole and pruned.
func checkThin(t *testing.T, b []byte) {
	t.Helper()
	want, _, err := parseJSON(bytes.Clone(b), lenient, nil)
	if err != nil {
		return
	}
	got, _, err := parseJSON(bytes.Clone(b), lenient, keepSome)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	prune(want, keepSome)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%q: -whole +thinned:\n%s", b, d)
	}
}

var thinDocuments = []string{
	`{}`, `[]`, `1`, `""`, `{"a":1,"b":2}`, `{"b":{"a":[1,{"x":"]}\\"}]},"a":"\"}"}`, `{"p":{"x":[[]],"q":{"x":1}},"p2":null}`,
	`{"p":[1,2],"b":-1.5e3,"a":true}`, `{"b":"\\","a":1}`, `{"b":"\\\"","a":1}`, `{"\u0062":1,"\u0061":2}`, `{"b":1,"b":2,"a":1,"a":2}`,
	"{ // c \"\n\"b\" /* } */ : [ /* ] */ ] , \"a\" : 1 , }", `{"":1,"a":{"":2}}`, `{"p":{"":1}}`, `{"p":{},"p":{"q":1}}`, `{"b"/**/:/**/1/**/,"a":2}`, `{"b":1// x`,
}

func TestThin(t *testing.T) {
	for _, s := range thinDocuments {
		checkThin(t, []byte(s))
	}
	b := []byte("{\"b\": [1,\n2], \"a\": {}}")
	thin(b, keepSome)
	if got := string(b); got != "{\"b\": 0  \n  , \"a\": {}}" {
		t.Errorf("%q", got)
	}
}

func FuzzThin(f *testing.F) {
	for _, s := range thinDocuments {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if json.Valid(b) || len(b) < 200 {
			checkThin(t, b)
		}
	})
}

// BenchmarkHistory is Claude Code's file after a year.
func BenchmarkHistory(b *testing.B) {
	history := strings.Repeat(`{"display": "please look at this: \"quoted\" [x]", "pastedContents": {}},`, 200_000)
	h := onDisk(b, map[string]string{".claude.json": `{"projects": {"/x": {"history": [` + history + `{}]}}, ` + many(10)[1:]})
	if d := Discover(h, Config{}); len(d.Servers) != 10 {
		b.Fatalf("%+v", d)
	}
	b.SetBytes(int64(len(history)))
	for b.Loop() {
		Discover(h, Config{})
	}
}
