package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// BenchmarkBrokeredCall measures what a call of a tool costs between the script and the server's client: the median of
// one after the other, and how many a second a run gets through.
func BenchmarkBrokeredCall(b *testing.B) {
	f := office()
	result := json.RawMessage(`{"content":[{"type":"text","text":"{\"ok\": true}"}]}`)
	f.call = func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) { return result, nil }
	bridge := newBridge(b, func(o *Options) { o.Servers = f })
	const head = "import asyncio, time\nclock = time.perf_counter\ntimes = []\nmcp_search.search\n"
	for _, c := range []struct{ name, unit, code string }{
		{"in a row", "µs/call", "for i in range(2000):\n    t = clock()\n    await mcp_search.search(query='x', limit=i)\n    times.append(clock() - t)\nsorted(times)[1000] * 1e6"},
		{"sync", "µs/call", "for i in range(2000):\n    t = clock()\n    mcp_search.search.sync(query='x', limit=i)\n    times.append(clock() - t)\nsorted(times)[1000] * 1e6"},
		{"gather", "calls/s", "t = clock()\nawait asyncio.gather(*[mcp_search.search(query='x', limit=i) for i in range(5000)])\n5000 / (clock() - t)"},
	} {
		b.Run(strings.ReplaceAll(c.name, " ", "_"), func(b *testing.B) {
			sum := 0.0
			for b.Loop() {
				var v float64
				if err := json.Unmarshal(runCode(b, bridge, head+c.code).Result, &v); err != nil {
					b.Fatal(err)
				}
				sum += v
			}
			b.ReportMetric(sum/float64(b.N), c.unit)
		})
	}
}

// BenchmarkTold is what the bridge does for a script of a server with 90 tools, of which it uses one, before it is sent.
func BenchmarkTold(b *testing.B) {
	props := make([]string, 8)
	for i := range props {
		props[i] = fmt.Sprintf(`"p%d":{"type":"string","description":"The owner of the repository, an account or an organisation"}`, i)
	}
	f := newFake()
	for i := range 90 {
		f.add("hub", upstream.Tool{
			Name: fmt.Sprintf("tool_%d", i), Description: "Create an issue in a repository, with labels and so on",
			InputSchema: json.RawMessage(`{"type":"object","properties":{` + strings.Join(props, ",") + `},"required":["p1"]}`),
		})
	}
	f.infos[0].Tools = 90
	bridge := newBridge(b, func(o *Options) { o.Servers = f })
	for name, load := range map[string][]string{"named": {"hub"}, "mentioned": nil} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				k := bridge.newBroker(nil)
				k.load(b.Context(), load)
				w := guest.NewWriter(io.Discard)
				if err := w.Run(guest.Run{Servers: k.run(b.Context(), load, "await mcp_hub.tool_7(p1='x')")}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
