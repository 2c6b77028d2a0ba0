package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// sandboxed are scripts whose outcome is not Python's, or not only.
var sandboxed = []struct {
	name, code     string
	stdout, stderr string // "…" at an end stands for anything
	exit           int
	result         string
	err            *Error
	truncated      bool
	noDone         bool
}{
	{name: "value", code: "1 + 1", result: "2"},
	{name: "value after statements", code: "x = 5\nfor i in range(3):\n    x += i\n\nx\n# end\n", result: "8"},
	{name: "value none", code: "x = 5\nNone"},
	{name: "no value", code: "x = 5"},
	{name: "print has no value", code: "print(5)", stdout: "5\n"},
	{name: "value semicolon", code: "x = 5; x", result: "5"},
	{name: "value of lines", code: "x = 2\n(\n  x\n  + 1\n)\n", result: "3"},
	{name: "value string", code: "x = 'a'\nx + '\u00e4\\n\"\\\\'", result: `"aä\n\"\\"`},
	{name: "value triple", code: "'''\nx = 1\n(5)\n'''.count('x')", result: "1"},
	{name: "value docstring", code: "'''doc'''", result: `"doc"`},
	{name: "value after docstring", code: "'''doc'''\n__doc__", result: `"doc"`},
	{name: "value string only line", code: "x = 1\n'text'", result: `"text"`},
	{name: "value continued", code: "x = 1\nx \\\n+ 2", result: "3"},
	{name: "value below string", code: "x = '''\n(\n'''\n5", result: "5"},
	{name: "value in string", code: "x = '''\n5\n'''"},
	{name: "value future", code: "from __future__ import annotations\nx: Foo = 5\nx", result: "5"},
	{name: "value lambda", code: "(lambda: 7)()", result: "7"},
	{name: "value if", code: "if 1:\n    5"},
	{
		name: "value with final error", code: "x = 1\nx.nope", exit: 1, stderr: "Traceback…",
		err: &Error{Type: "AttributeError", Message: "'int' object has no attribute 'nope'", Line: 2},
	},
	{
		name: "values", code: "{'a': [1, 2.5, True, None, (3,), 'x'], 5: {6}, None: frozenset(), (1, 2): b'x\\xff'}",
		result: `{"a":[1,2.5,true,null,[3],"x"],"5":[6],"null":[],"(1, 2)":"b'x\\xff'"}`,
	},
	{name: "value big int", code: "2 ** 100", result: "1267650600228229401496703205376"},
	{name: "value floats", code: "[float('nan'), float('inf'), -float('inf'), 1e300, -0.0, 0.1]", result: `["nan","inf","-inf",1e+300,-0.0,0.1]`},
	{name: "value names twice", code: "{1: 'a', '1': 'b', True: 'c'}", result: `{"1":"c","1'":"b"}`},
	{
		name: "value forgotten", code: "async def main():\n    print('never')\nmain()", result: `"<coroutine object main at…`,
		stderr: "RuntimeWarning: coroutine 'main' was never awaited, nothing of it has run: await main(...)\n",
	},
	{name: "value suspended", code: "class G:\n    def __await__(self): yield\nasync def main():\n    await G()\nm = main()\nm.send(None)\nm", result: `"<coroutine object main at…`},
	{name: "value cycle", code: "x = [1]\nx.append(x)\nx", result: `[1,"..."]`},
	{name: "value shared", code: "x = [1]\n[x, x]", result: `[[1],[1]]`},
	{name: "value deep", code: "x = []\nfor _ in range(10000): x = [x]\nx", truncated: true, result: strings.Repeat("[", 50) + `"..."` + strings.Repeat("]", 50)},
	{name: "value surrogate", code: "x = 'a\\ud800b'\nx", result: `"a\ud800b"`},
	{name: "value repr", code: "class A:\n    def __repr__(self): return 'A!'\n[A(), A]", result: `["A!","<class '__main__.A'>"]`},
	{name: "one bad value of many", code: "class A(list):\n    def __iter__(self):\n        yield 5\n        raise ValueError\n[1, A(), {'x': [A()]}]", result: `[1,"[]",{"x":["[]"]}]`},
	{name: "value bad repr", code: "class A:\n    def __repr__(self): raise SystemExit(5)\n[A()]", result: `["<A object, whose repr fails>"]`},
	{name: "value and no modules", code: "import sys\nsys.modules.clear()\nsys.meta_path.clear()\n[1]", result: `[1]`},
	{name: "value bad class", code: "class A:\n    def __getattr__(self, n): raise KeyboardInterrupt\nclass B(dict):\n    def items(self): 1/0\n[A().__class__, B(x=1)]", result: `["<class '__main__.A'>",{"x":1}]`},
	{name: "value bad str", code: "class S(str):\n    def translate(self, t): return 'no'\n    def __str__(self): return 'no'\nS('yes')", result: `"yes"`},
	{
		name: "value types", code: "import datetime, decimal, pathlib, enum, collections, uuid, fractions, dataclasses, typing\n" +
			"class E(enum.Enum):\n    X = 'ex'\nclass I(enum.IntEnum):\n    Y = 7\nP = collections.namedtuple('P', 'x y')\n" +
			"@dataclasses.dataclass\nclass D:\n    a: int\n    c: typing.ClassVar[int] = 5\n    b: list = dataclasses.field(default_factory=list)\n" +
			"[datetime.datetime(2024, 1, 2, 3), datetime.date(2024, 1, 2), datetime.timedelta(1), decimal.Decimal('1.10'), pathlib.Path('/x'), E.X, I.Y, P(1, 2), D(1), collections.OrderedDict(a=1), collections.Counter('aa'), collections.deque([1]), {}.keys(), uuid.UUID(int=1), fractions.Fraction(1, 3), range(3)]",
		result: `["2024-01-02T03:00:00","2024-01-02","1 day, 0:00:00","1.10","/x","ex",7,{"x":1,"y":2},{"a":1,"b":[]},{"a":1},{"a":2},[1],[],"00000000-0000-0000-0000-000000000001","1/3","range(0, 3)"]`,
	},
	{name: "value long", code: "'x' * (5 << 20)", truncated: true, result: `"` + strings.Repeat("x", 1<<19) + `"`},
	{name: "value huge repr", code: "class A:\n    def __repr__(self): return 'R' * (1 << 26)\nA()", truncated: true, result: `"\"RRR…`},
	{name: "value long list", code: "list(range(1000000))", truncated: true, result: `"[0,1,2,…`},
	{name: "await", code: "import asyncio\nawait asyncio.sleep(0)\nprint('x')\nawait asyncio.sleep(0, 'v')", stdout: "x\n", result: `"v"`},
	{name: "await only last", code: "import asyncio\nq = asyncio.Queue()\nq.put_nowait(4)\nawait q.get()", result: `4`},
	{name: "async for", code: "async def g():\n    yield 1\n    yield 2\nasync for x in g():\n    print(x)\nprint([x async for x in g()])", stdout: "1\n2\n[1, 2]\n"},
	{name: "async with", code: "import contextlib\n@contextlib.asynccontextmanager\nasync def c():\n    yield 5\nasync with c() as v:\n    print(v)", stdout: "5\n"},
	{name: "await cancels the rest", code: "import asyncio\nasync def f():\n    try:\n        await asyncio.Event().wait()\n    finally:\n        print('cancelled')\nt = asyncio.create_task(f())\nawait asyncio.sleep(0)", stdout: "cancelled\n"},
	{name: "await closes generators", code: "async def f():\n    try:\n        yield 1\n    finally:\n        print('closed')\ng = f()\nawait g.__anext__()", stdout: "closed\n", result: `1`},
	{name: "await waits for the executor", code: "import asyncio, time\nx = asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.1), print('worked')))\nawait asyncio.sleep(0)", stdout: "worked\n"},
	{name: "await runs callbacks", code: "import asyncio\nasync def work():\n    return 5\nawait asyncio.sleep(0)\nt = asyncio.create_task(work())\nt.add_done_callback(lambda t: print(t.result()))", stdout: "5\n"},
	{name: "await ends generators of tasks", code: "import asyncio\nasync def f():\n    try:\n        yield 1\n        yield 2\n    finally:\n        print('closed')\nasync def work():\n    async for x in f():\n        break\nawait asyncio.sleep(0)\nt = asyncio.create_task(work())\nNone", stdout: "closed\n"},
	{name: "await closes its loop", code: "import asyncio, atexit, warnings\nwarnings.simplefilter('error')\nloop = asyncio.get_running_loop()\natexit.register(lambda: print(loop.is_closed(), loop is None))\nawait asyncio.sleep(0)", stdout: "True False\n"},
	{
		name: "await error", code: "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    1 / 0\n\nawait f()\n", exit: 1,
		stderr: "Traceback (most recent call last):\n  File \"script.py\", line 6, in <module>\n    await f()\n  File \"script.py\", line 4, in f\n    1 / 0\n…",
		err:    &Error{Type: "ZeroDivisionError", Message: "division by zero", Line: 4},
	},
	{name: "await exit", code: "import asyncio, sys\nawait asyncio.sleep(0)\nsys.exit(6)", exit: 6, err: &Error{Type: "SystemExit", Message: "6", Line: 3}},
	{name: "error", code: "def f():\n    raise ValueError('no')\n\nf()", exit: 1, stderr: "Traceback…", err: &Error{Type: "ValueError", Message: "no", Line: 2}},
	{name: "error own type", code: "class E(Exception): pass\nraise E", exit: 1, stderr: "Traceback…", err: &Error{Type: "E", Message: "", Line: 2}},
	{name: "error module type", code: "import json\njson.loads('')", exit: 1, stderr: "Traceback…", err: &Error{Type: "json.decoder.JSONDecodeError", Message: "Expecting value: line 1 column 1 (char 0)", Line: 2}},
	{name: "error bad str", code: "class E(Exception):\n    def __str__(self): 1 / 0\nraise E", exit: 1, stderr: "Traceback…", err: &Error{Type: "E", Message: "<exception str() failed>", Line: 3}},
	{name: "error surrogate", code: "raise ValueError('\\udc80')", exit: 1, stderr: "Traceback…", err: &Error{Type: "ValueError", Message: "\ufffd", Line: 1}},
	{name: "error frozen", code: "class E(Exception):\n    def __setattr__(self, *a): 1 / 0\nraise E('x')", exit: 1, stderr: "Traceback…", err: &Error{Type: "E", Message: "x", Line: 3}},
	{name: "error loop", code: "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a", exit: 1, stderr: "…ValueError: a\n", err: &Error{Type: "ValueError", Message: "a", Line: 3}},
	{name: "error memory", code: "raise MemoryError", exit: 1, stderr: "Traceback…", err: &Error{Type: "MemoryError", Message: "", Line: 1}},
	{name: "error keyboard", code: "raise KeyboardInterrupt", exit: 130, stderr: "Traceback…", err: &Error{Type: "KeyboardInterrupt", Message: "", Line: 1}},
	{name: "error signal", code: "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass", exit: 130, stderr: "Traceback…", err: &Error{Type: "KeyboardInterrupt", Message: "", Line: -1}},
	{name: "syntax error", code: "print('not run')\nx = (\n", exit: 1, stderr: "  File \"script.py\", line …", err: &Error{Type: "SyntaxError", Message: "…", Line: -1}},
	{name: "syntax text", code: "x = 1\nreturn 5", exit: 1, stderr: "  File \"script.py\", line 2\n    return 5\n…", err: &Error{Type: "SyntaxError", Message: "'return' outside function; end with an expression instead: its value is the result", Line: 2}},
	{name: "null byte", code: "x = 1\ny = '\x00'", exit: 1, stderr: "  File \"script.py\"…", err: &Error{Type: "SyntaxError", Message: "source code …", Line: -1}},
	{name: "nested parentheses", code: strings.Repeat("(", 300) + strings.Repeat(")", 300), exit: 1, stderr: "…", err: &Error{Type: "SyntaxError", Message: "too many nested parentheses", Line: -1}},
	{name: "exit text", code: "import sys\nsys.exit('bye')", exit: 1, stderr: "bye\n", err: &Error{Type: "SystemExit", Message: "bye", Line: 2}},
	{name: "hard exit", code: "import os\nprint('a', end='')\nos._exit(3)", stdout: "a", exit: 3, noDone: true},
	{name: "killed", code: "import os, sys\nprint('a', end='')\nsys.stderr.write('b')\nsys.stdout.buffer.write(b'c')\nos.kill(os.getpid(), 9)", stdout: "ac", stderr: "b", exit: -1, noDone: true},
	{name: "crash", code: "import ctypes\nprint('a', end='')\nctypes.string_at(0)", stdout: "a", exit: -1, noDone: true},
	{name: "surrogates", code: "import sys\nprint('\\ud800x')\nsys.stderr.write('\\udcff\\n')", stdout: "\\ud800x\n", stderr: "\\udcff\n", result: "2"},
	{name: "large print", code: "print('x' * 3000000)", stdout: "xxx…"},
	{name: "large with alarms", code: "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\nfor i in range(20): print('x' * 299999)\nx = signal.setitimer(signal.ITIMER_REAL, 0)", stdout: strings.Repeat(strings.Repeat("x", 299999)+"\n", 20)},
	{name: "non-blocking stdout", code: "import os, sys\nos.set_blocking(1, False)\nfor i in range(20): print('x' * 299999)", stdout: strings.Repeat(strings.Repeat("x", 299999)+"\n", 20)},
	{name: "array to buffer", code: "import sys, array\nprint(sys.stdout.buffer.write(array.array('H', [0x6161, 0x6262])))", stdout: "aabb4\n"},
	{
		name: "stdio", code: "import sys, os\nprint(sys.stdout, sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.buffer.raw.name, sys.stderr.errors, sys.stdout is sys.__stdout__)",
		stdout: "<_io.TextIOWrapper name='<stdout>' mode='w' encoding='utf-8'> 1 False <stdout> backslashreplace True\n",
	},
	{name: "closed 0 1 2", code: "import os\nfor fd in range(3): os.close(fd)\n7", result: "7"},
	{name: "closed 0 1 2, exit", code: "import os, sys\nfor fd in range(3): os.close(fd)\nsys.exit(8)", exit: 8, err: &Error{Type: "SystemExit", Message: "8", Line: 3}},
	{name: "closed 1, print", code: "import os\nos.close(1)\nprint(5)", exit: 1, stderr: "…OSError: [Errno 9] Bad file descriptor\n", err: &Error{Type: "OSError", Message: "[Errno 9] Bad file descriptor", Line: 3}},
	{name: "closed all", code: "import os, sys\nos.closerange(0, 100000)\nsys.exit(9)", exit: 9, noDone: true},
	{name: "closed all, error", code: "import os\nos.closerange(0, 100000)\n1 / 0", exit: 1, noDone: true},
	{name: "closed all, no error", code: "import os\nos.closerange(0, 100000)", noDone: true},
	{name: "low descriptors", code: "import os\nprint([os.open('/dev/null', 0) for _ in range(4)], [os.get_inheritable(f) for f in (240, 241)])", stdout: "[3, 4, 5, 6] [False, False]\n"},
	{name: "low descriptors closed", code: "import asyncio, os\nos.closerange(3, 240)\nasync def f(): return 5\nasyncio.run(f())", result: "5"},
	{
		name: "loop", code: "import asyncio, atexit\nloop = asyncio.get_running_loop()\natexit.register(lambda: print(loop.is_closed()))\nnew = asyncio.new_event_loop\n" + // closed, because who is collected first is chance
			"async def f(): return asyncio.get_running_loop() is loop\n" +
			"other = new()\nother.close()\n" +
			"[await f(), loop.is_running(), loop.get_debug(), new is asyncio.events.new_event_loop, new.__module__, loop is not other]",
		stdout: "True\n", result: `[true,true,false,true,"asyncio.events",true]`,
	},
	{name: "names of tasks", code: "import asyncio\nt = asyncio.create_task(asyncio.sleep(0))\nawait t\n[asyncio.current_task().get_name(), t.get_name()]", result: `["Task-1","Task-2"]`},
	{name: "exit beyond a long", code: "import sys\nsys.exit(10 ** 20)", exit: 255, err: &Error{Type: "SystemExit", Message: "100000000000000000000", Line: 2}},
	{
		name: "spawn and await", code: "import asyncio, multiprocessing as m\ndef f(x):\n    return x * x\nif __name__ == '__main__':\n    await asyncio.sleep(0)\n" +
			"    with m.get_context('spawn').Pool(1) as p:\n        print(p.map(f, range(5)))", stdout: "[0, 1, 4, 9, 16]\n",
	},
	{
		name: "spawn and tools", code: "import multiprocessing as m\nfrom mcp import runtime\nfrom mcp.servers import *\nimport user_tools\ndef f(x):\n    return x * x\ndef g(x):\n" +
			"    try:\n        runtime.call_tool_sync('s', 't')\n    except RuntimeError as e:\n        return str(e)[:26]\nif __name__ == '__main__':\n" +
			"    with m.get_context('spawn').Pool(1) as p:\n        print(p.map(f, range(5)), p.map(g, [1]))", stdout: "[0, 1, 4, 9, 16] ['MCP tools can be called on']\n",
	},
	{name: "what __del__ needs", code: "import json\nclass D:\n    def __del__(self): print('del', json.dumps(1), help_it())\nd = D()\ndef help_it(): return 3", stdout: "del 1 3\n"},
	{name: "odd ends", code: "class A:\n    def __del__(self):\n        global b\n        del b\n        print('a')\nclass B:\n    @property\n    def __class__(self): 1/0\n    def __del__(self): print('b')\na = A()\nb = B()", stdout: "b\na\n"},
	{name: "no source of ours", code: "eval('1/0')", exit: 1, stderr: "Traceback (most recent call last):\n  File \"script.py\", line 1, in <module>\n    eval('1/0')\n  File \"<string>\", line 1, in <module>\nZeroDivisionError: division by zero\n", err: &Error{Type: "ZeroDivisionError", Message: "division by zero", Line: 1}},
	{name: "loop and a process", code: "import asyncio\np = await asyncio.create_subprocess_exec('echo', 'x')\nawait p.wait()", stdout: "x\n", result: "0"},
	{name: "children get no frames", code: "import subprocess\np = subprocess.run(['ls', '/proc/self/fd'], close_fds=False, stdout=subprocess.PIPE)\n{b'240', b'241'} & set(p.stdout.split())", result: "[]"},
	{name: "stdout lost", code: "import sys\nclass S:\n    def write(self, s): pass\n    def flush(self): raise OSError('gone')\nsys.stdout = S()", exit: 120, stderr: "Exception ignored in: <__main__.S object at …"},
	{name: "path", code: "import sys, os\nprint(sys.path[0] == os.getcwd(), __file__, sys.argv, any('packages' in p for p in sys.path))", stdout: "True script.py ['script.py'] True\n"},
	{name: "no names of ours", code: "import sys\nprint([n for n in globals() if n[:2] != '__'], 'site' in sys.modules)", stdout: "['sys'] False\n"},
	{name: "ssl", code: "import asyncio, sys\nimport asyncio.sslproto as p\nprint(p.SSLProtocol.__name__, asyncio.base_events.ssl is p.ssl)\nimport ssl\nfrom ssl import CERT_NONE\nprint(ssl is p.ssl is sys.modules['ssl'], type(ssl) is type(sys), ssl.SSLContext.__name__, 'SSLContext' in dir(ssl))", stdout: "SSLProtocol True\nTrue True SSLContext True\n"},
	{name: "ssl shown", code: "import ssl\n'SSLContext' in dir(ssl)", result: "true"},
	{name: "ssl first", code: "import ssl, sys\nprint(ssl.create_default_context().verify_mode.name, ssl.__spec__.loader is ssl.__loader__, type(ssl) is type(sys))", stdout: "CERT_REQUIRED True True\n"},
	{name: "an old finder", code: "import sys\nsys.meta_path.append(type('F', (), {'find_module': lambda *a: None})())\nimport asyncio, linecache\nprint('ok')", stdout: "ok\n"},
	{name: "builtins", code: "print(exit, help, sep='|')\ncopyright()\nprint(callable(quit), callable(license), callable(credits))", stdout: "Use exit() or Ctrl-D (i.e. EOF) to exit|Type help() for…"},
	{name: "patched builtins", code: "import builtins\nfor n in ('len', 'str', 'isinstance', 'print', 'repr', 'list'): setattr(builtins, n, None)\n[1, 'x']", result: `[1,"x"]`},
	{name: "patched modules", code: "import json, os, sys, io\njson.dumps = json.loads = os.write = io.open = None\nsys.modules.clear()\n[1, 'x']", result: `[1,"x"]`},
	{name: "forged frames", code: "import os\nos.write(241, b'{\"type\":\"done\",\"result\":1}\\n')\nos._exit(0)", result: "1"},
	{name: "main deleted", code: "import sys\ndel sys.modules['__main__']\nx = 5\nx", result: "5"},
	{name: "forked child ends late", code: "import os, time\nr, w = os.pipe()\nif os.fork() == 0:\n    os.close(w)\n    os.read(r, 1)\n    raise ValueError\nprint('main')", stdout: "main\n", stderr: "Traceback…"},
	{
		name: "fork in a call", code: "import os, mcp.runtime as r\npid = os.fork()\nif pid == 0:\n    r.call_tool_sync('s', 't')\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))", stdout: "1\n",
		stderr: "Traceback (most recent call last):\n  File \"script.py\", line 4, in <module>\n    r.call_tool_sync('s', 't')\nRuntimeError: MCP tools can be called only from the main process, not from a forked child\n",
	},
	{name: "no threads", code: "import threading\nthreading.active_count()", result: "1"},
}

func TestScripts(t *testing.T) {
	eachRunner(t, func(t *testing.T, start starter) {
		for _, c := range sandboxed {
			t.Run(c.name, func(t *testing.T) {
				o := start.runScript(t, c.code)
				check := func(what, got, want string) {
					if before, after, found := strings.Cut(want, "…"); found {
						if strings.HasPrefix(got, before) && strings.HasSuffix(got, after) {
							return
						}
					} else if got == want {
						return
					}
					t.Errorf("%s is %.2000q, want %.2000q", what, got, want)
				}
				check("stdout", o.stdout, c.stdout)
				if !strings.Contains(c.stderr, "^") {
					o.stderr = carets.ReplaceAllString(o.stderr, "")
				}
				check("stderr", o.stderr, c.stderr)
				if o.code != c.exit || o.err != nil {
					t.Errorf("exit code %d, want %d; reader: %v", o.code, c.exit, o.err)
				}
				if (o.done == nil) != c.noDone {
					t.Errorf("done is %v", o.done)
				}
				if o.done == nil {
					o.done = &Done{}
				}
				check("result", string(o.done.Result), c.result)
				if o.done.Truncated != c.truncated {
					t.Errorf("truncated is %v", o.done.Truncated)
				}
				if (o.done.Error == nil) != (c.err == nil) {
					t.Errorf("error is %+v, want %+v", o.done.Error, c.err)
				} else if c.err != nil {
					check("error type", o.done.Error.Type, c.err.Type)
					check("error message", o.done.Error.Message, c.err.Message)
					if c.err.Line >= 0 && o.done.Error.Line != c.err.Line {
						t.Errorf("error line is %d, want %d", o.done.Error.Line, c.err.Line)
					}
				}
				if t.Failed() {
					t.Logf("%.3000s", o.String())
				}
			})
		}
	})
}

// carets are the marks that 3.11 and later put under a line of a traceback.
var carets = regexp.MustCompile(`(?m)^ +[~^]+\n`)

// tools is what the scripts of TestCalls can call.
func tools(c Call) Return {
	switch c.Tool {
	case "echo":
		return Return{Value: c.Arguments}
	case "fail":
		return Return{Error: &Error{Type: "ToolError", Message: "it failed"}}
	case "big": // longer than a line, with characters that a careless cut would break
		return Return{Value: json.RawMessage(`"` + strings.Repeat("\u20ac\\n", 4<<20) + `"`)}
	case "digits":
		return Return{Value: json.RawMessage(strings.Repeat("9", 5000))}
	case "deep":
		return Return{Value: json.RawMessage(strings.Repeat("[", 200) + strings.Repeat("]", 200))}
	case "size":
		return Return{Value: json.RawMessage(fmt.Sprint(len(c.Arguments)))}
	}
	return Return{Error: &Error{Message: "no tool " + c.Tool}}
}

var calls = []struct{ name, code, stdout, stderr, result string }{
	{name: "sync", code: "import mcp.runtime as runtime\nruntime.call_tool_sync('s', 'echo', {'a': [1, 'x', 2**70, None]})", result: `{"a":[1,"x",1180591620717411303424,null]}`},
	{name: "async", code: "from mcp import runtime\nawait runtime.call_tool('s', 'echo', {'a': 1})", result: `{"a":1}`},
	{name: "no arguments", code: "from mcp import runtime\nawait runtime.call_tool('s', 'echo')", result: `{}`},
	{name: "gather", code: "import asyncio\nfrom mcp import runtime\n[x['i'] for x in await asyncio.gather(*(runtime.call_tool('s', 'echo', {'i': i}) for i in range(200)))] == list(range(200))", result: `true`},
	{name: "in a row", code: "from mcp import runtime\nfor i in range(300):\n    assert runtime.call_tool_sync('s', 'echo', {'i': i}) == {'i': i}\n    assert await runtime.call_tool('s', 'echo', {'i': i}) == {'i': i}\n"},
	{name: "threads", code: "from mcp import runtime\nfrom concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(8) as p:\n    r = list(p.map(lambda i: runtime.call_tool_sync('s', 'echo', {'i': i})['i'], range(300)))\nr == list(range(300))", result: `true`},
	{name: "threads and loops", code: "import asyncio, threading\nfrom mcp import runtime\nout = []\nasync def f(n):\n    out.extend(await asyncio.gather(*(runtime.call_tool('s', 'echo', {'n': n, 'i': i}) for i in range(20))))\n" +
		"ts = [threading.Thread(target=lambda n=n: asyncio.run(f(n))) for n in range(4)]\n[t.start() for t in ts]\nfor i in range(50): runtime.call_tool_sync('s', 'echo', {})\n[t.join() for t in ts]\nlen(out)", result: `80`},
	{
		name: "error", code: "from mcp import runtime\ntry:\n    await runtime.call_tool('s', 'fail')\nexcept runtime.MCPError as e:\n    print(type(e), e, e.server, e.tool, e.message, e.type)\nruntime.MCPError.__name__",
		stdout: "<class 'mcp.runtime.MCPError'> it failed s fail it failed ToolError\n", result: `"MCPError"`,
	},
	{
		name: "uncaught", code: "from mcp import runtime\ndef f():\n    runtime.call_tool_sync('s', 'fail')\nf()",
		stderr: "Traceback (most recent call last):\n  File \"script.py\", line 4, in <module>\n    f()\n  File \"script.py\", line 3, in f\n    runtime.call_tool_sync('s', 'fail')\nmcp.runtime.MCPError: it failed\n",
	},
	{
		name: "uncaught async", code: "from mcp import runtime\nawait runtime.call_tool('s', 'fail')",
		stderr: "Traceback (most recent call last):\n  File \"script.py\", line 2, in <module>\n    await runtime.call_tool('s', 'fail')\nmcp.runtime.MCPError: it failed\n",
	},
	{name: "big answer", code: "from mcp import runtime\nimport asyncio\na, b = await asyncio.gather(runtime.call_tool('s', 'big'), runtime.call_tool('s', 'echo', {'x': 1}))\nb, len(a), a == '\u20ac\\n' * (4 << 20)", result: `[{"x":1},8388608,true]`},
	{name: "big arguments", code: "from mcp import runtime\nawait runtime.call_tool('s', 'size', {'a': '\u20ac\"' * (2 << 20)})", result: `10485768`},
	{name: "too big arguments", code: "from mcp import runtime\ntry:\n    runtime.call_tool_sync('s', 'size', {'a': 'x' * (65 << 20)})\nexcept ValueError as e:\n    print(e)", stdout: "the arguments are longer than 16 MiB\n"},
	{name: "deep answer", code: "from mcp import runtime\ntry:\n    runtime.call_tool_sync('s', 'deep')\nexcept runtime.MCPError as e:\n    print('nested' in str(e))", stdout: "True\n"},
	{name: "many digits", code: "import sys\nfrom mcp import runtime\ntry:\n    print(len(str(runtime.call_tool_sync('s', 'digits'))))\nexcept ValueError as e:\n    print(5000)\nruntime.call_tool_sync('s', 'echo')", stdout: "5000\n", result: `{}`},
	{
		name: "bad arguments", code: "from mcp import runtime\nx = []; x.append(x)\nfor a in (5, {'a': object()}, {'a': float('nan')}, {'a': x}, {(1, 2): 3}, {5: 2, '5': 3}):\n    try:\n        runtime.call_tool_sync('s', 'echo', a)\n    except runtime.MCPError as e:\n        print(e, isinstance(e, TypeError) and isinstance(e, ValueError))\nruntime.call_tool_sync('s', 'echo', {'a': 1, 5: 2})",
		stdout: "arguments must be a dict, not int True\nargument 'a': object object cannot be sent as JSON True\nargument 'a': JSON has no nan True\nargument 'a': a value that contains itself cannot be sent as JSON True\na key must be a str, not tuple True\nargument '5': two keys become \"5\" True\n", result: `{"a":1,"5":2}`,
	},
	{name: "surrogates", code: "from mcp import runtime\nruntime.call_tool_sync('s', 'echo', {'\\ud800': '\\ud83d\\ude00'}) == {'\\ud800': '\\U0001f600'}", result: `true`},
	{name: "cancelled", code: "import asyncio\nfrom mcp import runtime\ntry:\n    await asyncio.wait_for(runtime.call_tool('s', 'never'), 0.01)\nexcept asyncio.TimeoutError:\n    print('timeout')\nawait runtime.call_tool('s', 'echo', {'a': 1})", stdout: "timeout\n", result: `{"a":1}`},
	{name: "no thread is left", code: "import os, warnings\nwarnings.simplefilter('error')\nfrom mcp import runtime\nawait runtime.call_tool('s', 'echo')\nruntime.call_tool_sync('s', 'echo')\nimport _thread\nassert not _thread._count()\nif os.fork() == 0: os._exit(0)"},
	{name: "daemon thread in a call at the end", code: "import threading\nfrom mcp import runtime\nthreading.Thread(target=runtime.call_tool_sync, args=('s', 'never'), daemon=True).start()\n5", stderr: "RuntimeWarning: the script has ended before the answers to 1 calls; wait for the threads that make them\n", result: `5`},
	{
		name: "servers", code: "from mcp import runtime\nprint(runtime.discovered_servers(), await runtime.list_servers(), runtime.list_servers_sync())\nruntime.discovered_servers(detailed=True)", stdout: "('a-b',) ('a-b',) ('a-b',)\n",
		result: `[{"name":"a-b","alias":"a_b","loaded":true,"toolCount":1}]`,
	},
	{name: "submodule", code: "try:\n    import mcp.nothing\nexcept ModuleNotFoundError as e:\n    print(e)", stdout: "mcp has no 'nothing'; there are 'runtime', 'servers'\n"},
}

func TestCalls(t *testing.T) {
	servers := []Server{{Name: "a-b", Alias: "a_b", Loaded: true, Tools: []Tool{{Name: "t", Alias: "t", Description: "line\n\"end\", \"filename\":\"x\"", Params: []Param{}}}}}
	eachRunner(t, func(t *testing.T, start starter) {
		for _, c := range calls {
			t.Run(c.name, func(t *testing.T) {
				p := start(t, t.TempDir())
				o := p.run(t, Run{Code: c.code, Servers: servers}, func(call Call) Return {
					if call.Tool == "never" {
						<-p.ended
						return Return{Value: json.RawMessage("null")}
					}
					return tools(call)
				})
				o.stderr = carets.ReplaceAllString(o.stderr, "")
				result := ""
				if o.done != nil {
					result = string(o.done.Result)
				}
				if o.stdout != c.stdout || o.stderr != c.stderr || result != c.result || o.done == nil || o.err != nil {
					t.Errorf("got %.3000s\nwant stdout %q stderr %q result %s", o, c.stdout, c.stderr, c.result)
				}
			})
		}
	})
}

// TestInFlight holds all answers back until the last call has come.
func TestInFlight(t *testing.T) {
	eachRunner(t, func(t *testing.T, start starter) {
		const n = 50
		var arrived atomic.Int32
		var all sync.WaitGroup
		all.Add(n)
		p := start(t, t.TempDir())
		o := p.run(t, Run{Code: fmt.Sprintf("import asyncio\nfrom mcp import runtime\nawait asyncio.gather(*(runtime.call_tool('s', 'wait') for _ in range(%d)))", n)}, func(Call) Return {
			arrived.Add(1)
			all.Done()
			all.Wait()
			return Return{Value: json.RawMessage("1")}
		})
		if arrived.Load() != n || o.code != 0 {
			t.Error(o)
		}
	})
}

// TestManyCalls: a script that makes more calls than it may can catch what it is told. The oldest and the newest Python do.
func TestManyCalls(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		if between(python) {
			return
		}
		p := launch(t, python, t.TempDir(), compileRunner(t, python))
		p.ready(t)
		code := "from mcp import runtime\nn = 0\ntry:\n    while True:\n        runtime.call_tool_sync('s', 't')\n        n += 1\nexcept runtime.MCPError as e:\n    print(n, e)"
		o := p.run(t, Run{Code: code}, func(Call) Return { return Return{Value: json.RawMessage("1")} })
		if o.stdout != fmt.Sprintf("%d a run can make %d calls, and has made them\n", MaxCalls, MaxCalls) || o.code != 0 || o.err != nil {
			t.Error(o)
		}
	})
}

// TestHostGone closes the pipe to the guest while a call waits.
func TestHostGone(t *testing.T) {
	eachRunner(t, func(t *testing.T, start starter) {
		p := start(t, t.TempDir())
		code := "import asyncio\nfrom mcp import runtime\nfor c in (lambda: runtime.call_tool_sync('s', 'never'), lambda: asyncio.run(runtime.call_tool('s', 'never'))):\n" +
			"    try:\n        c()\n    except runtime.MCPError as e:\n        print(e)"
		o := p.run(t, Run{Code: code}, func(Call) Return { p.in.Close(); return Return{} })
		if o.stdout != "the host is gone\nthe host is gone\n" || o.code != 0 {
			t.Error(o)
		}
		q := start(t, t.TempDir())
		q.in.Close()
		if _, err := q.reader.Read(); err != io.EOF {
			t.Errorf("a runner without a host: %v", err)
		}
	})
}

// TestLean: a runner that nobody has warmed imports nothing before its script does.
func TestLean(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		code := "import sys\nprint([m for m in ('site', 're', 'json', 'asyncio', 'threading', 'os', 'traceback') if m in sys.modules])"
		if o := runScript(t, python, code); o.stdout != "[]\n" {
			t.Error(o)
		}
	})
}

// TestAuditHook: a script can keep its own runner from loading more of itself; the value is told as text then.
func TestAuditHook(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		o := runScript(t, python, "import sys\ndef no(event, args):\n    if event in ('compile', 'marshal.loads'): raise OSError\nsys.addaudithook(no)\n[1]")
		if o.code != 0 || o.done == nil || string(o.done.Result) != `"[1]"` {
			t.Error(o)
		}
	})
}

func TestCompiled(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		boot := func(compiled []byte) []byte {
			t.Helper()
			p := launch(t, python, t.TempDir(), compiled)
			again := p.ready(t).Compiled
			// A script that no pipe holds: neither side may wait for the other.
			if o := p.run(t, Run{Code: "print(6 * 7, list(mcp_servers)) #" + strings.Repeat(" x", 1<<20)}, nil); o.stdout != "42 []\n" || o.code != 0 {
				t.Error(o)
			}
			return again
		}
		first := boot(nil)
		if len(first) < 1000 {
			t.Fatalf("compiled has %d bytes", len(first))
		}
		compiled := boot(first)
		if len(compiled) < 1000 || bytes.Equal(first, compiled) {
			t.Fatalf("with the library compiled has %d bytes, without %d", len(compiled), len(first))
		}
		if boot(compiled) != nil {
			t.Error("compiled code was not used")
		}
		other := slices.Clone(compiled)
		other[0] ^= 1
		for name, bad := range map[string][]byte{
			"other magic": other, "cut": compiled[:len(compiled)/2], "short": compiled[:3],
			"no code": append(slices.Clone(compiled[:4]), 'N'),
		} {
			if again := boot(bad); len(again) < 1000 {
				t.Errorf("%s: did not fall back to the source", name)
			}
		}
	})
}

// TestSitePackages has modules that are found at once, and through a .pth file only when nothing else has them.
func TestSitePackages(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		venv := t.TempDir()
		if real, err := filepath.EvalSymlinks(python); err == nil {
			python = real
		}
		version, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(t.Name()), "3."), ".")
		lib := filepath.Join(venv, "lib", "python3."+version, "site-packages")
		extra := filepath.Join(venv, "extra")
		for _, d := range []string{lib, extra, filepath.Join(venv, "bin")} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range map[string]string{
			filepath.Join(venv, "pyvenv.cfg"):    "home = " + filepath.Dir(python) + "\n",
			filepath.Join(lib, "installed.py"):   "x = 1",
			filepath.Join(lib, "more.pth"):       extra + "\n",
			filepath.Join(extra, "elsewhere.py"): "x = 2",
		} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(venv, "bin", "python")
		if err := os.Symlink(python, link); err != nil {
			t.Fatal(err)
		}
		o := runScript(t, link, "import installed, elsewhere, sys\nprint(installed.x, elsewhere.x, sys.prefix)")
		if o.stdout != "1 2 "+venv+"\n" {
			t.Error(o)
		}
	})
}
