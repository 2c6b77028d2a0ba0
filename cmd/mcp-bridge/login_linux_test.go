package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth/oauthtest"
)

// TestLoginCommand logs in with a browser that this test plays, uses the server, and logs out.
func TestLoginCommand(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "web", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "forecast", Description: "the weather"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return nil, nil, nil
	})
	w := oauthtest.New(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true}))
	t.Cleanup(w.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)

	dir := t.TempDir()
	file := filepath.Join(dir, "mcp.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"mcpServers": {"my web": {"url": %q}, "program": {"command": "true"}}}`, w.URL()), 0o600); err != nil {
		t.Fatal(err)
	}
	// The browser of this host leaves a note.
	note := filepath.Join(dir, "note")
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), fmt.Appendf(nil, "#!/bin/sh\necho \"$@\" >%s\n", note), 0o700); err != nil {
		t.Fatal(err)
	}
	env := environment(filepath.Join(dir, "state"), "MCP_SERVERS_CONFIG="+file, "XDG_DATA_HOME="+filepath.Join(dir, "data"), "PATH="+dir+":/usr/bin:/bin")
	expect := func(code int, wantOut, wantErr string, args ...string) {
		t.Helper()
		cmd := bridgeCommand(t, env, args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run() // its code is looked at
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(stdout.String(), wantOut) || !strings.Contains(stderr.String(), wantErr) {
			t.Errorf("%q: exit code %d, want %d\n%s\n%s", args, got, code, stdout.String(), stderr.String())
		}
	}
	expect(1, "", `"mcp-bridge login 'my web'" gets it with a browser`, "search", "--refresh", "weather")
	expect(2, "", "arg", "login")
	expect(1, "", `there is no MCP server "nobody"`, "login", "nobody")
	expect(1, "", "is a program of this host", "login", "program")
	expect(1, "", "my web has no login", "logout", "my web")

	run := func(visit func(url string), args ...string) (out string, code int) {
		t.Helper()
		cmd := bridgeCommand(t, env, append([]string{"login"}, args...)...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		within(t, "login", func() error {
			lines := bufio.NewScanner(stdout)
			for lines.Scan() {
				out += lines.Text() + "\n"
				if u := strings.TrimSpace(lines.Text()); strings.HasPrefix(u, "http://") {
					visit(u)
				}
			}
			return cmd.Wait()
		})
		return out, cmd.ProcessState.ExitCode()
	}
	visit := func(u string) {
		resp, err := http.Get(u)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if page, _ := io.ReadAll(resp.Body); !bytes.Contains(page, []byte("You can close this page")) {
			t.Errorf("the page: %s", page)
		}
	}
	w.Set(func(s *oauthtest.Settings) {
		s.Answer = map[string]string{"error": "access_denied", "error_description": "not\x1b[31m you"}
	})
	if out, code := run(visit, "--no-browser", "my web"); code != 1 || strings.Contains(out, "Logged in") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if _, err := os.Stat(note); err == nil {
		t.Error("--no-browser has opened one")
	}
	w.Set(func(s *oauthtest.Settings) { s.Answer = nil })
	opened := ""
	out, code := run(func(u string) {
		err := eventually(func() error {
			b, err := os.ReadFile(note)
			if opened = string(b); err == nil && opened == "" {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
		if err != nil || opened != u+"\n" {
			t.Errorf("the browser got %q, %v", opened, err)
		}
		visit(u)
	}, "my web", "--scope", "read")
	if code != 0 || !strings.Contains(out, "Logged in to my web at "+w.Issuer()) || !strings.Contains(opened, "scope=read&") {
		t.Errorf("exit code %d, %q\n%s", code, opened, out)
	}
	for _, secret := range w.Secrets() {
		if strings.Contains(out, secret) {
			t.Error("a token is printed")
		}
	}
	expect(0, "forecast", "", "search", "--refresh", "weather")
	if names, _ := filepath.Glob(filepath.Join(dir, "data/mcp-bridge/tokens/*.json")); len(names) != 1 {
		t.Errorf("tokens: %v", names)
	}
	expect(0, "Logged out of my web", "", "logout", "my web")
	if n := w.Count("revoke"); n != 2 {
		t.Errorf("%d tokens were revoked", n)
	}
}
