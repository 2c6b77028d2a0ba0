package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// warmServer is a bridge whose pool stays, and tells of each sandbox that is warm.
func warmServer(t testing.TB, size int, more ...string) *server {
	t.Helper()
	s := startServer(t, append([]string{
		"MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT=1h", "MCP_BRIDGE_LOG_LEVEL=debug", fmt.Sprintf("MCP_BRIDGE_POOL=%d", size),
	}, more...)...)
	return s
}

// waitWarm waits until n more sandboxes have become warm than when it was called last.
func (s *server) waitWarm(n int) {
	s.t.Helper()
	s.warm += n
	if err := eventually(func() error {
		if got := strings.Count(s.stderr.String(), "a sandbox is warm"); got < s.warm {
			return fmt.Errorf("%d sandboxes have become warm, not %d", got, s.warm)
		}
		return nil
	}); err != nil {
		s.t.Fatalf("%v\n%s", err, s.stderr)
	}
}

// BenchmarkWarm is what an MCP client waits for, over stdio, while a sandbox is ready: the median and the 99th of a
// hundred.
func BenchmarkWarm(b *testing.B) {
	needSandbox(b)
	for name, code := range map[string]string{
		"print": "print(1)",
		"call":  "r = await mcp_echo.echo(text='x')\nprint(r)",
		"pass":  "pass",
	} {
		b.Run(name, func(b *testing.B) {
			s := warmServer(b, 1, echoServer(b)...)
			s.waitWarm(1)
			if r := s.call(map[string]any{"code": code}); r.Status != "success" { // starts the MCP server
				b.Fatalf("%+v", r)
			}
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				s.waitWarm(1)
				b.StartTimer()
				began := time.Now()
				if r := s.call(map[string]any{"code": code}); r.Status != "success" {
					b.Fatalf("%+v", r)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}

// echoServer configures an MCP server with one tool.
func echoServer(t testing.TB) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "servers.json")
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{
		"echo": map[string]any{"command": exe, "env": map[string]string{runEcho: "1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"MCP_SERVERS_CONFIG=" + file, "MCP_BRIDGE_ALLOW_SELF_SERVER=1"}
}
