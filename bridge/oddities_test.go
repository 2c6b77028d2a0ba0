package bridge

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

//go:embed testdata/api.py
var apiScript string

// everyPython runs a test under each Python that pyenv and hack/pythons have, or else under the host's; with -short under that alone.
func everyPython(t *testing.T, test func(t *testing.T, python string)) {
	if python3() == "" {
		skipTest(t, "no Python 3.9 or later found")
	}
	home, _ := os.UserHomeDir()
	found, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.*/bin/python3"))
	if testing.Short() || len(found) == 0 {
		found = []string{python3()}
	}
	if here, err := os.Getwd(); err == nil && !testing.Short() {
		newer, _ := filepath.Glob(filepath.Join(here, "../.cache/pythons/*/tree/usr/bin/python3"))
		found = append(found, newer...)
	}
	for _, python := range found {
		out, err := exec.Command(python, "-I", "-S", "-c", "import sys; print(sys.version_info >= (3, 9), sys.version.split()[0])").Output()
		if f := strings.Fields(string(out)); err == nil && f[0] == "True" {
			t.Run(f[1], func(t *testing.T) { test(t, python) })
		}
	}
}

func withPython(python string) func(*Options) {
	return func(o *Options) {
		o.Image = func(context.Context) (Image, error) {
			return Image{Root: "/image", Python: python, Env: []string{"PATH=/usr/bin:/bin"}}, nil
		}
	}
}

// oddities are servers and tools with names, schemas and answers as bad as they come.
func oddities() *fakeServers {
	f := newFake()
	for _, name := range []string{"web-search", "web_search", "servers", "class", "1st", "__init__", "été", "a\nb", strings.Repeat("long", 100)} {
		f.add(name, upstream.Tool{Name: "echo", Description: "echo", InputSchema: schemaOf("a:string")})
	}
	for _, name := range []string{
		"import", "__class__", "a.b", "a_b", "a-b", "9", "", "日本", strings.Repeat("x", 128), strings.Repeat("x", 127) + "y", "\u202e", "__getattr__",
	} {
		f.add("odd", upstream.Tool{Name: name})
	}
	for i, schema := range []string{
		`null`, `true`, `5`, `{`, `[]`, `"x"`, `{"properties":5,"required":7}`, `{"properties":{"a":true,"b":5},"required":[5,"z",null]}`,
		`{"$ref":"#"}`, `{"$ref":"http://evil/x"}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`, `{"type":"object","properties":{"":{},"\u0000":{},"a b":{}}}`,
		`{"type":"object","properties":{"x":` + strings.Repeat(`{"type":"array","items":`, 300) + `{}` + strings.Repeat("}", 300) + `}}`,
		`{"type":["object",5],"properties":{"e":{"enum":[]},"f":{"enum":{}},"g":{"type":"zzz"},"h":{"anyOf":[]},"i":{"const":{"a":1}}}}`,
	} {
		f.add("odd", upstream.Tool{Name: fmt.Sprintf("schema%d", i), InputSchema: json.RawMessage(schema), OutputSchema: json.RawMessage(schema), Annotations: json.RawMessage(schema)})
	}
	f.add("odd", upstream.Tool{Name: "names", Description: "Names.\n\nMore.", InputSchema: json.RawMessage(`{"type":"object","properties":{` +
		`"_target":{"type":"string"},"self":{"type":"string","description":"the one"},"server":{"type":"string","default":"s"},"from":{"type":"string"},"tool":{"type":"string"},` +
		`"args":{"type":"string"},"a-b":{"type":"string"},"names":{"type":"string"}},"required":["self","from"]}`)})
	f.add("odd", upstream.Tool{Name: "nullable", InputSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":["string","null"]}}}`)})
	f.add("odd", upstream.Tool{Name: "open", InputSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer","default":5}},"additionalProperties":true}`)})
	f.add("odd", upstream.Tool{Name: "types", InputSchema: json.RawMessage(`{"type":"object","$defs":{"R":{"type":"object","properties":{"r":{"$ref":"#/$defs/R"}}}},"properties":{` +
		`"s":{"type":"string"},"e":{"enum":["a","b'c",1,null]},"l":{"type":"array","items":{"type":"integer"}},"u":{"anyOf":[{"type":"string"},{"type":"null"}]},` +
		`"d":{"type":"object","additionalProperties":{"type":"number"}},"o":{"type":"object","properties":{"x":{}}},"r":{"$ref":"#/$defs/R"},"c":{"const":5},"x":{},` +
		`"t":{"type":["integer","boolean"]},"cycle":{"$ref":"#"}}}`)})
	for _, name := range []string{"invalid", "hang", "hanging"} {
		f.add("odd", upstream.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object","properties":{}}`)})
	}
	f.tools["odd"][len(f.tools["odd"])-3].InputSchema = schemaOf("a:integer")
	f.add("say", upstream.Tool{Name: "say"}, upstream.Tool{Name: "number"})
	f.infos = append(f.infos, upstream.Info{Name: "broken", Unavailable: "no reason", Tools: -1}, upstream.Info{Name: "failing", Tools: 3})
	f.fails["failing"] = fmt.Errorf("it does not start")

	var cancelled atomic.Bool
	f.call = func(ctx context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error) {
		switch {
		case server == "say" && tool == "say":
			var a struct{ Message json.RawMessage }
			err := json.Unmarshal(arguments, &a)
			return a.Message, err
		case tool == "number":
			return json.RawMessage(`{"structuredContent":{"n":1` + strings.Repeat("0", 5000) + `,"m":2}}`), nil
		case tool == "echo":
			return json.RawMessage(`{"structuredContent":` + string(arguments) + `}`), nil
		case tool == "invalid":
			return nil, &upstream.Error{Code: -32602, Message: "no", Data: json.RawMessage(`{"why":[1]}`)}
		case tool == "hang":
			<-ctx.Done()
			cancelled.Store(true)
			return nil, ctx.Err()
		case tool == "hanging":
			return fmt.Appendf(nil, `{"structuredContent":{"cancelled":%t,"x":1}}`, cancelled.Load()), nil
		}
		name, _ := json.Marshal(tool)
		return json.RawMessage(`{"structuredContent":{"tool":` + string(name) + `,"got":` + string(arguments) + `}}`), nil
	}
	f.request = func(_ context.Context, _, method string, params json.RawMessage) (json.RawMessage, error) {
		var p struct{ Cursor, URI string }
		if err := json.Unmarshal(params, &p); err != nil {
			return nil, err
		}
		switch method {
		case "resources/list":
			n := len(p.Cursor)
			next := ""
			if n < 2 {
				next = `,"nextCursor":"` + p.Cursor + `x"`
			}
			return fmt.Appendf(nil, `{"resources":[{"uri":"r:%d"}]%s}`, n, next), nil
		case "resources/read":
			if p.URI == "blob" {
				return json.RawMessage(`{"contents":[{"uri":"blob","blob":"YWJj","mimeType":"x/y"}]}`), nil
			}
			return fmt.Appendf(nil, `{"contents":[{"uri":%q,"text":"text of %s"}]}`, p.URI, p.URI), nil
		case "prompts/list":
			return json.RawMessage(`{"prompts":[{"name":"p"}]}`), nil
		case "prompts/get":
			return json.RawMessage(`{"messages":[{"role":"user","content":{"type":"text","text":"1"}}]}`), nil
		}
		return nil, fmt.Errorf("no %s", method)
	}
	return f
}

// TestAPI runs testdata/api.py, under every Python.
func TestAPI(t *testing.T) {
	everyPython(t, func(t *testing.T, python string) {
		b := newBridge(t, func(o *Options) {
			withPython(python)(o)
			o.Servers = oddities()
		})
		r, err := b.Run(t.Context(), Request{Code: apiScript, Servers: []string{"1st"}, Filename: "api.py"}, Output{})
		if err != nil || r.Status != StatusSuccess {
			t.Errorf("%s %s %v\n%s", r.Status, r.Error, err, strings.Join(r.Stderr, "\n"))
		}
	})
}
