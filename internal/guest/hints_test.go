package guest

import (
	"encoding/json"
	"strings"
	"testing"
)

// files is an MCP server of the tests of what models often get wrong.
var files = Server{Name: "my-files", Alias: "my_files", Tools: []Tool{
	{Name: "read", Alias: "read", Returns: "str", Params: []Param{{Name: "path", Alias: "path", Type: "str", Required: true}}},
	{Name: "put", Alias: "put", Returns: "str", Params: []Param{{Name: "value", Alias: "value", Type: "dict", Required: true}}},
}}

// fileTools answers its calls, and those of the bridge itself.
func fileTools(c Call) Return {
	switch c.Tool {
	case "search":
		return Return{Value: json.RawMessage(`[{"server":"my-files","tool":{"name":"read","alias":"read"},"score":1}]`)}
	case "tools":
		tools, err := json.Marshal(map[string]any{"tools": files.Tools})
		if err != nil {
			return Return{Error: &Error{Message: err.Error()}}
		}
		return Return{Value: tools}
	case "read":
		return Return{Value: json.RawMessage(`{"content":[{"type":"text","text":"a text"}],"structuredContent":{"content":"a text"}}`)}
	case "put":
		return Return{Value: json.RawMessage(`{"content":[],"structuredContent":{"result":` + string(c.Arguments) + `}}`)}
	case "data":
		return Return{Value: json.RawMessage(`{"content":[],"structuredContent":{"a":1}}`)}
	case "fail":
		return Return{Value: json.RawMessage(`{"content":[{"type":"text","text":"no"}],"isError":true}`)}
	}
	return Return{Value: json.RawMessage("null")}
}

// TestHints: the error of a script says what its author should have written.
func TestHints(t *testing.T) {
	data := "from mcp import runtime\nr = await runtime.call_tool('my-files', 'data')\n"
	hints := map[string]string{
		"runtime.list_tools('x')":                    "name 'runtime' is not defined; write from mcp import runtime",
		"mcp.servers":                                "name 'mcp' is not defined; write import mcp",
		"call_tool('x', 'y')":                        "name 'call_tool' is not defined; write from mcp import runtime, and runtime.call_tool",
		"try: 1 / 0\nexcept MCPError: pass":          "name 'MCPError' is not defined; write from mcp import runtime, and runtime.MCPError",
		"await read(path='a')":                       "name 'read' is not defined; write mcp_my_files.read(...)",
		"mcp__my_files__read(path='a')":              "name 'mcp__my_files__read' is not defined; write mcp_my_files.read(...)",
		"mcp_my_files_read(path='a')":                "name 'mcp_my_files_read' is not defined; write mcp_my_files.read(...)",
		"mcp_files.read('a')":                        "name 'mcp_files' is not defined; the MCP servers are 'mcp_my_files'",
		"import mcp_other":                           "No module named 'mcp_other'; the MCP servers are 'mcp_my_files'",
		"prnt(1)":                                    "name 'prnt' is not defined",
		"mcp_my_files.list_tools()":                  "the MCP server 'my-files' has no tool 'list_tools'; from mcp import runtime, and runtime.list_tools('my-files')",
		"mcp_my_files.tools":                         "the MCP server 'my-files' has no tool 'tools'; from mcp import runtime, and runtime.list_tools_sync('my-files')",
		data + "import json\njson.loads(r)":          "the JSON object must be str, bytes or bytearray, not Data; what a tool returns is parsed already: leave out json.loads",
		data + "r['b']":                              "'b'; there is 'a'",
		data + "await r":                             "leave out await",
		"async def f(): return {}\nf()['a']":         "'coroutine' object is not subscriptable; a coroutine is what a call gives that was not awaited: write await before the call",
		"async def f(): pass\nawait f":               "call it: await f(...)",
		"import asyncio\nasyncio.get_running_loop()": "no running event loop; there is one where the script awaits at its top level: await what is to run, such as main()",
		"import asyncio\nawait asyncio.sleep(0)\nasyncio.run(asyncio.sleep(0))":                                                 "asyncio.run() cannot be called from a running event loop; the script awaits at its top level, where a loop runs already: write await there too, in place of asyncio.run",
		"raise OSError(97, 'Address family not supported')":                                                                     "[Errno 97] Address family not supported; there is no network here; only the tools of MCP servers reach it",
		"import socket\ntry: raise socket.gaierror(-3, 'Temporary failure')\nexcept OSError as e: raise ValueError('a') from e": "a; there is no network here; only the tools of MCP servers reach it",
		"open('/no/such/directory/a.csv')":                                                                                      "[Errno 2] No such file or directory: '/no/such/directory/a.csv'; a script sees the files of its sandbox only; the host's are for the tools of MCP servers",
		"open('a.csv')":                                                                                                         "[Errno 2] No such file or directory: 'a.csv'",
		"import no_such_module":                                                                                                 "No module named 'no_such_module'; it is not in the image, and there is no network to install it from",
		"%pip install x":                                                                                                        "invalid syntax; commands of notebooks do not work here, and nothing can be installed",
		"!ls":                                                                                                                   "invalid syntax; commands of notebooks do not work here, and nothing can be installed",
		">>> 1 + 1":                                                                                                             "invalid syntax; leave out the prompts",
		"return 5":                                                                                                              "'return' outside function; end with an expression instead: its value is the result",
		"exec('return 5')":                                                                                                      "'return' outside function",
		"class E(Exception):\n    @property\n    def exceptions(self): 1 / 0\nraise E('odd')": "odd",
		"class E(Exception):\n    __notes__ = 5\nraise E('odd')":                              "odd",
		"from mcp import runtime\nruntime.call_tool_sync('my-files', 'fail')":                 "no; ('fail' of the MCP server 'my-files' has failed)",
	}
	eachRunner(t, func(t *testing.T, start starter) {
		for code, want := range hints {
			o := start(t, t.TempDir()).run(t, Run{Code: code, Servers: []Server{files}}, fileTools)
			if o.done == nil || o.done.Error == nil {
				t.Errorf("%s: %s", code, o)
				continue
			}
			got := o.done.Error.Message
			if strings.HasPrefix(want, "leave out") || strings.HasPrefix(want, "call it") { // the versions differ in what is before
				_, got, _ = strings.Cut(got, "; ")
				got = strings.TrimPrefix(got, "it is there already: ")
			}
			if got != want {
				t.Errorf("%s:\n got %s\nwant %s", code, got, want)
			}
			if n := strings.Count(o.stderr, "Did you mean"); n > 1 || n == 1 && !strings.HasPrefix(code, "prnt") {
				t.Errorf("%s: what Python suggests is left:\n%s", code, o.stderr)
			}
		}
	})
}

// TestHintOfGroup: an error that is a group of errors says what the first one is.
func TestHintOfGroup(t *testing.T) {
	eachRunner(t, func(t *testing.T, start starter) {
		o := start.runScript(t, "import sys\nif sys.version_info < (3, 11): sys.exit()\nraise ExceptionGroup('several', [OSError(97, 'Address'), ValueError(2)])")
		const want = "several (2 sub-exceptions); OSError: [Errno 97] Address; there is no network here; only the tools of MCP servers reach it"
		if o.code != 0 && o.done.Error.Message != want {
			t.Errorf("got %s\nwant %s", o.done.Error.Message, want)
		}
	})
}

// TestForgotten: what a script has not awaited is told with the script's own line, and with what to write.
func TestForgotten(t *testing.T) {
	const never = "RuntimeWarning: coroutine 'mcp_my_files.read' was never awaited, nothing of it has run: await mcp_my_files.read(...)\n"
	const cancelled = "not done when the event loop ended, and cancelled: "
	scripts := map[string]string{
		"x = 1\nr = mcp_my_files.read(path='a')\nprint(5)":                                    "script.py:2: " + never + "  r = mcp_my_files.read(path='a')\n",
		"for i in range(3):\n    mcp_my_files.read(path='a')":                                 "script.py:2: " + never + "  mcp_my_files.read(path='a')\n",
		"async def main(): await mcp_my_files.read(path='a')\nmain()\n5":                      "script.py:2: RuntimeWarning: coroutine 'main' was never awaited, nothing of it has run: await main(...)\n  main()\n",
		"from mcp import runtime\nr = runtime.call_tool('my-files', 'read')\n":                "script.py:2: RuntimeWarning: coroutine 'runtime.call_tool' was never awaited, nothing of it has run: await runtime.call_tool(...)\n  r = runtime.call_tool('my-files', 'read')\n",
		"mcp_my_files.read(path='a')":                                                         never,
		"[mcp_my_files.read(path='a') for _ in range(3)]":                                     never,
		"{'a': mcp_my_files.read(path='a')}":                                                  never,
		"import warnings\nwarnings.simplefilter('ignore')\nr = mcp_my_files.read(path='a')":   "",
		"import asyncio\nawait asyncio.sleep(0)\nasyncio.create_task(mcp_my_files.read('a'))": "RuntimeWarning: 1 " + cancelled + "'mcp_my_files.read'\nRuntimeWarning: a task was never awaited, and ended with the script: await it\n",
		"import asyncio\nasync def f(): await mcp_my_files.never()\nasync def main():\n    for _ in range(3): asyncio.create_task(f())\n    await asyncio.sleep(0)\nasyncio.run(main())": "RuntimeWarning: 3 " + cancelled + "'mcp_my_files.never'\n",
		"import asyncio\nasync def f():\n    while True: await asyncio.sleep(1)\nasyncio.create_task(f())\nawait asyncio.sleep(0)\nprint('mcp')":                                         "", // not a call's
		"import asyncio\ntry: await asyncio.wait_for(mcp_my_files.never(), 0.001)\nexcept asyncio.TimeoutError: pass":                                                                    "",
		"import asyncio\nawait asyncio.gather(*(mcp_my_files.read('a') for _ in range(9)))\n5":                                                                                           "",
	}
	server := files
	server.Tools = append(server.Tools[:len(server.Tools):len(server.Tools)], Tool{Name: "never", Alias: "never", Params: []Param{}})
	eachRunner(t, func(t *testing.T, start starter) {
		for code, want := range scripts {
			p := start(t, t.TempDir())
			o := p.run(t, Run{Code: code, Servers: []Server{server}}, func(c Call) Return {
				if c.Tool == "never" {
					<-p.ended
				}
				return fileTools(c)
			})
			if o.stderr != want || o.code != 0 {
				t.Errorf("%s:\n got %swant %s", code, o, want)
			}
		}
	})
}

// TestMeant: what can mean but one thing is taken for that.
func TestMeant(t *testing.T) {
	r := "r = await mcp_my_files.read('a')\n"
	scripts := map[string]string{
		"await mcp_my_files.read({'path': 'a'})":                                                        `"a text"`,
		"await mcp_my_files.read(arguments={'path': 'a'})":                                              `"a text"`,
		"await mcp_my_files.put({'value': 1})":                                                          `{"value":{"value":1}}`, // it takes a dict
		"await mcp_my_files.put(arguments={'value': 1})":                                                `{"value":1}`,
		"from mcp import runtime\nruntime.call_tool_sync('my-files', 'put', value=1)":                   `{"value":1}`,
		"import mcp_my_files\nawait mcp_my_files.read('a')":                                             `"a text"`,
		"from mcp_my_files import read\nawait read('a')":                                                `"a text"`,
		"from mcp import mcp_my_files, mcp_servers, call_tool\nmcp_servers['my-files'] is mcp_my_files": `true`,
		"import mcp\nawait mcp.my_files.read('a')":                                                      `"a text"`,
		r + "[f\"{r['content']}\", len(r['content']), r['content'][:3], [b['text'] for b in r['content']], r['content'] == 'a text', r['content'][0]['text'], r['content'][0].text, r.content[0].text, r['content'].upper(), r['content'] + '!']": `["a text",6,"a t",["a text"],true,"a text","a text","a text","A TEXT","a text!"]`,
		r + "import json, copy, pickle\n[json.dumps(r['content']), type(copy.deepcopy(r['content'])).__name__, type(pickle.loads(pickle.dumps(r['content']))).__name__]":                                                                          `["\"a text\"","str","str"]`,
		"```python\n5\n```": `5`,
		"\n```\n5\n```\n\n": `5`,
		"```py\n6":          `6`,
		"    x = 1\n    if x:\n        x = 2\n\n    x": `2`,
		"\tx = '''\n\ta'''\n\tx":                       `"\na"`,
		"   # a comment\nx = 1\nx":                     `1`,
	}
	eachRunner(t, func(t *testing.T, start starter) {
		for code, want := range scripts {
			o := start(t, t.TempDir()).run(t, Run{Code: code, Servers: []Server{files}}, fileTools)
			if o.done == nil || string(o.done.Result) != want || o.stderr != "" {
				t.Errorf("%s:\n got %swant %s", code, o, want)
			}
		}
		var shown []string
		picture := "from mcp import runtime\nimport pathlib\np = pathlib.Path('a.PNG')\np.write_bytes(b'\\x89PNG\\r\\n')\nruntime.display(p, 'a.PNG', 'b.png', 'text')"
		if o := start(t, t.TempDir()).run(t, Run{Code: picture}, func(c Call) Return {
			shown = append(shown, string(c.Arguments))
			return Return{Value: json.RawMessage("true")}
		}); o.stdout != "b.png\ntext\n" || len(shown) != 2 || !strings.Contains(shown[1], "image/png") {
			t.Errorf("pictures by their names: %s%q", o, shown)
		}
		if o := start.runScript(t, "```print(1)\n5\n```"); o.code != 1 { // code on the fence is not lost
			t.Errorf("a fence with code on it: %s", o)
		}
		own := "open('mcp_my_files.py', 'w').write('X = 5')\nimport mcp_my_files\nmcp_my_files.X"
		if o := start(t, t.TempDir()).run(t, Run{Code: own, Servers: []Server{files}}, fileTools); o.done == nil || string(o.done.Result) != "5" {
			t.Errorf("a module of the script's own: %s", o)
		}
		odd := "from mcp import runtime\nruntime.call_tool_sync('my-files', 'read', {'path': 'a'}, timeout=5)"
		if o := start(t, t.TempDir()).run(t, Run{Code: odd, Servers: []Server{files}}, fileTools); o.code != 1 || !strings.Contains(o.stderr, "takes no 'timeout'") {
			t.Errorf("a keyword that no tool has: %s", o)
		}
		if o := start.runScript(t, "```\nx\n```"); o.done.Error == nil || o.done.Error.Line != 2 {
			t.Errorf("the lines of a script in a fence are counted as they are: %s", o)
		}
	})
}
