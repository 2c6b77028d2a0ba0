package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

const dot = `{"type":"image","data":"aGVsbG8=","mimeType":"image/png"}` // not that anybody looks

func pictures() *fakeServers {
	f := newFake().add("art", upstream.Tool{Name: "draw"}, upstream.Tool{Name: "say"}, upstream.Tool{Name: "link"})
	f.call = func(_ context.Context, _, tool string, _ json.RawMessage) (json.RawMessage, error) {
		switch tool {
		case "draw":
			return json.RawMessage(`{"content":[` + dot + `]}`), nil
		case "link":
			return json.RawMessage(`{"content":[{"type":"resource_link","uri":"file:///x","name":"x"},{"type":"resource","resource":{"uri":"file:///y","text":"y"}},{"type":"audio","data":"aGk=","mimeType":"audio/wav"}]}`), nil
		}
		return json.RawMessage(`{"content":[{"type":"text","text":"a picture"},` + dot + `]}`), nil
	}
	return f
}

// TestShow: what a script shows or returns comes as content of the tool's result.
func TestShow(t *testing.T) {
	client, _ := connect(t, t.Context(), newBridge(t, func(o *Options) { o.Servers = pictures() }))
	for _, tt := range []struct{ name, code, want, result string }{
		{"last expression", "await mcp_art.draw()", "image/png hello", `"<image image/png, 5 bytes>, see content"`},
		{"with text", "await mcp_art.say()", "image/png hello", `"a picture"`},
		{"in a list", "x = await mcp_art.draw()\n[1, {'a': x}]", "image/png hello", `[1,{"a":"<image image/png, 5 bytes>, see content"}]`},
		{"displayed", "from mcp import runtime\nruntime.display(await mcp_art.draw(), await mcp_art.draw())\n5", "image/png hello, image/png hello", "5"},
		{"text is printed", "from mcp import runtime\nruntime.display('x')", "", ""},
		{"all kinds", "await mcp_art.link()", "link file:///x, resource file:///y y, audio/wav hi", `["<resource file:///x>, see content","<resource text/plain, 1 bytes>, see content","<audio audio/wav, 2 bytes>, see content"]`},
		{"made here", "from mcp import runtime\nruntime.Media(b'GIF89a')", "image/gif GIF89a", `"<image image/gif, 6 bytes>, see content"`},
		{"the protocol's shape", "r = await mcp_art.draw()\n[r['content'][0]['mimeType'], r['isError'], r.get('content') is not None, r.structuredContent, r.isError, r.get('x', 5)]", "", `["image/png",false,true,null,false,5]`},
		{"a list displayed", "from mcp import runtime\nx = await mcp_art.draw()\nruntime.display([x, x])\nruntime.display(x.media or [x])", "image/png hello, image/png hello, image/png hello", ""},
		{"RIFF", "from mcp import runtime\n[runtime.Media(b'RIFF....' + k).mime for k in (b'WAVEfmt ', b'WEBPVP8 ', b'AVI LIST')]", "", `["audio/wav","image/webp","application/octet-stream"]`},
		{"no bytes", "from mcp import runtime\nr = []\nfor x in ('/path', 5):\n    try: runtime.Media(x)\n    except TypeError as e: r.append(str(e))\nr", "", `["Media takes the bytes of an image, sound or file, not str","Media takes the bytes of an image, sound or file, not int"]`},
		{"base64url", "from mcp import runtime\n[runtime.Media({'type': 'image', 'data': d, 'mimeType': 'a/b'}).data.hex() for d in ('-_-_', '+/+/', 'aGk')]", "", `["fbffbf","fbffbf","6869"]`},
		{"not shown", "x = await mcp_art.draw()\nprint(x.mime)", "", ""},
		{"too many", "from mcp import runtime\nfor _ in range(25):\n    try: runtime.display(await mcp_art.draw())\n    except runtime.MCPError as e: r = str(e)\nr", strings.Repeat("image/png hello, ", 19) + "image/png hello", `"a run shows at most 20 images and other blocks"`},
		{"too large", "from mcp import runtime\nruntime.Media(b'x' * (9 << 20), 'image/png')", "", `"<image image/png, 9437184 bytes>, not shown: what a run shows may have 8 MiB in all"`},
		{"nonsense", "from mcp import runtime\nr = []\nfor b in ({}, {'type': 'image'}, {'type': 'image', 'data': '%', 'mimeType': 'a/b'}, {'type': 'image', 'data': 'aa==', 'mimeType': 'a b'}, {'type': 'x'}):\n" +
			"    try: runtime.display(runtime.Media(b))\n    except runtime.MCPError as e: r.append(str(e))\nlen(r)", "", "5"},
		{"of a script that fails", "from mcp import runtime\nruntime.display(await mcp_art.draw())\n1/0", "image/png hello", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, r, err := call(t, t.Context(), client, map[string]any{"code": tt.code})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range res.Content[1:] {
				switch c := c.(type) {
				case *mcp.ImageContent:
					got = append(got, c.MIMEType+" "+string(c.Data))
				case *mcp.AudioContent:
					got = append(got, c.MIMEType+" "+string(c.Data))
				case *mcp.ResourceLink:
					got = append(got, "link "+c.URI)
				case *mcp.EmbeddedResource:
					got = append(got, "resource "+c.Resource.URI+" "+c.Resource.Text)
				}
			}
			result := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(r.Result)) // of the test's own decoding
			if strings.Join(got, ", ") != tt.want || result != tt.result {
				t.Errorf("content %q, want %q; result %s, want %s; %+v", got, tt.want, result, tt.result, r)
			}
			if strings.HasPrefix(tt.name, "too") && !strings.Contains(r.Summary, "left out") {
				t.Errorf("what was left out is not said: %s", r.Summary)
			}
		})
	}
}

// TestProgress: a client that gives a token hears of a run, in order, not too often, and nothing after the result. What it is
// too slow for, "starting" for one, is left out.
func TestProgress(t *testing.T) {
	f := newFake().add("slow", upstream.Tool{Name: "t"})
	f.call = func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"content":[]}`), nil
	}
	f.tell = func(progress func(json.RawMessage)) {
		if progress == nil {
			t.Error("the upstream's progress is not wanted")
			return
		}
		<-time.After(2 * progressEvery)
		progress(json.RawMessage(`{"progress":1,"total":4,"message":"one of four"}`))
		progress(json.RawMessage(`{"progress":"x"}`))
		progress(json.RawMessage(`{`))
	}
	var mu sync.Mutex
	var got []string
	last := 0.0
	b := newBridge(t, func(o *Options) { o.Servers = f })
	here, there := mcp.NewInMemoryTransports()
	served := make(chan error, 1)
	go func() { served <- b.Serve(t.Context(), there) }()
	client, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			mu.Lock()
			defer mu.Unlock()
			if r.Params.Progress <= last || fmt.Sprint(r.Params.ProgressToken) != "tok" {
				t.Errorf("%+v after %v", r.Params, last)
			}
			last = r.Params.Progress
			got = append(got, r.Params.Message)
		},
	}).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	params := &mcp.CallToolParams{Name: toolName, Arguments: map[string]any{"code": "for _ in range(3): await mcp_slow.t()"}}
	params.SetProgressToken("tok")
	res, err := client.CallTool(t.Context(), params)
	if err != nil || res.IsError {
		t.Fatal(res, err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	all := strings.Join(got, "; ")
	if !strings.Contains(all, "running; ") || !strings.Contains(all, "slow.t: 1 of 4 one of four; tool calls: 2") {
		t.Errorf("heard %s", all)
	}
	if len(got) > 12 {
		t.Errorf("%d notifications: %s", len(got), all)
	}
}

// TestUnsearched: a search that could not see the tools of a server does not pass for one that found nothing there.
func TestUnsearched(t *testing.T) {
	f := newFake().add("known", upstream.Tool{Name: "find"}).add("new", upstream.Tool{Name: "find too"}).add("broken")
	f.infos[0].Tools, f.infos[2].Unavailable = 1, "no reason"
	b := newBridge(t, func(o *Options) { o.Servers = f })
	const note = `A search does not find tools that are not known yet; runtime.list_tools_sync(name) asks for them, of "new".`
	if r := runCode(t, b, "from mcp import runtime\nruntime.search_tool_docs_sync('nothing like it')"); r.Note() != note || string(r.Result) != "[]" {
		t.Errorf("%+v", r)
	}
	if r := runCode(t, b, "mcp_known.find.sync"); r.Note() != "" {
		t.Errorf("no search, and %q", r.Note())
	}
	if r := runCode(t, b, "find()"); r.Note() != "" || r.Error != "NameError: name 'find' is not defined; write mcp_known.find(...) (line 1)" {
		t.Errorf("a search for a hint only, and %q: %s", r.Note(), r.Error)
	}
	f.infos[1].Tools = 1
	if r := runCode(t, b, "from mcp import runtime\nawait runtime.search_tool_docs('find')"); r.Note() != "" {
		t.Errorf("all are known, and %q", r.Note())
	}
}

// TestLateServer: a server that has not started in time is not said to be loaded, and can be used all the same.
func TestLateServer(t *testing.T) {
	f := newFake().add("late", upstream.Tool{Name: "t"}).add("say") // which has no tools
	f.waits = "late"
	k := newBridge(t, func(o *Options) { o.Servers = f }).newBroker(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	k.load(ctx, []string{"late", "say"})
	loaded, note := k.loaded([]string{"late", "say"})
	if want := `Not ready yet: "late"; a call of a tool there waits for it.`; !slices.Equal(loaded, []string{"say"}) || note != want {
		t.Errorf("loaded %q, note %s", loaded, note)
	}
	for _, s := range k.run(t.Context(), []string{"late", "say"}, "mcp_late.t, mcp_say") {
		if s.Loaded != (s.Name == "say") || s.Unavailable != "" {
			t.Errorf("%+v", s)
		}
	}
	f.waits = ""
	if _, err := k.list(t.Context(), "late"); err != nil {
		t.Error(err)
	}
	if loaded, note := k.loaded([]string{"late", "say"}); len(loaded) != 2 || note != "" {
		t.Errorf("when the script has used it: loaded %q, note %s", loaded, note)
	}
}

// TestPreload: servers that a run names are asked at once, and one that fails is the script's business.
func TestPreload(t *testing.T) {
	f := oddities()
	b := newBridge(t, func(o *Options) { o.Servers = f })
	r, err := b.Run(t.Context(), Request{Servers: []string{"odd", "failing", "broken", "say"}, Code: `from mcp import runtime
out = []
for s in ("failing", "broken"):
    try:
        await runtime.call_tool(s, "t")
    except runtime.MCPError as e:
        out.append(str(e))
    out.append(repr(mcp_servers[s]))
out.append(LOADED_MCP_SERVERS)
out.append([s["name"] for s in runtime.list_loaded_server_metadata()])
out`}, Output{})
	want := `["the MCP server 'failing' cannot be used: it does not start","<MCP server 'failing': mcp_failing, unavailable: it does not start>",` +
		`"the MCP server 'broken' cannot be used: no reason","<MCP server 'broken': mcp_broken, unavailable: no reason>",["odd","say"],["odd","say"]]`
	if err != nil || string(r.Result) != want {
		t.Errorf("%s, want %s; %+v %v", r.Result, want, r, err)
	}
	if note := `Not loaded: "broken", "failing"; a call of a tool there says why.`; !slices.Equal(r.Servers, []string{"odd", "say"}) || r.Note() != note {
		t.Errorf("servers %q, note %s", r.Servers, r.Note())
	}
	f.listed = nil
	if r := runCode(t, b, "mcp_servers\nprint(len(mcp_servers))"); r.Status != StatusSuccess || len(f.listed) != 0 {
		t.Errorf("%+v; %q were asked for nothing", r, f.listed)
	}
	huge := newFake()
	for i := range 30 {
		huge.add("big", upstream.Tool{Name: fmt.Sprintf("t%d", i), Description: strings.Repeat("d", 100_000)})
	}
	for i := range 1200 {
		huge.add(fmt.Sprintf("s%d", i))
	}
	b = newBridge(t, func(o *Options) { o.Servers = huge })
	r, err = b.Run(t.Context(), Request{Servers: []string{"big"}, Code: "from mcp import runtime\n[len(mcp_servers), len(runtime.list_tools_sync('big')), LOADED_MCP_SERVERS]"}, Output{})
	if err != nil || string(r.Result) != `[1000,30,["big"]]` {
		t.Errorf("%s %+v %v", r.Result, r, err)
	}
}

// TestGatherIsParallel: five calls that each wait for the other four come to an end.
func TestGatherIsParallel(t *testing.T) {
	f := newFake().add("slow", upstream.Tool{Name: "wait"})
	var all sync.WaitGroup
	all.Add(5)
	together := make(chan struct{})
	go func() { all.Wait(); close(together) }()
	f.call = func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
		all.Done()
		select {
		case <-together:
			return json.RawMessage(`{"content":[]}`), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b := newBridge(t, func(o *Options) { o.Servers = f })
	if r := runCode(t, b, "import asyncio\nawait asyncio.gather(*[mcp_slow.wait() for _ in range(5)])"); r.Status != StatusSuccess {
		t.Errorf("%+v", r)
	}
}
