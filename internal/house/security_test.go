package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestSecurity: every promise in SECURITY.md names a test, and that test is there.
func TestSecurity(t *testing.T) {
	b, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "| promise | held by |")
	table, _, ok2 := strings.Cut(table, "\n## ")
	if !ok || !ok2 {
		t.Fatal("SECURITY.md has no table of promises")
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	promises := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "---") {
			continue
		}
		promises++
		var dirs []string // a test is in each of those that are named before it
		named, after := 0, false
		for _, m := range quoted.FindAllStringSubmatch(cells[2], -1) {
			switch {
			case strings.HasPrefix(m[1], "make "):
				named++
			case unicode.IsLower(rune(m[1][0])):
				if after {
					dirs, after = nil, false
				}
				dirs = append(dirs, m[1])
			default:
				named++
				after = true
				for _, dir := range dirs {
					if !tests(t, dir)[m[1]] {
						t.Errorf("there is no %s in %s, which holds a promise of SECURITY.md:%s", m[1], dir, cells[1])
					}
				}
				if len(dirs) == 0 {
					t.Errorf("%s is nowhere, which holds a promise of SECURITY.md:%s", m[1], cells[1])
				}
			}
		}
		if named == 0 {
			t.Errorf("a promise without a test:%s", cells[1])
		}
	}
	if promises < 15 {
		t.Errorf("only %d promises were found", promises)
	}
}

// tests are the names of a package's tests, whatever they are built for. In oci/ocitest they are methods of a suite.
func tests(t *testing.T, dir string) map[string]bool {
	t.Helper()
	suite, pattern := dir == "oci/ocitest", "*_test.go"
	if suite {
		pattern = "*.go"
	}
	files, err := filepath.Glob(filepath.Join("../..", dir, pattern))
	if err != nil || len(files) == 0 {
		t.Errorf("no tests in %q: %v", dir, err)
	}
	names := make(map[string]bool)
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && (fn.Recv != nil) == suite {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}
