package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// fakeServers find what they are told to.
type fakeServers struct {
	bridge.Servers
	list  []upstream.Info
	found []upstream.Match
}

func (f fakeServers) List() []upstream.Info { return f.list }

func (f fakeServers) Search(string, int) []upstream.Match { return f.found }

// TestSearchShows: what a server says moves nothing out of sight, and is nothing that a terminal obeys.
func TestSearchShows(t *testing.T) {
	var out bytes.Buffer
	err := search(&out, fakeServers{found: []upstream.Match{
		{Server: "a", Tool: upstream.Tool{Name: "create_issue", Description: "Creates it.\nMore."}},
		{Server: "b", Tool: upstream.Tool{Name: strings.Repeat("n", 500), Description: "\x1b[2J" + strings.Repeat("\u202e", 200)}},
	}}, "x", 10, false)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "  Creates it.") {
		t.Fatalf("%q", lines)
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 210 || strings.ContainsAny(line, "\x1b\u202e") {
			t.Errorf("%d letters: %q", n, line)
		}
	}
}

func TestSearchSaysWhyNothing(t *testing.T) {
	for want, list := range map[string][]upstream.Info{
		"no MCP server is configured": nil,
		"no tool fits":                {{Name: "a", Tools: 3}},
		"nothing is known yet of 1 of 2 servers, and --refresh asks them": {{Name: "a", Tools: -1}, {Name: "b", Tools: 3}},
	} {
		if err := search(&bytes.Buffer{}, fakeServers{list: list}, "x", 10, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
