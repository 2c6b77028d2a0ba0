package guest

import (
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestAhead(t *testing.T) {
	for code, want := range map[string]string{
		"":         "",
		"print(1)": "",
		"import json, re as r, os.path # and so on\nfrom datetime import datetime":   "json re os.path datetime",
		"import json\nimport json\r\nif 1:\n\timport csv;":                           "json csv",
		"import this\nfrom . import json\nimport\nfrom\nfrom json\nimport json.tool": "",
		"lazy import json\nlazy from csv import reader":                              "json csv",
		"print(await mcp_x.y())":                           "mcp",
		"import json\nawait mcp_x.y()":                     "mcp json",
		"import httpx\nawait mcp_x.y()":                    "mcp asyncio",
		"from mcp.servers.x import *\nawait y()":           "mcp",
		"import asyncio\nawait asyncio.sleep(0)":           "asyncio",
		"from user_tools import f\nf()":                    "mcp",
		"import user_tools\nawait user_tools.f()":          "asyncio mcp",
		"x = 'asyncio'\nimport asyncio, queue":             "asyncio queue",
		strings.Repeat("#", lookAhead) + "\nimport json":   "",
		"import json" + strings.Repeat("\nimport \xff", 9): "json",
	} {
		if got := strings.Join(Ahead(code), " "); got != want {
			t.Errorf("%.60q: %q, want %q", code, got, want)
		}
	}
	// What needs no loop to be there is not held to need one.
	_, alone, _ := strings.Cut(aloneSource, "ALONE = frozenset(")
	alone, _, _ = strings.Cut(alone, ".split()")
	if len(alone) < 500 {
		t.Fatal("no ALONE")
	}
	for _, words := range regexp.MustCompile(`"(.*)"`).FindAllStringSubmatch(alone, -1) {
		for _, name := range strings.Fields(words[1]) {
			if got := Ahead("import " + name + "\nawait f()"); slices.Contains(got, "asyncio") {
				t.Errorf("%s is in ALONE, but %v", name, got)
			}
		}
	}
}

// TestPreload: whatever a module does when it is imported ahead, the script has what could be imported, and its streams.
func TestPreload(t *testing.T) {
	modules := map[string]string{
		"loud":   "import os, sys\nprint('x')\nprint('y', file=sys.stderr)\nos.system('echo z')\nvalue = 5\n",
		"exits":  "raise SystemExit(3)\n",
		"fails":  "1 / 0\n",
		"broken": "def\n",
		"pack":   "import missing_one\n",
	}
	eachPython(t, func(t *testing.T, python string) {
		dir := t.TempDir()
		for name, text := range modules {
			writeModule(t, dir, name, text)
		}
		p := launch(t, python, dir, compileRunner(t, python))
		p.ready(t)
		p.reader.Warming()
		if err := p.writer.Warm(Warming{Modules: []string{"no_such", "json"}, Preload: []string{"exits", "loud", "fails", "broken", "pack", "no.such", "xml.dom"}}); err != nil {
			t.Fatal(err)
		}
		m, err := p.reader.Read()
		if want := (Warm{Failed: []string{"exits", "fails", "broken", "pack", "no.such"}}); err != nil || !reflect.DeepEqual(m, want) {
			t.Errorf("got %v, %v, want %v", m, err, want)
		}
		const code = "import os, sys\nprint([m in sys.modules for m in ('loud', 'fails', 'json', 'xml.dom')])\nos.system('echo out; echo err >&2')\nimport loud\nprint([f for f in os.listdir('/proc/self/fd') if len(f) == 1])\nloud.value"
		o := p.run(t, Run{Code: code}, nil)
		want := "[True, False, False, True]\nout\n['0', '1', '2', '3']\n"
		if o.stdout != want || o.stderr != "err\n" || o.done == nil || string(o.done.Result) != "5" {
			t.Errorf("%v, want %q", o, want)
		}
	})
}

// TestPreloadAndScript: a module of the user's choice that changes how modules are found, or leaves threads, costs a script
// nothing of what it would have without it.
func TestPreloadAndScript(t *testing.T) {
	modules := map[string]string{
		"threads":         "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
		"hooks":           "import sys\nwanted = {}\nclass F:\n    def find_spec(self, name, path=None, target=None):\n        if name in wanted: wanted.pop(name)()\nsys.meta_path.insert(0, F())\n",
		"vendor":          "import os, sys\nsys.path.insert(0, os.path.dirname(__file__) + '/vendored')\n",
		"mcp":             "REAL = 1\n",
		"uses_mcp":        "import mcp, sys\nsys.modules['mcp.servers'] = mcp\n",
		"user_tools":      "REAL = 1\n",
		"uses_user_tools": "import user_tools\n",
		"inserts":         "import sys\nwanted = {}\nclass F:\n    def find_spec(self, name, path=None, target=None):\n        if name in wanted: wanted.pop(name)()\nsys.meta_path.insert(2, F())\n",
		"replaces":        "import sys\nclass F:\n    find_spec = sys.meta_path[2].find_spec\nsys.meta_path[2] = F()\n",
		"three":           "import sys\nclass F:\n    def find_spec(self, name, path, target):\n        assert path or '.' not in name\nsys.meta_path.insert(0, F())\n",
		"raises":          "import sys\nclass F:\n    def find_spec(self, name, path, target): raise ImportError('asked for ' + name)\nsys.meta_path.append(F())\n",
		"raises_first":    "import sys\nclass F:\n    def find_spec(self, name, path, target):\n        if name == '_csv': raise ImportError('no')\nsys.meta_path.insert(0, F())\n",
	}
	const given = "kept = [f for f in sys.meta_path if type(f).__name__ == 'Watch'][0].find_spec.__globals__['kept']\n"
	for i, c := range []struct{ preload, code, want string }{
		{"threads", "import asyncio\nawait asyncio.sleep(0, 5)", "5"},
		{"threads", "import asyncio\nasync def f(): return 5\nasyncio.run(f())", "5"},
		{"hooks", "import hooks\nseen = []\nhooks.wanted['csv'] = lambda: seen.append(1)\nimport csv\nseen", "[1]"},
		{"hooks", "import hooks\nseen = []\nhooks.wanted['_csv'] = lambda: seen.append(1)\nimport csv\nseen", "[1]"},
		{"three", given + "import csv, xml.etree\nkept['csv'] is csv", "true"},
		{"inserts", "import inserts\nseen = []\ninserts.wanted['csv'] = lambda: seen.append(1)\nimport csv\nseen", "[1]"},
		{"replaces", given + "import csv\nkept['csv'] is csv", "false"},
		{"raises", given + "import csv\nkept['csv'] is csv", "true"},
		{"raises_first", "try: import csv\nexcept ImportError as e: got = str(e)\ngot", `"no"`},
		{"vendor", "open('csv.py', 'w').write('x = 7')\nimport csv\ncsv.x", "7"},
		{"uses_mcp", "import mcp\n[mcp.runtime.__name__, mcp.servers.__name__, hasattr(mcp, 'REAL')]", `["mcp.runtime","mcp.servers",false]`},
		{"uses_user_tools", "import user_tools\n'REAL' in vars(user_tools)", "false"},
		{"multiprocessing.popen_spawn_posix", "import multiprocessing as m\ngot = 0\ndef f(x): return x + 1\nif __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p: got = p.map(f, [1])\ngot", "[2]"},
		{"multiprocessing.popen_spawn_posix", "import os\nos.listdir()", `["script.py"]`},
		{"multiprocessing.popen_spawn_posix", "1 +", ""},
		{"xml.dom", given + "import xml.etree.ElementTree as e, xml\nkept['xml.etree.ElementTree'] is e and xml.etree.ElementTree is e", "true"},
		{"xml.dom", "import xml\nhasattr(xml, 'etree')", "false"},
		{"json", "'_json' in sys.modules", "true"},
		{"threading", "sys.modules.pop('threading')\nimport logging, threading\nlogging.threading is threading", "true"},
	} {
		t.Run(c.preload, func(t *testing.T) {
			eachPython(t, func(t *testing.T, python string) {
				if passesOver(python, i) {
					return
				}
				dir := t.TempDir()
				for name, text := range modules {
					if name == c.preload || "uses_"+name == c.preload {
						writeModule(t, dir, name, text)
					}
				}
				p := launch(t, python, dir, compileRunner(t, python))
				p.ready(t)
				p.warmWith(t, Warming{Modules: append([]string{Library}, ahead()...), Preload: []string{c.preload}})
				if o := p.run(t, Run{Code: "import sys\n" + c.code}, tools); o.done == nil || string(o.done.Result) != c.want || strings.Contains(o.stderr, "<runner>") {
					t.Errorf("%q: %v, want %s", c.code, o, c.want)
				}
			})
		})
	}
}

// TestAheadModules: to import what is imported ahead does nothing else that a script could see.
func TestAheadModules(t *testing.T) {
	const look = `import builtins, gc, importlib, locale, os, signal, sys, threading, warnings
def state():
    return dict(
        descriptors=os.listdir("/proc/self/fd"), threads=os.listdir("/proc/self/task"), children=open("/proc/self/task/%d/children" % os.getpid()).read(),
        environment=dict(os.environ), directory=os.getcwd(), files=os.listdir(), temporary=os.listdir(os.environ["TMPDIR"]),
        signals=[signal.getsignal(n) for n in range(1, 65)], mask=signal.pthread_sigmask(0, ()), locale=locale.setlocale(locale.LC_ALL),
        path=sys.path[:], finders=sys.meta_path[:], hooks=[sys.excepthook, sys.displayhook, sys.breakpointhook, sys.unraisablehook, threading.excepthook],
        trace=[sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(), sys.getswitchinterval()], warnings=warnings.filters[:],
        builtins=set(vars(builtins)), gc=[gc.isenabled(), gc.get_threshold(), gc.callbacks[:]], streams=[sys.stdin, sys.stdout, sys.stderr],
        umask=open("/proc/self/status").read().split("Umask:")[1].split()[0])
state()
before = state()
for name in sys.argv[1:]:
    try:
        __import__(name)
    except ImportError:
        pass
    after = state()
    for k in before:
        if after[k] != before[k]:
            print(name, k, before[k], after[k])
    before = after`
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("no /proc")
	}
	eachPython(t, func(t *testing.T, python string) {
		cmd := exec.CommandContext(t.Context(), python, append([]string{"-I", "-S", "-B", "-X", "utf8", "-c", look}, ahead()...)...)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"TMPDIR=" + cmd.Dir}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestKept: what a script finds in a sandbox that has imported everything ahead is what it would find in one that has not.
func TestKept(t *testing.T) {
	const shown = "\nprint(*sorted(m for m in sys.modules if sys.modules[m] and m not in before))"
	scripts := []string{
		"pass",
		"import json\nprint(json.loads('[1]'), sys.modules['json.decoder'].JSONDecoder.__module__)",
		"import os.path, os\nprint(os.path is sys.modules['posixpath'])",
		"import asyncio\nasync def f(): return 1\nprint(await asyncio.gather(f(), f()))",
		"import urllib\nprint(hasattr(urllib, 'parse'))\nimport urllib.parse\nprint(urllib.parse.quote('a b'))",
		"import concurrent, xml, importlib\nprint([hasattr(*x) for x in ((concurrent, 'futures'), (xml, 'etree'), (importlib, 'util'))])",
		"from xml.etree import ElementTree as e\nprint(e.fromstring('<a/>').tag, e.__spec__.name, type(e.__spec__.loader).__name__, type(e.__loader__).__name__)",
		"open('statistics.py', 'w').write('def mean(x): return 5')\nimport statistics\nprint(statistics.mean([1]))",
		"import os\nos.mkdir('queue')\nopen('queue/__init__.py', 'w').write('x = 6')\nimport queue\nprint(queue.x)",
		"open('token.py', 'w').write('class Token: pass')\nfrom token import Token\nprint(Token)",
		"import importlib.util\ns = importlib.util.find_spec('csv')\nprint(s.name, s.origin, 'csv' in sys.modules)\nimport csv\nprint(csv.__spec__.origin, importlib.reload(csv) is csv)",
		"import decimal, collections.abc, fractions, numbers\nprint(decimal.Decimal(1), collections.abc.Mapping, numbers.Number)",
		"import collections.abc, pickle\nprint(pickle.loads(pickle.dumps(collections.abc.Sequence)), 'collections.abc' in sys.modules)",
		"import array, collections\nprint(hasattr(collections, 'abc'))",
		"import array\nprint(array.array('i', [1]), '_collections_abc' in sys.modules)",
		"import math\nprint(math.sqrt(4), [m for m in sys.modules if 'integer' in m])",
		"if sys.version_info >= (3, 15):\n    exec('lazy import csv, json.decoder\\nlazy from urllib.parse import quote\\nlazy import missing')\n    print('csv' in sys.modules, csv.reader, json.decoder.JSONDecoder, quote('a b'), 'urllib.parse' in sys.modules)\n    try: missing.x\n    except ImportError as e: print(e)",
		"open('signal.py', 'w').write('def buy(): return 5\\n' + open(__import__('os').__file__.replace('os.py', 'signal.py')).read())\nimport subprocess, signal\nprint(signal.buy())",
		"import os\nos.mkdir('html')\nopen('html/__init__.py', 'w').close()\nopen('html/parser.py', 'w').write('class Mine: pass')\nfrom html.parser import Mine\nprint(Mine)",
		"sys.modules['_json'] = None\nimport json\nprint(json.encoder.c_make_encoder)\ndel sys.modules['_json']",
		"import importlib.util\ns = importlib.util.find_spec('csv')\nm = importlib.util.module_from_spec(s)\ns.loader.exec_module(m)\nprint('csv' in sys.modules, type(s.loader).__name__)\nimport csv\nprint(csv is m)",
		"import atexit, sys\natexit.register(lambda: print('first'))\nimport logging\nclass H(logging.Handler):\n    def close(self): print('closed')\nh = H()",
		"import linecache\nprint(linecache.getline(__file__, 3))\ndel sys.modules['linecache']\nimport linecache\nprint(linecache.getline(__file__, 4))",
		"import _thread\nnames = 'json csv logging decimal tempfile typing random shutil datetime string threading heapq'.split()\nids, done = set(), []\ndef f(k):\n    for n in names[k:] + names[:k]: __import__(n); ids.add((n, id(sys.modules[n])))\n    done.append(k)\nfor k in range(12): _thread.start_new_thread(f, (k,))\nimport time\nwhile len(done) < 12: time.sleep(0.01)\nprint(len(ids), sys.modules['logging'].threading is sys.modules['threading'])\nbefore = set(sys.modules)",
		"import decimal\ndel sys.modules['decimal']\nimport decimal as d\nprint(d is decimal)",
		"import numbers\ndel sys.modules['numbers']\nimport fractions, numbers\nprint(isinstance(fractions.Fraction(1), numbers.Rational))\nbefore = set(sys.modules)  # before 3.13, _decimal is made once and imports nothing again",
		"import random\nclass Random:\n    def __init__(self, *a): pass\n    def choice(self, s): return 'z'\n    def choices(self, s, k): return 'z' * k\nsys.modules['random'] = type(sys)('random')\nsys.modules['random'].Random = Random\nimport tempfile\nprint(next(tempfile._get_candidate_names()))",
		"import re\nsys.modules['re'] = type(sys)('re')\ntry: import textwrap\nexcept AttributeError as e: print(e)",
		"import builtins\nreal = builtins.__import__\ndef refuse(name, *a):\n    if name == '_csv': raise ImportError('no ' + name)\n    return real(name, *a)\nbuiltins.__import__ = refuse\ntry: import csv\nexcept ImportError as e: print(e)",
		"import _decimal, _pickle\nprint(_decimal.Decimal(1))",
		"if hasattr(sys, 'set_lazy_imports'): sys.set_lazy_imports('all')\nimport tempfile\nprint(tempfile.mkdtemp.__name__)",
		"print(sorted(getattr(sys, 'lazy_modules', ())))",
		"import logging\nlogging.basicConfig(stream=sys.stdout, format='%(message)s')\nlogging.warning('x')\nprint(logging.LogRecord('', 1, '', 1, '', (), None).relativeCreated < 1000)",
		"import threading, atexit\natexit.register(lambda: print(threading.main_thread().is_alive()))",
		"import ssl\nfrom concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as p: print(list(p.map(lambda i: ssl.create_default_context() is not None, range(4))))",
		"import os\nos.environ['PYTHONTZPATH'] = '/nowhere'\nimport zoneinfo\nprint(zoneinfo.TZPATH)\nbefore = set(sys.modules)",
		"import pickle, collections, fractions\nprint(pickle.loads(pickle.dumps([collections.Counter('a'), fractions.Fraction(1, 2)])))",
		"import threading, builtins\ndef f(): import sqlite3, statistics, dataclasses, argparse; got.append(statistics.mean)\ngot = []\nts = [threading.Thread(target=f) for i in range(8)]\nfor t in ts: t.start()\nfor t in ts: t.join()\nprint(len(got), len(set(got)), builtins.__import__)",
		"import os\nos.mkdir('lib')\nopen('lib/csv.py', 'w').write('x = 7')\nsys.path.insert(0, 'lib')\nimport csv\nprint(csv.x)",
		"import os\nos.mkdir('lib')\nopen('lib/csv.py', 'w').write('x = 7')\nos.chdir('lib')\nimport csv\nprint(hasattr(csv, 'reader'))",
		"class No:\n    def find_spec(self, name, path=None, target=None):\n        if name == 'json': raise ImportError('no')\nsys.meta_path.insert(0, No())\ntry: import json\nexcept ImportError as e: print(e)",
		"print(len(sys.meta_path), [m for m in sys.modules if hasattr(sys.modules[m], 'nothing')])",
	}
	eachPython(t, func(t *testing.T, python string) {
		compiled := compileRunner(t, python)
		for i, script := range scripts {
			if passesOver(python, i) {
				continue
			}
			var outcomes []outcome
			for _, warm := range []bool{false, true} {
				p := launch(t, python, t.TempDir(), compiled)
				p.ready(t)
				if warm {
					p.warmWith(t, Warming{Modules: append([]string{Library}, ahead()...)})
				}
				outcomes = append(outcomes, p.run(t, Run{Code: "import sys\nbefore = set()\n" + script + shown}, nil))
			}
			cold, warm := outcomes[0], outcomes[1]
			if strings.Contains(cold.stdout, " site ") {
				// A module that it does not have has made it read .pth files, which no warming does.
				cold.stdout, warm.stdout = withoutLast(cold.stdout), withoutLast(warm.stdout)
			}
			if cold.code != 0 || cold.stdout != warm.stdout || cold.stderr != warm.stderr || cold.code != warm.code {
				t.Errorf("%s\ncold %v\nwarm %v", script, cold, warm)
			}
		}
	})
}

func withoutLast(lines string) string {
	return lines[:strings.LastIndexByte(strings.TrimSpace(lines), '\n')+1]
}

// TestUntested: a Python newer than those that the tests have run with imports nothing ahead.
func TestUntested(t *testing.T) {
	const look = `import sys
source, *more = sys.stdin.read().split("\f\n")
for version, want in ((sys.version_info, True), ((3, 16, 0, "alpha", 1), False)):
    sys.modules.pop("csv", None)
    sys.version_info = version
    runner = {"__name__": "<runner>", "__builtins__": dict(vars(__builtins__)), "loaded": (None, more)}
    exec(compile(source.rstrip()[: -len("serve()")], "<runner>", "exec"), runner)
    runner["load"](*range(len(more)))
    runner["import_ahead"](["csv"])
    assert ("csv" in sys.modules) == want, version`
	eachPython(t, func(t *testing.T, python string) {
		cmd := exec.CommandContext(t.Context(), python, "-I", "-S", "-X", "utf8", "-c", look)
		cmd.Stdin = strings.NewReader(source())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestGiven: what was imported ahead is what an import gets, unless something says that it should not be.
func TestGiven(t *testing.T) {
	const kept = "kept = [f for f in sys.meta_path if type(f).__name__ == 'Watch'][0].find_spec.__globals__['kept']\n"
	eachPython(t, func(t *testing.T, python string) {
		compiled := compileRunner(t, python)
		for code, want := range map[string]string{
			"import csv, urllib.parse, asyncio\n[kept[m.__name__] is m for m in (csv, urllib.parse, asyncio, asyncio.events)]": "[true,true,true,true]",
			"async def f(): return 1\nimport asyncio\nawait asyncio.gather(f())\nkept['asyncio'] is asyncio":                   "true",
			"sys.path.append('/nowhere')\nimport csv\nkept['csv'] is csv":                                                      "false",
			"open('csv.txt', 'w').close()\nimport csv\nkept['csv'] is csv":                                                     "false",
		} {
			p := launch(t, python, t.TempDir(), compiled)
			p.ready(t)
			p.warmWith(t, Warming{Modules: append([]string{Library}, ahead()...)})
			if o := p.run(t, Run{Code: "import sys\n" + kept + code}, nil); o.done == nil || string(o.done.Result) != want {
				t.Errorf("%q: %v, want %s", code, o, want)
			}
		}
	})
}
