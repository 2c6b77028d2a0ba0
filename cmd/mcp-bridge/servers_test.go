package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// TestDiscoverSays: the log names what is passed over, and how to change that; nothing secret, and nothing that a
// terminal obeys.
func TestDiscoverSays(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("CLAUDE_PROJECT_DIR", "")
	project := filepath.Join(home, "pro ject")
	for name, text := range map[string]string{
		filepath.Join(project, ".mcp.json"):       `{"mcpServers": {"evil\u202e": {"command": "x", "args": ["--token", "hunter2"]}}}`,
		filepath.Join(home, ".cursor/mcp.json"):   `{"mcpServers": {"a": {"command": "x", "env": {"A": "hunter2", "B": "${env:UNSET_HERE}"}}}}`,
		filepath.Join(home, ".codex/config.toml"): "broken = hunter",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(project)
	var log bytes.Buffer
	d := discover(config.Config{}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if len(d.Servers) != 1 || len(d.Passed) != 1 {
		t.Fatalf("%+v", d)
	}
	for _, want := range []string{"untrusted", "evil", ".mcp.json", "mcp-bridge trust '", ".codex/config.toml:1:10", "UNSET_HERE is not set"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in: %s", want, log.String())
		}
	}
	for _, never := range []string{"hunter2", "\u202e"} {
		if strings.Contains(log.String(), never) {
			t.Errorf("%q in: %s", never, log.String())
		}
	}
}
