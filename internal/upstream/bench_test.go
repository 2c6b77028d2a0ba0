package upstream

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// direct is go-sdk's own session with a server.
func direct(t testing.TB, s config.Server) *mcp.ClientSession {
	t.Helper()
	cmd := exec.Command(s.Command, s.Args...)
	cmd.Env = os.Environ()
	for k, v := range s.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "direct", Version: "1"}, nil).Connect(
		limited(t), &mcp.CommandTransport{Command: cmd, TerminateDuration: time.Second}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// BenchmarkOverhead is a call through the pool beside one that is made with go-sdk, in turns, so that a busy machine slows
// both; and sixteen at once.
func BenchmarkOverhead(b *testing.B) {
	for _, tt := range []struct {
		name, tool, args string
		server           config.Server
	}{
		{"a server in Go", "echo", `{"n":1}`, hostile(b, "")},
		{"server-everything", "echo", `{"message":"hi"}`, node(b, "hostile", everything, "stdio")},
	} {
		b.Run(tt.name, func(b *testing.B) {
			p, d := pool(b, Options{}, tt.server), direct(b, tt.server)
			ctx := b.Context()
			var brokered, directly []time.Duration
			for b.Loop() {
				begin := time.Now()
				if _, err := d.CallTool(ctx, &mcp.CallToolParams{Name: tt.tool, Arguments: json.RawMessage(tt.args)}); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if _, err := call(ctx, p, "hostile", tt.tool, tt.args); err != nil {
					b.Fatal(err)
				}
				directly, brokered = append(directly, middle.Sub(begin)), append(brokered, time.Since(middle))
			}
			b.ReportMetric(0, "ns/op") // of both together
			b.ReportMetric(float64(median(directly).Microseconds()), "µs/direct")
			b.ReportMetric(float64(median(brokered).Microseconds()), "µs/brokered")
		})
		b.Run(tt.name+", 16 at once", func(b *testing.B) {
			p := pool(b, Options{}, tt.server)
			b.SetParallelism(16)
			b.RunParallel(func(next *testing.PB) {
				for next.Next() {
					if _, err := call(b.Context(), p, "hostile", tt.tool, tt.args); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// TestBigResult: ten megabytes arrive.
func TestBigResult(t *testing.T) {
	p := pool(t, Options{}, hostile(t, ""))
	const n = 10 << 20
	if got := text(t, p, "hostile", "big", fmt.Sprintf(`{"n":%d}`, n)); got != strings.Repeat("y", n) {
		t.Errorf("%d bytes arrived", len(got))
	}
	// And the other way.
	result, err := call(limited(t), p, "hostile", "echo", `{"x":"`+strings.Repeat("z", n)+`"}`)
	if err != nil || len(result) < n {
		t.Errorf("%d bytes, %v", len(result), err)
	}
}

// TestNewStartsNothing: of sixty servers that are known from before none is started by being listed or searched.
func TestNewStartsNothing(t *testing.T) {
	p := New(sixty(t))
	defer p.Close()
	for _, info := range p.List() {
		if info.Tools != 50 {
			t.Fatalf("%+v", info)
		}
	}
	if matches := p.Search("s7 tool 3", 5); len(matches) != 5 || matches[0].Tool.Name != "s7_tool_3" {
		t.Errorf("%+v", matches)
	}
	for _, c := range p.clients {
		if c.session != nil || c.starting != nil {
			t.Errorf("%s was started", c.server.Name)
		}
	}
}

// BenchmarkNew is a pool of sixty servers, listed once.
func BenchmarkNew(b *testing.B) {
	options := sixty(b)
	for b.Loop() {
		p := New(options)
		p.List()
		p.Close()
	}
}

// sixty are the options of a pool of sixty servers, of each of which fifty tools are known.
func sixty(t testing.TB) Options {
	var servers []config.Server
	for i := range 60 {
		s := hostile(t, "exit")
		s.Name = fmt.Sprint("s", i)
		s.Args = append(s.Args, s.Name)
		servers = append(servers, s)
	}
	options := Options{Servers: servers, CatalogDir: t.TempDir()}
	fill := New(options)
	defer fill.Close()
	for _, c := range fill.clients {
		tools := make([]Tool, 50)
		for i := range tools {
			tools[i] = Tool{Name: fmt.Sprintf("%s_tool_%d", c.server.Name, i), Description: strings.Repeat("does something ", 10), InputSchema: json.RawMessage(`{"type":"object"}`)}
		}
		if err := fill.catalog.write(c.server, head{Tools: len(tools), Description: "x"}, record{Tools: tools}); err != nil {
			t.Fatal(err)
		}
	}
	return options
}

func BenchmarkCall(b *testing.B) {
	p := pool(b, Options{}, hostile(b, ""))
	ctx := b.Context()
	for b.Loop() {
		if _, err := call(ctx, p, "hostile", "echo", `{"n":1}`); err != nil {
			b.Fatal(err)
		}
	}
}
