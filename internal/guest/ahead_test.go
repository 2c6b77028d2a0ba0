package guest

import (
	"os"
	"os/exec"
	"path/filepath"
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
		"print(await mcp_x.y())":                           "mcp",
		"import json\nawait mcp_x.y()":                     "mcp json",
		"import httpx\nawait mcp_x.y()":                    "mcp asyncio",
		"from mcp.servers.x import *\nawait y()":           "mcp",
		"import asyncio\nawait asyncio.sleep(0)":           "asyncio",
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
			if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
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
		want := "[True, False, True, True]\nout\n['0', '1', '2', '3']\n"
		if o.stdout != want || o.stderr != "err\n" || o.done == nil || string(o.done.Result) != "5" {
			t.Errorf("%v, want %q", o, want)
		}
	})
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
		cmd := exec.CommandContext(t.Context(), python, append([]string{"-I", "-S", "-B", "-X", "utf8", "-c", look}, ahead...)...)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"TMPDIR=" + cmd.Dir}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
