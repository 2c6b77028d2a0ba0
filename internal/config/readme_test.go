package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadme keeps the README's table of variables equal to what the program reads.
func TestReadme(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- variables -->\n", "<!-- /variables -->\n"
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
	want.WriteString("| variable | default | allowed | |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, v := range Variables() {
		byDefault := "-"
		if v.Default != "" {
			byDefault = "`" + v.Default + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", v.Name, cell.Replace(byDefault), cell.Replace(v.Allowed), cell.Replace(v.Meaning))
	}
	if have == want.String() {
		return
	}
	if !*update {
		t.Fatalf("the table of variables in %s is not that of the program; go test ./internal/config -update mends it", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
