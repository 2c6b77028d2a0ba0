package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestServersDoc keeps the table of files in docs/servers.md equal to what the program reads.
func TestServersDoc(t *testing.T) {
	const file, begin, end = "../../docs/servers.md", "<!-- sources -->\n", "<!-- /sources -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %s…%s", file, begin, end)
	}
	var want strings.Builder
	want.WriteString("| program | your files | the project's |\n|---|---|---|\n")
	cell := func(patterns []string) string {
		if len(patterns) == 0 {
			return "-"
		}
		list := make([]string, len(patterns))
		for n, p := range patterns {
			system := ""
			for prefix, name := range map[string]string{"linux:": "Linux: ", "mac:": "macOS: "} {
				if rest, ok := strings.CutPrefix(p, prefix); ok {
					p, system = rest, name
				}
			}
			p = strings.ReplaceAll(p, ":-}", "}")
			list[n] = system + "`" + strings.TrimPrefix(p, "./") + "`"
		}
		return strings.Join(list, "<br>")
	}
	for _, s := range sources() {
		fmt.Fprintf(&want, "| %s | %s | %s |\n", s.host, cell(s.user), cell(s.project))
	}
	if have == want.String() {
		return
	}
	if !*update {
		t.Fatalf("the table of files in %s is not that of the program; go test ./internal/config -update mends it", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
