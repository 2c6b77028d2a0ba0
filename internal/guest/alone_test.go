package guest

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAlone: a script that awaits nothing but calls needs no event loop; whatever may need one has it.
func TestAlone(t *testing.T) {
	const call = "await runtime.call_tool('s', 'echo', {'a': 1})\n"
	scripts := map[string]bool{ // whether there is a loop
		"": false,
		"import json, os.path as p  # and so on\nfrom collections import (\n    Counter,\n)\n": false,
		"print('an important line')\nif not 'a':\n    from urllib.parse import quote\n":        false,
		"import collections\nassert isinstance([], collections.abc.Sequence)\n":                false,
		"async def f():\n    return " + call + "await f()\n":                                   false,
		"if __name__ == '__main__':\n    " + call:                                              false,
		"lazy import json\nlazy from csv import reader\n":                                      false,
		"lazy import json, queue\n":                                                            true,
		"import json, concurrent.futures\n":                                                    true,
		"import json; import concurrent.futures\n":                                             true,
		"import json, \\\n    queue\n":                                                         true,
		"try: import queue\nexcept ImportError: pass\n":                                        true,
		"from json import loads; import queue\n":                                               true,
		"import \\\n  queue\n":                                                                 true,
		"x = '#'; import queue\n":                                                              true,
		"__import__('queue')\n":                                                                true,
		"exec('import queue')\n":                                                               true,
		"open('helper.py', 'w').write('x = 5')\nimport helper\n":                               true,
		"# asyncio is not for me\n":                                                            true,
		"import types\n@types.coroutine\ndef f(): yield\nawait f()\n":                          true,
		"class G:\n    def __await__(self): yield\nawait G()\n":                                true,
		"async def g():\n    yield 1\nasync for x in g(): pass\n":                              true,
	}
	eachPython(t, func(t *testing.T, python string) {
		compiled := compileRunner(t, python)
		for script, loop := range scripts {
			if strings.HasPrefix(script, "lazy ") && minor(filepath.Base(t.Name())) < 15 {
				continue
			}
			p := launch(t, python, t.TempDir(), compiled)
			p.ready(t)
			code := "from mcp import runtime\nimport sys\n" + script + "assert (" + strings.TrimSpace(call) + ").a == 1\n'asyn' + 'cio' in sys.modules"
			o := p.run(t, Run{Code: code}, tools)
			if o.done == nil || o.code != 0 || string(o.done.Result) != map[bool]string{false: "false", true: "true"}[loop] {
				t.Errorf("%q: %v, want %t", script, o, loop)
			}
		}
	})
}

// TestAloneSignature: what a tool looks like is made up only where somebody can look.
func TestAloneSignature(t *testing.T) {
	servers := []Server{{Name: "s", Alias: "s", Loaded: true, Tools: []Tool{{Name: "echo", Alias: "echo", Returns: "Any", Params: []Param{{Name: "a", Alias: "a", Type: "int", Required: true}}}}}}
	eachRunner(t, func(t *testing.T, start starter) {
		for _, c := range []struct{ code, want string }{
			{"import sys\nr = await mcp_s.echo(a=1)\n[r.a, ('insp' + 'ect' in sys.modules) == ('asyn' + 'cio' in sys.modules)]  # a warm one has both", "[1,true]"},
			{"await mcp_s.echo(a=1)\nstr(mcp_s.echo.__signature__)", `"(a: int) -> Any"`},
			{"import inspect\nawait mcp_s.echo(a=1)\nstr(inspect.signature(mcp_s.echo.sync))", `"(a: int) -> Any"`},
		} {
			o := start(t, t.TempDir()).run(t, Run{Code: c.code, Servers: servers}, tools)
			if o.done == nil || string(o.done.Result) != c.want {
				t.Errorf("%q: %v, want %s", c.code, o, c.want)
			}
		}
	})
}

// TestAloneModules: no part of the modules that a script without a loop may import would bring one.
func TestAloneModules(t *testing.T) {
	const look = `import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
exec(sys.stdin.read())
for name in sorted(ALONE - {"mcp"}):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        continue  # this Python has none
    for m in pkgutil.walk_packages(getattr(module, "__path__", ()), name + ".", lambda name: None):
        if "__main__" not in m.name and ".test" not in m.name:
            try:
                importlib.import_module(m.name)
            except ImportError:
                pass
    if "asyncio" in sys.modules:
        sys.exit(name)
print(len(sys.modules))`
	eachPython(t, func(t *testing.T, python string) {
		cmd := exec.CommandContext(t.Context(), python, "-I", "-S", "-c", look)
		cmd.Stdin = strings.NewReader(aloneSource)
		out, err := cmd.CombinedOutput()
		var count int
		if err != nil || json.Unmarshal(out, &count) != nil || count < 200 {
			t.Errorf("asyncio comes with %s (%v)", out, err)
		}
	})
}
