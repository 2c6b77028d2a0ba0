package upstream

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/rank"
)

// catalogsFrom makes testdata/catalogs.json anew, see hack/search-quality.
var catalogsFrom = flag.String("catalogs-from", "", "node_modules with more servers for testdata/catalogs.json")

const (
	catalogsFile = "testdata/catalogs.json"
	toolsFile    = "testdata/tools.tsv"
)

// TestCatalogsFrom is not a test but the author of testdata/catalogs.json.
func TestCatalogsFrom(t *testing.T) {
	if *catalogsFrom == "" {
		t.Skip("it is hack/search-quality's")
	}
	servers := realServers(t)
	for name, file := range map[string]string{
		"github": "@modelcontextprotocol/server-github/dist/index.js", "gitlab": "@modelcontextprotocol/server-gitlab/dist/index.js",
		"google-maps": "@modelcontextprotocol/server-google-maps/dist/index.js", "slack": "@modelcontextprotocol/server-slack/dist/index.js",
		"playwright": "@playwright/mcp/cli.js",
	} {
		servers = append(servers, config.Server{
			Name: name, Transport: config.Stdio, Command: "node", Args: []string{filepath.Join(*catalogsFrom, file)},
			Env: map[string]string{"GITLAB_PERSONAL_ACCESS_TOKEN": "x", "GOOGLE_MAPS_API_KEY": "x", "SLACK_BOT_TOKEN": "x", "SLACK_TEAM_ID": "x"},
		})
	}
	p := pool(t, Options{}, servers...)
	all := make(map[string][]Tool)
	for _, s := range servers {
		tools, err := p.Tools(limited(t), s.Name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range tools {
			tools[i].OutputSchema, tools[i].Annotations = nil, nil
		}
		all[s.Name] = tools
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(catalogsFile, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// catalogs are those of real servers, and an index of them.
func catalogs(t testing.TB) (*rank.Index, map[string][]Tool) {
	b, err := os.ReadFile(catalogsFile)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]Tool
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	index := rank.New()
	for server, tools := range all {
		index.Set(server, documents(tools))
	}
	return index, all
}

// known are tools after those of well-known servers that are not asked here, and an index of them.
func known(t testing.TB) (*rank.Index, map[string][]Tool) {
	b, err := os.ReadFile(toolsFile)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]Tool)
	for line := range strings.Lines(string(b)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(fields) != 4 {
			continue
		}
		properties := make(map[string]any)
		for _, name := range strings.Fields(fields[3]) {
			properties[name] = map[string]string{"type": "string"}
		}
		schema, err := json.Marshal(map[string]any{"type": "object", "properties": properties})
		if err != nil {
			t.Fatal(err)
		}
		all[fields[0]] = append(all[fields[0]], Tool{Name: fields[1], Description: fields[2], InputSchema: schema})
	}
	index := rank.New()
	for server, tools := range all {
		index.Set(server, documents(tools))
	}
	return index, all
}

// TestSearchQuality: the tools that people mean by their queries are among the first five; and where nothing fits, nothing
// is said.
func TestSearchQuality(t *testing.T) {
	for _, tt := range []struct {
		queries             string
		tools               func(testing.TB) (*rank.Index, map[string][]Tool)
		recall, first, none float64
	}{
		{"testdata/queries.tsv", catalogs, 0.95, 0.78, 0.1},
		{"testdata/tools-queries.tsv", known, 0.86, 0.73, 0.25},
	} {
		t.Run(filepath.Base(tt.queries), func(t *testing.T) {
			index, all := tt.tools(t)
			recall, first, none := quality(t, tt.queries, index, all)
			if recall < tt.recall || first < tt.first || none > tt.none {
				t.Errorf("recall@5 is %.3f, the first is right in %.3f, %.3f for nothing find something; want at least %v, %v, at most %v",
					recall, first, none, tt.recall, tt.first, tt.none)
			}
		})
	}
}

// quality asks the queries of a file: how many of the tools meant are among the first five, how often the first is one of
// them, and how often something is found where nothing fits.
func quality(t *testing.T, file string, index *rank.Index, all map[string][]Tool) (recall, first, noneWrong float64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	queries, none := 0, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		query, labels, ok := strings.Cut(lines.Text(), "\t")
		if !ok || strings.HasPrefix(query, "#") {
			continue
		}
		var got []string
		for _, h := range index.Search(query, 5) {
			got = append(got, h.Group+"."+h.Name)
		}
		if labels == "-" {
			if none++; len(got) > 0 {
				noneWrong++
				t.Logf("nothing fits %q, but there are %v", query, got)
			}
			continue
		}
		want := strings.Fields(labels)
		found := 0
		for _, w := range want {
			server, tool, _ := strings.Cut(w, ".")
			if !slices.ContainsFunc(all[server], func(t Tool) bool { return t.Name == tool }) {
				t.Errorf("%q: there is no %s", query, w)
			}
			if slices.Contains(got, w) {
				found++
			}
		}
		queries++
		recall += float64(found) / float64(len(want))
		if len(got) > 0 && slices.Contains(want, got[0]) {
			first++
		}
		if found < len(want) {
			t.Logf("%q: want %v, got %v", query, want, got)
		}
	}
	if queries < 80 || none < 8 {
		t.Fatalf("only %d queries, and %d for nothing", queries, none)
	}
	recall, first = recall/float64(queries), first/float64(queries)
	tools := 0
	for _, list := range all {
		tools += len(list)
	}
	t.Logf("%d queries, %d servers, %d tools: recall@5 %.3f, the first is right %.3f; %v of %d for nothing find something", queries, len(all), tools, recall, first, noneWrong, none)
	return recall, first, noneWrong / float64(none)
}

// many is an index of at least n tools, made of the real ones.
func many(t testing.TB, n int) *rank.Index {
	index, all := catalogs(t)
	count := 0
	for i := 0; count < n; i++ {
		for server, tools := range all {
			copies := documents(tools)
			for j := range copies {
				copies[j].Name += fmt.Sprintf("_%d", i)
			}
			index.Set(fmt.Sprintf("%s-%d", server, i), copies)
			count += len(copies)
		}
	}
	return index
}

// BenchmarkSearch3000 is a query over three thousand tools.
func BenchmarkSearch3000(b *testing.B) {
	index := many(b, 3000)
	for name, query := range map[string]string{
		"usual": "create a new issue in a repository", "misspelt": "raed fiel", "word": "file", "nothing": "qqqqqqqq zzzzzzzz",
		"long": strings.Repeat("delete misspelld wrds ", 500),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				index.Search(query, 5)
			}
		})
	}
}
