package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// checkTable keeps the table of a document between two comments equal to what the program reads.
func checkTable(t *testing.T, file, name, want string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n"
	before, rest, ok1 := strings.Cut(string(b), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %s…%s", file, begin, end)
	}
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table of %s in %s is not that of the program; go test ./internal/config -update mends it", name, file)
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestServersDoc: the files in docs/servers.md.
func TestServersDoc(t *testing.T) {
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
	checkTable(t, "../../docs/servers.md", "sources", want.String())
}

// TestReadme: the README's variables.
func TestReadme(t *testing.T) {
	var want strings.Builder
	want.WriteString("| variable | default | allowed | |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, v := range Variables() {
		byDefault := "-"
		if v.Default != "" {
			byDefault = "`" + v.Default + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", v.Name, cell.Replace(byDefault), cell.Replace(v.Allowed), cell.Replace(v.Meaning))
	}
	checkTable(t, "../../README.md", "variables", want.String())
}
