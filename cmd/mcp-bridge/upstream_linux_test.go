package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// realServers are configured as people have them: in the files of two programs.
func realServers(t *testing.T) (home, files string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		skipOrFail(t, "needs node: "+err.Error())
	}
	at := func(name string) string {
		p := repoPath(".cache/servers/node_modules/@modelcontextprotocol/" + name + "/dist/index.js")
		if _, err := os.Stat(p); err != nil {
			skipOrFail(t, "needs the servers of hack/setup test: "+err.Error())
		}
		return p
	}
	home = t.TempDir()
	files = filepath.Join(home, "files")
	entry := func(env map[string]string, args ...string) map[string]any {
		return map[string]any{"command": node, "args": args, "env": env}
	}
	for file, servers := range map[string]map[string]any{
		".cursor/mcp.json": {
			"file-system": entry(nil, at("server-filesystem"), files),
			"memory":      entry(map[string]string{"MEMORY_FILE_PATH": filepath.Join(home, "memory.json")}, at("server-memory")),
		},
		".config/mcp/servers/everything.json": {
			"everything": entry(nil, at("server-everything")),
			"broken":     entry(nil, filepath.Join(home, "no-such-server.js")),
		},
	} {
		b, err := json.Marshal(map[string]any{"mcpServers": servers})
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(home, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		text := fmt.Sprintf("note %d\n", i)
		if i%5 == 0 {
			text += "TODO: call them back\n"
		}
		if err := os.WriteFile(filepath.Join(files, fmt.Sprintf("%02d.txt", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home, files
}

// TestRealServersTogether is what the bridge is for, through an MCP client: a script reads files by one server, keeps
// what it found by another, and returns the image of a third; and nothing of the servers is left when the bridge ends.
func TestRealServersTogether(t *testing.T) {
	needSandbox(t)
	home, files := realServers(t)
	s := startServer(t, "HOME="+home, "MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT=5m") // the servers are to stay
	script := `
import asyncio
from mcp import runtime

listing = await mcp_file_system.list_directory(path=FILES)
names = [line.split()[-1] for line in listing.splitlines()]
texts = await asyncio.gather(*(mcp_servers["file-system"].read_text_file(path=FILES + "/" + n) for n in names))
found = [n for n, text in zip(names, texts) if "TODO" in text]
await mcp_memory.create_entities(entities=[{"name": n, "entityType": "file", "observations": ["TODO"]} for n in found])
graph = await mcp_memory.read_graph()
try:
    await mcp_broken.anything()
except runtime.MCPError as e:
    print("broken:", type(e).__name__)
image = await mcp_everything.get_tiny_image()
runtime.display(image.media[0])
[len(names), sorted(e.name for e in graph.entities), list(runtime.discovered_servers())]
`
	r, err := s.session.CallTool(t.Context(), &mcp.CallToolParams{Name: "run_python", Arguments: map[string]any{
		"code": fmt.Sprintf("FILES = %q\n", files) + script, "timeout": 60,
	}})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.stderr)
	}
	b, err := json.Marshal(r.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Status, Error string
		Stdout        []string
		Result        json.RawMessage
	}
	decode(t, b, &out)
	want := `[20,["00.txt","05.txt","10.txt","15.txt"],["everything","broken","file-system","memory"]]`
	var servers []any
	decode(t, out.Result, &servers)
	if len(servers) == 3 { // their order is that of the files, and of no interest here
		if list, ok := servers[2].([]any); !ok || len(list) != 4 {
			t.Errorf("discovered: %v", servers[2])
		}
		servers[2] = []string{"everything", "broken", "file-system", "memory"}
	}
	if got, _ := json.Marshal(servers); out.Status != "success" || string(got) != want || strings.Join(out.Stdout, "") != "broken: MCPError" {
		t.Errorf("%s\nwant the result %s", b, want)
	}
	images := 0
	for _, c := range r.Content {
		if i, ok := c.(*mcp.ImageContent); ok && i.MIMEType == "image/png" && len(i.Data) > 1000 {
			images++
		}
	}
	if images != 1 {
		t.Errorf("%d images in the result, want the one that was displayed", images)
	}
	// The servers have stayed, and what they keep with them.
	if again := s.call(map[string]any{"code": "len((await mcp_memory.read_graph()).entities)", "servers": []string{"memory"}}); again.Status != "success" {
		t.Errorf("the next run: %+v", again)
	}
	if n := len(processesOf(t, home)); n < 3 {
		t.Errorf("%d servers are running, want three", n)
	}
	s.close()
	if left := processesOf(t, home); len(left) > 0 {
		t.Errorf("servers are left: %q", left)
	}
}

// processesOf are the command lines, and for servers without any argument of ours the environments, that name a directory.
func processesOf(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		cmdline, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		if strings.HasPrefix(filepath.Base(string(cmdline)), "node") && strings.Contains(string(cmdline)+string(env), dir) ||
			strings.Contains(string(cmdline), "server-") && strings.Contains(string(env), "HOME="+dir) {
			found = append(found, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}
