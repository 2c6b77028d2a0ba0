package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newerPythons are images of Pythons that are newer than the one of testImage, by their version (hack/pythons).
func newerPythons(t testing.TB) map[string]string {
	t.Helper()
	found := make(map[string]string)
	layouts, _ := filepath.Glob(repoPath(".cache/pythons/*/image"))
	for _, dir := range layouts {
		found[filepath.Base(filepath.Dir(dir))] = "oci:" + dir
	}
	if len(found) == 0 && os.Getuid() == 0 {
		skipOrFail(t, "no images in .cache/pythons (hack/setup test)")
	}
	return found
}

// TestPythons: scripts, tools and what a sandbox has loaded ahead in the newest Pythons, whose libraries differ in what the
// runner has to know about them.
func TestPythons(t *testing.T) {
	needSandbox(t)
	const code = `import array, asyncio, csv, dataclasses, decimal, json, math, statistics, sys, typing, urllib.parse
async def one(): return await mcp_echo.echo(text="x")
print(*await asyncio.gather(one(), one()), array.array("i", [1]), statistics.mean([1, 3]))
try: import no_such_module
except ImportError as e: print(e)
{"python": "%d.%d" % sys.version_info[:2], "json": json.loads('{"a": [1.5, null]}')}`
	for version, image := range newerPythons(t) {
		t.Run(version, func(t *testing.T) {
			s := warmServer(t, 1, append(echoServer(t), "MCP_BRIDGE_IMAGE="+image)...)
			for range 2 { // the second time, all of that has been loaded ahead
				r := s.call(map[string]any{"code": code, "servers": []string{"echo"}})
				want := "x x array('i', [1]) 2\nNo module named 'no_such_module'"
				if r.Status != "success" || strings.Join(r.Stdout, "\n") != want || string(r.Result) != `{"json":{"a":[1.5,null]},"python":"`+version+`"}` {
					t.Error(r.text)
				}
				s.waitWarm(1)
			}
			r := s.call(map[string]any{"code": "import no_such_module"})
			if got := strings.Join(r.Stderr, "\n"); r.Status != "error" || !strings.HasSuffix(got, "\nModuleNotFoundError: No module named 'no_such_module'\nit is not in the image, and there is no network to install it from") {
				t.Error(r.text)
			}
		})
	}
}
