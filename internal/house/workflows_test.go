package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestWorkflowScripts: GitHub writes the value of an expression into a script before a shell reads it, so a script that has one
// runs whatever is in a branch's name or in somebody's input. Scripts get values by the environment.
func TestWorkflowScripts(t *testing.T) {
	scripts := 0
	for path, doc := range workflows(t) {
		walk(doc, func(key string, value *yaml.Node) {
			if key != "run" {
				return
			}
			scripts++
			if strings.Contains(value.Value, "${{") {
				t.Errorf("%s:%d: an expression is written into a script: %s", path, value.Line, value.Value)
			}
		})
	}
	if scripts < 10 {
		t.Errorf("there are %d scripts only", scripts)
	}
}

// TestActionInputs: an input or a step that is misspelt in an action is an empty string to GitHub, and no error.
func TestActionInputs(t *testing.T) {
	used := regexp.MustCompile(`\b(inputs|steps)\.([a-z0-9-]+)`)
	actions := 0
	for path, doc := range workflows(t) {
		if filepath.Base(path) != "action.yml" {
			continue
		}
		actions++
		known := make(map[string]bool)
		var action struct {
			Inputs map[string]yaml.Node
			Runs   struct{ Steps []struct{ ID string } }
		}
		if err := doc.Decode(&action); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for name := range action.Inputs {
			known["inputs."+name] = true
		}
		for _, step := range action.Runs.Steps {
			known["steps."+step.ID] = true
		}
		named := make(map[string]bool)
		walk(doc, func(_ string, value *yaml.Node) {
			for _, m := range used.FindAllStringSubmatch(value.Value, -1) {
				named[m[0]] = true
				if !known[m[0]] {
					t.Errorf("%s:%d: there is no %s", path, value.Line, m[0])
				}
			}
		})
		for name := range action.Inputs {
			if !named["inputs."+name] {
				t.Errorf("%s: nobody reads the input %s", path, name)
			}
		}
	}
	if actions == 0 {
		t.Error("there is no action")
	}
}

// workflows are the YAML files of .github.
func workflows(t *testing.T) map[string]*yaml.Node {
	t.Helper()
	found := make(map[string]*yaml.Node)
	err := filepath.WalkDir(filepath.Join(root(t), ".github"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yml" && filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var doc yaml.Node
		found[path] = &doc
		return yaml.Unmarshal(text, &doc)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// walk calls f for every scalar that is the value of a key.
func walk(n *yaml.Node, f func(key string, value *yaml.Node)) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && child.Kind == yaml.ScalarNode {
			f(n.Content[i-1].Value, child)
		}
		walk(child, f)
	}
}
