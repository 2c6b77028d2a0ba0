package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// realServers are all that hack/setup test installs.
func realServers(t testing.TB) []config.Server {
	const scope = "node_modules/@modelcontextprotocol/"
	dir := t.TempDir()
	memory := node(t, "memory", scope+"server-memory/dist/index.js")
	memory.Env = map[string]string{"MEMORY_FILE_PATH": filepath.Join(dir, "memory.jsonl")}
	return []config.Server{
		node(t, "everything", everything, "stdio"), node(t, "filesystem", scope+"server-filesystem/dist/index.js", dir), memory,
		node(t, "thinking", scope+"server-sequential-thinking/dist/index.js"), node(t, "modern", "modern.mjs"),
		python(t, "time", "mcp_server_time"), python(t, "git", "mcp_server_git"), python(t, "fetch", "mcp_server_fetch"),
	}
}

// TestRealServers: all at once, and then from the catalog, without one of them.
func TestRealServers(t *testing.T) {
	servers := realServers(t)
	dir := t.TempDir()
	p := pool(t, Options{CatalogDir: dir, OnRequest: func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"action":"accept","content":{"word":"xyzzy"}}`), nil
	}, Capabilities: func() json.RawMessage { return json.RawMessage(`{"elicitation":{}}`) }}, servers...)
	least := map[string]int{"everything": 13, "filesystem": 14, "memory": 9, "thinking": 1, "modern": 2, "time": 2, "git": 10, "fetch": 1}
	var work sync.WaitGroup
	for _, s := range servers {
		work.Go(func() {
			tools, err := p.Tools(limited(t), s.Name)
			if err != nil || len(tools) < least[s.Name] {
				t.Errorf("%s: %d tools, %v", s.Name, len(tools), err)
			}
		})
	}
	work.Wait()
	if t.Failed() {
		return
	}
	file := filepath.Join(servers[1].Args[1], "a.txt")
	for _, tt := range []struct{ server, tool, args, want string }{
		{"everything", "echo", `{"message":"hi"}`, "Echo: hi"},
		{"everything", "get-sum", `{"a":2,"b":3}`, "5"},
		{"filesystem", "write_file", fmt.Sprintf(`{"path":%q,"content":"one\ntwo\n"}`, file), "Successfully"},
		{"filesystem", "read_text_file", fmt.Sprintf(`{"path":%q}`, file), "one\ntwo\n"},
		{"memory", "create_entities", `{"entities":[{"name":"a","entityType":"file","observations":["two lines"]}]}`, "two lines"},
		{"memory", "search_nodes", `{"query":"lines"}`, "two lines"},
		{"thinking", "sequentialthinking", `{"thought":"x","nextThoughtNeeded":false,"thoughtNumber":1,"totalThoughts":1}`, "thoughtNumber"},
		{"modern", "era", `{}`, "modern"},
		{"modern", "ask", `{}`, "the word is xyzzy"},
		{"time", "convert_time", `{"source_timezone":"Europe/Berlin","time":"12:00","target_timezone":"Asia/Tokyo"}`, "Asia/Tokyo"},
	} {
		if got := text(t, p, tt.server, tt.tool, tt.args); !strings.Contains(got, tt.want) {
			t.Errorf("%s.%s: %q; want %q", tt.server, tt.tool, got, tt.want)
		}
	}
	c := p.byName["modern"]
	c.mu.Lock()
	modern := c.session.conn.Hello()
	c.mu.Unlock()
	if !modern.Modern || modern.Version != "2026-07-28" {
		t.Errorf("the modern server: %+v", modern)
	}
	if result, err := call(limited(t), p, "modern", "era", "{}"); err != nil || result != `{"content":[{"type":"text","text":"modern"}]}` {
		t.Errorf("%s, %v; want no marks of the protocol", result, err)
	}

	again := pool(t, Options{CatalogDir: dir}, servers...)
	for _, info := range again.List() {
		if info.Tools < least[info.Name] {
			t.Errorf("the catalog: %+v", info)
		}
		if tools, err := again.Tools(limited(t), info.Name); err != nil || len(tools) != info.Tools {
			t.Errorf("%s: %d tools, %v", info.Name, len(tools), err)
		}
	}
	if m := again.Search("convert a time to another timezone", 3); len(m) == 0 || m[0].Tool.Name != "convert_time" {
		t.Errorf("%+v", m)
	}
	if !again.byName["modern"].modern() {
		t.Error("the era of a server is forgotten")
	}
	for _, c := range again.clients {
		if c.session != nil || c.starting != nil {
			t.Errorf("%s was started", c.server.Name)
		}
	}
	if got := text(t, again, "modern", "era", "{}"); got != "modern" {
		t.Errorf("%q", got)
	}
}

// port is one that is free, more or less.
func port(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// remote runs server-everything as one of the network.
func remote(t testing.TB, mode string) (address string) {
	t.Helper()
	s := node(t, mode, everything, mode)
	p := port(t)
	cmd := exec.Command(s.Command, s.Args...)
	cmd.Env = append(os.Environ(), "PORT="+p)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	wait(t, mode+" listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+p)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return "http://127.0.0.1:" + p
}

// TestEverything: each transport carries all kinds of results, progress, errors and cancellation.
func TestEverything(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func() config.Server
	}{
		{"stdio", func() config.Server { return node(t, "everything", everything, "stdio") }},
		{"http", func() config.Server {
			return config.Server{Name: "everything", Transport: config.HTTP, URL: remote(t, "streamableHttp") + "/mcp"}
		}},
		{"sse", func() config.Server {
			return config.Server{Name: "everything", Transport: config.SSE, URL: remote(t, "sse") + "/sse"}
		}},
		{"remote http", func() config.Server {
			return config.Server{Name: "everything", Transport: config.Remote, URL: remote(t, "streamableHttp") + "/mcp"}
		}},
		{"remote sse", func() config.Server {
			return config.Server{Name: "everything", Transport: config.Remote, URL: remote(t, "sse") + "/sse"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { checkEverything(t, pool(t, Options{}, tt.make())) })
	}
}

func checkEverything(t *testing.T, p *Pool) {
	const s = "everything"
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() {
			if got := text(t, p, s, "echo", fmt.Sprintf(`{"message":"%d"}`, i)); got != fmt.Sprintf("Echo: %d", i) {
				t.Errorf("%q", got)
			}
		})
	}
	work.Wait()
	result, err := call(limited(t), p, s, "get-tiny-image", "{}")
	var image struct {
		Content []struct{ Type, Data, MimeType string }
	}
	if err != nil || json.Unmarshal([]byte(result), &image) != nil {
		t.Fatalf("%v: %.200s", err, result)
	}
	i := slices.IndexFunc(image.Content, func(c struct{ Type, Data, MimeType string }) bool { return c.Type == "image" })
	if i < 0 {
		t.Fatalf("no image: %.200s", result)
	}
	if b, err := base64.StdEncoding.DecodeString(image.Content[i].Data); err != nil || !strings.HasPrefix(string(b), "\x89PNG") {
		t.Errorf("%v, %.10q", err, b)
	}
	for tool, want := range map[string]string{
		"get-resource-links": "resource_link", "get-structured-content": "structuredContent", "get-annotated-message": "content",
	} {
		args := map[string]string{"get-structured-content": `{"location":"Chicago"}`, "get-annotated-message": `{"messageType":"error"}`}[tool]
		if args == "" {
			args = "{}"
		}
		if result, err := call(limited(t), p, s, tool, args); err != nil || !strings.Contains(result, want) {
			t.Errorf("%s: %v: %.200s", tool, err, result)
		}
	}
	var mu sync.Mutex
	progress := 0
	result2, err := p.Request(limited(t), s, "tools/call", json.RawMessage(`{"name":"trigger-long-running-operation","arguments":{"duration":0.4,"steps":4}}`), func(json.RawMessage) {
		mu.Lock()
		defer mu.Unlock()
		progress++
	})
	if mu.Lock(); err != nil || progress != 4 {
		t.Errorf("%d of progress, %v, %.200s", progress, err, result2)
	}
	mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := call(ctx, p, s, "trigger-long-running-operation", `{"duration":20,"steps":2}`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for method, params := range map[string]string{"resources/list": "", "resources/templates/list": "", "prompts/list": "{}", "prompts/get": `{"name":"simple-prompt"}`} {
		if result, err := p.Request(limited(t), s, method, json.RawMessage(params), nil); err != nil || len(result) < 50 {
			t.Errorf("%s: %v: %.100s", method, err, result)
		}
	}
	_, err = p.Request(limited(t), s, "prompts/get", json.RawMessage(`{"name":"no such"}`), nil)
	if e := wantError(t, err, `MCP server "everything" answered prompts/get with an error`); e.Code == 0 {
		t.Errorf("%+v", e)
	}
	_, err = call(limited(t), p, s, "get_tiny_image", "{}")
	wantError(t, err, `has no tool "get_tiny_image"; did you mean "get-tiny-image"`)
	_, err = call(limited(t), p, "every-thing", "echo", "{}")
	wantError(t, err, `there is no MCP server "every-thing"; did you mean "everything"?`)
}
