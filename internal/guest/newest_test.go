package guest

import (
	"path/filepath"
	"testing"
)

// TestNewest: what only the newest Pythons have.
func TestNewest(t *testing.T) {
	servers := []Server{{Name: "x", Alias: "x", Loaded: true, Tools: []Tool{{Name: "echo", Alias: "echo", Returns: "Any", Params: []Param{{Name: "a", Alias: "a", Type: "Any", Required: true}}}}}}
	scripts := []struct {
		since              int
		code, stdout, want string
	}{
		{15, "lazy from mcp.servers.x import echo\n(await echo(a=1)).a", "", "1"},
		{15, "lazy from mcp.servers import x\n(await x.echo(a=1)).a", "", "1"},
		{15, "lazy import mcp.servers.x as q\n(await q.echo(a=1)).a", "", "1"},
		{15, "lazy import mcp.servers.x\n(await mcp.servers.x.echo(a=1)).a", "", "1"},
		{15, "lazy from mcp.runtime import call_tool_sync\ncall_tool_sync('x', 'echo', {'a': 1}).a", "", "1"},
		{15, "__lazy_modules__ = ['mcp.servers.x']\nfrom mcp.servers.x import echo\n(await echo(a=1)).a", "", "1"},
		{15, "import sys\nsys.set_lazy_imports('all')\nfrom mcp.servers.x import echo\n(await echo(a=1)).a", "", "1"},
		{15, "await mcp_x.echo(a=frozendict(b=[1]))", "", `{"a":{"b":[1]}}`},
		{15, "frozendict(a=[1], b=frozendict())", "", `{"a":[1],"b":{}}`},
		{
			15, "import multiprocessing as m\nlazy from mcp.runtime import call_tool_sync\ndef f(q):\n    try: call_tool_sync('x', 'echo', {})\n" +
				"    except RuntimeError as e: q.put(str(e)[:20])\nif __name__ == '__main__':\n    c = m.get_context('spawn')\n    q = c.Queue()\n" +
				"    p = c.Process(target=f, args=(q,))\n    p.start()\n    print(q.get())\n    p.join()", "MCP tools can be cal\n", "",
		},
		{14, "from concurrent import interpreters\nimport builtins\nbuiltins.left = interpreters.create()\nleft.exec('print(5)')\nprint(4)", "4\n5\n", ""},
		{14, "from concurrent import interpreters\nimport sys\ni = interpreters.create()\nq = interpreters.create_queue()\ni.prepare_main(q=q)\ni.exec('import sys; q.put((sys.path, sys.flags.no_site))')\nq.get() == (sys.path, sys.flags.no_site)", "", "true"},
	}
	eachRunner(t, func(t *testing.T, start starter) {
		for _, s := range scripts {
			if minor(filepath.Base(filepath.Dir(t.Name()))) < s.since {
				continue
			}
			o := start(t, t.TempDir()).run(t, Run{Code: s.code, Servers: servers}, tools)
			if o.done == nil || o.code != 0 || o.stdout != s.stdout || string(o.done.Result) != s.want {
				t.Errorf("%q: %v, want %q and %s", s.code, o, s.stdout, s.want)
			}
		}
	})
}
