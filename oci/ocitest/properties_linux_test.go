package ocitest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestProperties: every test of the suite is a property, and every property a test.
func TestProperties(t *testing.T) {
	var names []string
	for _, p := range Properties {
		names = append(names, p.Name)
	}
	tests := testsOf(HostSuite{})
	for _, name := range names {
		if !slices.Contains(tests, name) {
			t.Errorf("there is no test %s", name)
		}
	}
	for _, name := range tests {
		if n := len(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s != name })); n != 1 {
			t.Errorf("the test %s is %d times among the properties", name, n)
		}
	}
}

// TestDoc: the table of docs/runtimes.md is of these properties and of every launcher, and says of none that it fails.
// make runtimes-doc writes it.
func TestDoc(t *testing.T) {
	b, err := os.ReadFile("../../docs/runtimes.md")
	if err != nil {
		t.Fatal(err)
	}
	var head string
	var rows [][]string
	_, made, _ := strings.Cut(string(b), "<!-- table -->")
	for line := range strings.Lines(made) {
		if strings.HasPrefix(line, "| property |") {
			head = line
		}
		if cells := strings.Split(strings.TrimSpace(line), " | "); strings.HasPrefix(line, "| `") {
			rows = append(rows, cells)
		}
	}
	for _, launcher := range []string{"direct", "libcontainer", "crun", "runc"} {
		if !strings.Contains(head, " "+launcher+" ") {
			t.Errorf("no column %s in %q", launcher, head)
		}
	}
	for i, p := range Properties {
		if i >= len(rows) || !strings.Contains(rows[i][0], "`"+p.Name+"` "+p.Says) || strings.Contains(strings.Join(rows[i], " "), "fails") {
			t.Errorf("row %d is not a good one of %s: make runtimes-doc", i, p.Name)
		}
	}
	if len(rows) != len(Properties) {
		t.Errorf("%d rows of %d properties: make runtimes-doc", len(rows), len(Properties))
	}
}
