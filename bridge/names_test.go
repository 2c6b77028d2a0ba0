package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

func TestAliases(t *testing.T) {
	for _, tt := range []struct{ names, want []string }{
		{nil, []string{}},
		{[]string{"a", "a-b", "a_b", "a.b", "a b"}, []string{"a", "a_b_2", "a_b", "a_b_3", "a_b_4"}},
		{[]string{"x", "x", "x_2", "x"}, []string{"x", "x_3", "x_2", "x_4"}},
		{[]string{"from", "from_", "None", "print", "match"}, []string{"from_2", "from_", "None_", "print", "match"}},
		{[]string{"__init__", "__x", "_x", "_", "__", "", "___"}, []string{"init", "x", "_x", "_", "unnamed", "unnamed_2", "unnamed_3"}},
		{[]string{"1", "1a", "日本", "e\u0301", "ﬁ", "²", "a\u200b", "servers"}, []string{"_1", "_1a", "日本", "e_", "_", "_2", "a_", "servers_2"}},
		{[]string{"class", "class_", "class.", "🚀", "é", "²", "_2"}, []string{"class_2", "class_", "class_3", "_", "é", "_3", "_2"}},
	} {
		got := aliases(tt.names, "servers")
		for i := range got {
			if identifier(got[i]) != got[i] {
				t.Errorf("%q is no identifier", got[i])
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q: %s", tt.names, diff)
		}
	}
	same := make([]string, 20_000)
	for i := range same {
		same[i] = "-"
	}
	seen := make(map[string]bool)
	for _, a := range aliases(same) {
		seen[a] = true
	}
	if len(seen) != len(same) {
		t.Errorf("%d aliases for %d names", len(seen), len(same))
	}
}

// TestLetters asks every Python whether our letters are its letters, also after its normalisation.
func TestLetters(t *testing.T) {
	var all strings.Builder
	for _, l := range letters {
		for r := l[0]; r <= l[1]; r++ {
			all.WriteRune(r)
		}
	}
	everyPython(t, func(t *testing.T, python string) {
		cmd := exec.Command(python, "-X", "utf8", "-c", "import sys, unicodedata as u\n"+
			"print([hex(ord(c)) for c in sys.stdin.read() if not ('_' + c).isidentifier() or not c.isidentifier() or u.normalize('NFKC', c) != c])")
		cmd.Stdin = strings.NewReader(all.String())
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "[]" {
			t.Errorf("%s %v", out, err)
		}
	})
}

// TestStubs compares the stubs of usual schemas with what they should be, and lets Python compile those of odd ones.
func TestStubs(t *testing.T) {
	got := stubs("my-server", "my_server", []upstream.Tool{
		{
			Name: "create-issue", Description: "Create an \"issue\"\\.\nMore.\"\"\"",
			InputSchema: json.RawMessage(`{"type":"object","properties":{"body":{"type":"string","description":"Markdown"},"repo":{"type":"string"},` +
				`"labels":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"color":{"enum":["red","blue"]}},"required":["name"]}},` +
				`"from":{"type":["integer","null"]}},"required":["repo"],"additionalProperties":false}`),
			OutputSchema: json.RawMessage(`{"type":"object","properties":{"number":{"type":"integer"},"user-agent":{"type":"string"},"next":{"$ref":"#"},"tree":{"$ref":"#/$defs/Node"}},` +
				`"required":["number"],"$defs":{"Node":{"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#/$defs/Node"}}}}}}`),
		},
		{Name: "read", InputSchema: json.RawMessage(`{"type":"object"}`), OutputSchema: json.RawMessage(`{"type":"object","properties":{"content":{"type":"string"}}}`)},
		{Name: "count", InputSchema: schemaOf(), OutputSchema: json.RawMessage(`{"type":"object","properties":{"result":{"type":"integer"}}}`)},
	})
	const want = `# mcp_my_server, mcp.servers.my_server: the MCP server "my-server". Made from its schemas by mcp-bridge.
# Results behave as the type says; those that are dicts have their keys as attributes too.
from typing import Any, Literal, NotRequired, TypedDict

class CreateIssueLabelsItem(TypedDict):
    name: str
    color: NotRequired[Literal["red", "blue"]]

class CreateIssueNode(TypedDict):
    children: NotRequired[list[CreateIssueNode]]

CreateIssueResult = TypedDict("CreateIssueResult", {
    "number": "int",
    "user-agent": "NotRequired[str]",
    "next": "NotRequired[CreateIssueResult]",
    "tree": "NotRequired[CreateIssueNode]",
})

class ReadResult(TypedDict):
    content: NotRequired[str]

async def create_issue(repo: str, body: str | None = None, labels: list[CreateIssueLabelsItem] | None = None, from_: int | None = None) -> CreateIssueResult:
    """Create an "issue"\\.
    More.\"\"\"
    body: Markdown"""

async def read(**more: Any) -> str | ReadResult:
    ...

async def count() -> int:
    ...
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Tools that are named as what the types are made of.
	list := json.RawMessage(`{"type":"object","properties":{"result":{"type":"array","items":{"type":"string"}}}}`)
	page := json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}}}`)
	got = stubs("x", "x", []upstream.Tool{{Name: "list", OutputSchema: list}, {Name: "page", OutputSchema: page}, {Name: "PageResult", OutputSchema: list}})
	for _, want := range []string{"import builtins\n", "async def list(**more: Any) -> builtins.list[str]:", "class PageResult2(TypedDict):", "-> PageResult2:"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	// What a type checker would not take, or would take for something else.
	codes := strings.TrimSuffix(strings.Repeat("404,", 60), ",")
	got = stubs("x", "x", []upstream.Tool{{Name: "f", InputSchema: json.RawMessage(`{"properties":{"a":{"type":"object"},"b":{"type":"array"},` +
		`"c":{"enum":[` + codes + `]},"d":{"enum":["a",1.5,null]},"e":{"const":-7},"h":{"const":` + strings.Repeat("9", 5000) + `},"g":{"$ref":"#/$defs/x%20y~1z"}},"$defs":{"x y/z":{"type":"boolean"}}}`)}})
	if want := "async def f(a: dict[str, Any] | None = None, b: list[Any] | None = None, c: int | None = None, d: str | float | None = None, " +
		"e: Literal[-7] | None = None, h: int | None = None, g: bool | None = None) -> Any:"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	hostile := []upstream.Tool{
		{Name: "x", Description: "\"\"\"\nimport os\n\\", InputSchema: json.RawMessage(`{"properties":{"a":{"enum":["\"\n'''\u0000\\", 1e400, -5]}}}`)},
		{Name: "\n__import__('os')", Description: "\x00\r\n\"", InputSchema: json.RawMessage(`{"properties":{"\n":{"type":"string"},"more":{},"a b":{"properties":{"x y":{},"\"":{}}}},"additionalProperties":{}}`)},
		{Name: "wide", InputSchema: json.RawMessage(`{"properties":{` + strings.TrimSuffix(strings.Repeat(`"p":{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#/properties/p"}}},`, 300), ",") + `}}`)},
		{Name: "cycle", InputSchema: json.RawMessage(`{"properties":{"a":{"anyOf":[{"$ref":"#/properties/a"},{"$ref":"#/properties/a"}]}}}`)},
		{Name: "lies", InputSchema: json.RawMessage(`{"properties":{"a":{"type":"array","items":{"allOf":[{"allOf":[]}]}},"b":{"oneOf":[true,false,5,null]}},"required":["a","a","zz"]}`)},
	}
	tree := `{"type":"object","properties":{"l":{"$ref":"#/$defs/n"},"r":{"$ref":"#/$defs/n"}}}`
	for i := range 200 { // a reference to a reference to …
		tree += fmt.Sprintf(`,"n%d":{"anyOf":[{"$ref":"#/$defs/n%d"},{"$ref":"#/$defs/n%d"}]}`, i, i+1, i+1)
	}
	hostile = append(hostile, upstream.Tool{Name: "bomb", InputSchema: json.RawMessage(`{"properties":{"a":{"$ref":"#/$defs/n0"}},"$defs":{"n":` + tree + `}}`)})
	for i, tool := range oddities().tools["odd"] {
		tool.Name += fmt.Sprint(i)
		hostile = append(hostile, tool)
	}
	file := filepath.Join(t.TempDir(), "x.pyi")
	if err := os.WriteFile(file, []byte(stubs("a\nb", "a_b", hostile)), 0o600); err != nil {
		t.Fatal(err)
	}
	everyPython(t, func(t *testing.T, python string) {
		out, err := exec.Command(python, "-X", "utf8", "-c", "import ast, sys\nt = ast.parse(open(sys.argv[1]).read())\n"+
			"print(sorted({type(n).__name__ for n in t.body}))", file).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "['Assign', 'AsyncFunctionDef', 'ClassDef', 'ImportFrom']" {
			t.Errorf("%s %v", out, err)
		}
	})
}

// TestSavedTools: what a script saves, later ones have; and nothing else gets there.
func TestSavedTools(t *testing.T) {
	saved := &SavedTools{Dir: filepath.Join(t.TempDir(), "state", "tools")}
	everyPython(t, func(t *testing.T, python string) {
		b := newBridge(t, func(o *Options) {
			withPython(python)(o)
			o.Tools, o.Servers = saved, office()
		})
		script := `import json
from mcp import runtime
def double(x):
    "Twice."
    return x * 2
runtime.save_tool(double)
if True:
    @runtime.save_tool
    async def issue(title):
        import asyncio
        r = await mcp_github.create_issue('r', title)
        return r.created.title
r = []
def closure():
    y = 5
    def inner(): return y
    return inner
def uses_json(): return json.dumps([z for z in ()])
def by_default(x=json): return x
def counts():
    global n
    n = 1
    return n
runtime.save_tool(counts)
try:
    @runtime.save_tool
    def early(): return later()
except ValueError as e: r.append(str(e))
def later(): return 1
exec("def nowhere(): pass")
def __hidden(): pass
for f in (lambda x: x, len, closure(), uses_json, by_default, nowhere, __hidden, 5):
    try:
        runtime.save_tool(f)
    except Exception as e:
        r.append(type(e).__name__ + ' ' + str(e))
r`
		res := runCode(t, b, script)
		want := []string{
			"early() uses 'later' of the script; import or define that inside of it",
			"TypeError save_tool takes a function made with def, not function",
			"TypeError save_tool takes a function made with def, not builtin_function_or_method",
			"ValueError inner() uses 'y' of the function around it",
			"ValueError uses_json() uses 'json' of the script; import or define that inside of it",
			"ValueError by_default() uses 'json' of the script; import or define that inside of it",
			"ValueError the source of nowhere() is not known; only functions of the script can be saved",
			`MCPError "__hidden" cannot be the name of a saved tool: letters, digits and _ are allowed, at most 100`,
			"TypeError save_tool takes a function made with def, not int",
		}
		var got []string
		if err := json.Unmarshal(res.Result, &got); err != nil {
			t.Fatalf("%+v", res)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if note := "It saved for later scripts: double, issue, counts."; res.Note() != note {
			t.Errorf("the note is %q, want %q", res.Note(), note)
		}
		res = runCode(t, b, `import user_tools
from user_tools import *
try: user_tools.nope
except AttributeError as e: r = str(e)
import inspect
[user_tools.double(4), double(5), await user_tools.issue('t'), dir(user_tools), r, user_tools.double.__doc__, inspect.getsource(double)[:10]]`)
		if want := `[8,10,"t",["counts","double","issue"],"there is no saved tool 'nope'; there are 'counts', 'double', 'issue'","Twice.","def double"]`; string(res.Result) != want {
			t.Errorf("%s, want %s; %+v", res.Result, want, res)
		}
	})
	for _, bad := range []struct{ name, source string }{
		{"", "def (): 0"},
		{"../x", "def ../x"},
		{"class", "def class"},
		{"é", "def é(): 0"},
		{"x", "pass"},
		{"x", "def x\x00"},
		{"x", "def x\xff"},
		{"x", "def x" + strings.Repeat(" ", maxSavedSource)},
		{strings.Repeat("x", 101), "def " + strings.Repeat("x", 101)},
	} {
		if err := saved.Save(bad.name, bad.source); err == nil {
			t.Errorf("saved %q", bad)
		}
	}
	if err := os.WriteFile(filepath.Join(saved.Dir, "huge.py"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(saved.Dir, "link.py")); err != nil {
		t.Fatal(err)
	}
	all, err := saved.All()
	if err != nil || len(all) != 3 {
		t.Errorf("%q, %v", all, err)
	}
	if err := saved.Remove("double"); err != nil {
		t.Error(err)
	}
	if err := saved.Remove("double"); err == nil || !strings.Contains(err.Error(), "there is no saved tool") {
		t.Error(err)
	}
	for i := range maxSaved + 1 {
		err = saved.Save(fmt.Sprintf("t%d", i), fmt.Sprintf("def t%d(): 0", i))
	}
	if err == nil || !strings.Contains(err.Error(), "--remove") {
		t.Errorf("no bound: %v", err)
	}
	if _, err := (&Bridge{}).Stubs(context.Background(), "x"); err == nil {
		t.Error("stubs of no server")
	}
}

// TestSignatures: a tool looks like what it takes to whoever asks.
func TestSignatures(t *testing.T) {
	b := newBridge(t, func(o *Options) { o.Servers = office() })
	res := runCode(t, b, `import asyncio, inspect
from mcp.servers.github import create_issue
[str(inspect.signature(f)) for f in (create_issue, create_issue.sync, mcp_stub.echo)] + [
    inspect.getfullargspec(create_issue).args, inspect.iscoroutinefunction(create_issue), create_issue.__name__]`)
	const issue = `"(repo: str, title: str, body: str = None) -> Any"`
	if want := `[` + issue + `,` + issue + `,"(message: str) -> Any",["repo","title","body"],true,"create_issue"]`; string(res.Result) != want {
		t.Errorf("%s, want %s; %+v", res.Result, want, res)
	}
}

// TestDescriptions: what was made of a server's tools is used as long as it says the same of them, and by nobody else.
func TestDescriptions(t *testing.T) {
	tools := func(about, schema string) []upstream.Tool {
		return []upstream.Tool{{Name: "a-b", Description: about, InputSchema: json.RawMessage(schema)}}
	}
	const schema = `{"type":"object","properties":{"x":{"type":"string"}}}`
	var made descriptions
	d := func(server string, tools []upstream.Tool) []guest.Tool {
		out, err := made.of(server, tools)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := d("one", tools("first", schema))
	if again := d("one", tools("first", schema)); &again[0] != &first[0] {
		t.Error("it was made again")
	}
	for name, got := range map[string][]guest.Tool{
		"another text":   d("one", tools("second", schema)),
		"another schema": d("one", tools("first", strings.Replace(schema, "string", "integer", 1))),
		"another server": d("two", tools("first", schema)),
	} {
		if &got[0] == &first[0] {
			t.Errorf("%s: what was made before", name)
		}
	}
	if got := d("one", tools("first", schema)); got[0].Description != "first" || got[0].Params[0].Type != "str" {
		t.Errorf("%+v", got)
	}
	if got := d("one", append(tools("first", schema), upstream.Tool{Name: "c"})); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	if _, err := made.of("one", tools(strings.Repeat("x", maxToolList/2), schema)); err == nil || len(made.last["one"].from) != 2 {
		t.Errorf("too much: %v", err)
	}
}
