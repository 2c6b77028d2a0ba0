package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is how long a file may be, so that it can be read in one go.
const maxLines = 500

// inits are the only functions init() of ours: each is run in every program, and paid by each start of a container.
var inits = []string{
	"oci/host/cgroup_own_linux.go", // holds the main thread, before Go can move it
}

// A source is one Go file of ours.
type source struct {
	name string // below the root
	text []byte
	file *ast.File
	set  *token.FileSet
}

func (s source) test() bool    { return strings.HasSuffix(s.name, "_test.go") }
func (s source) program() bool { return s.file.Name.Name == "main" }
func (s source) at(p token.Pos) string {
	return s.name + ":" + strconv.Itoa(s.set.Position(p).Line)
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root(t), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || strings.HasPrefix(base, ".") || base == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, p, text, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root(t), p)
		all = append(all, source{filepath.ToSlash(name), text, f, set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d files were found", len(all))
	}
	return all
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines; more than %d are too many to read", s.name, n, maxLines)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !slices.Contains(inits, s.name) {
				t.Errorf("%s: func init()", s.at(f.Pos()))
			}
		}
	}
}

// TestDirectivesAreHeard: they are for the compiler or for staticcheck, as no other linter is run.
func TestDirectivesAreHeard(t *testing.T) {
	for _, s := range sources(t) {
		for _, g := range s.file.Comments {
			for _, c := range g.List {
				if d, ok := ast.ParseDirective(c.Pos(), c.Text); ok && d.Tool != "go" && d.Tool != "lint" {
					t.Errorf("%s: %s", s.at(c.Pos()), c.Text)
				}
			}
		}
	}
}

// TestCallsThatAreNotMade: standard output belongs to MCP; the log is a *slog.Logger that is passed in; and who sleeps
// waits for nothing, in tests too.
func TestCallsThatAreNotMade(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			printing := !s.test() && !s.program()
			switch f := c.Fun.(type) {
			case *ast.Ident:
				if printing && (f.Name == "print" || f.Name == "println") {
					t.Errorf("%s: %s", s.at(c.Pos()), f.Name)
				}
			case *ast.SelectorExpr:
				x, ok := f.X.(*ast.Ident)
				if !ok {
					return true
				}
				switch {
				case x.Name == "time" && f.Sel.Name == "Sleep":
					t.Errorf("%s: time.Sleep", s.at(c.Pos()))
				case printing && x.Name == "fmt" && strings.HasPrefix(f.Sel.Name, "Print"):
					t.Errorf("%s: fmt.%s", s.at(c.Pos()), f.Sel.Name)
				case printing && x.Name == "log" && (strings.HasPrefix(f.Sel.Name, "Print") || strings.HasPrefix(f.Sel.Name, "Fatal") || strings.HasPrefix(f.Sel.Name, "Panic")) && imports(s, "log"):
					t.Errorf("%s: log.%s", s.at(c.Pos()), f.Sel.Name)
				case !s.test() && x.Name == "os" && f.Sel.Name == "Create":
					// It follows a link and cuts what it finds there.
					t.Errorf("%s: os.Create", s.at(c.Pos()))
				case !s.test() && !s.program() && x.Name == "context" && (f.Sel.Name == "Background" || f.Sel.Name == "TODO"):
					t.Errorf("%s: context.%s below main", s.at(c.Pos()), f.Sel.Name)
				}
			}
			return true
		})
	}
}

func imports(s source, path string) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

// TestToonIsInOneFile: it is young; whoever replaces it should have one file to change.
func TestToonIsInOneFile(t *testing.T) {
	var files []string
	for _, s := range sources(t) {
		if !s.test() && imports(s, "github.com/toon-format/toon-go") {
			files = append(files, s.name)
		}
	}
	if len(files) != 1 || !strings.HasPrefix(files[0], "bridge/") {
		t.Errorf("toon-go is imported by %v; want one file of bridge", files)
	}
}

// TestPackagesSayWhatTheyAre: a package comment, in one file.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	comments := make(map[string]int)
	for _, s := range sources(t) {
		if s.test() && !strings.HasPrefix(s.name, "internal/house/") {
			continue
		}
		dir := filepath.Dir(s.name)
		comments[dir] += 0
		if s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != "" {
			comments[dir]++
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s: %d package comments, want one", dir, n)
		}
	}
}
