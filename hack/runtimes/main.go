// Command runtimes writes the table of docs/runtimes.md, launchers by properties, of what "go test -json ./oci/..." says on
// its standard input. See make runtimes-doc.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

const (
	doc        = "docs/runtimes.md"
	tableBegin = "<!-- table -->\n"
	tableEnd   = "<!-- /table -->"
	exception  = "exception: "
)

// An event is a line of go test -json.
type event struct{ Action, Test, Output string }

// A cell is what has come of a property with a launcher.
type cell struct {
	action  string // pass, fail or skip
	reasons []string
}

func main() {
	if err := run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "runtimes:", err)
		os.Exit(1)
	}
}

func run(r io.Reader) error {
	columns, cells, err := read(r)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table", doc)
	}
	return os.WriteFile(doc, []byte(before+tableBegin+table(columns, cells)+tableEnd+after), 0o644)
}

// place is the launcher and the property of a test, and whether it is that and not a part of it.
func place(test string) (launcher, property string, whole, ok bool) {
	// A test for each launcher, and in it one for each property.
	parts := strings.SplitN(strings.TrimPrefix(test, "Test"), "/", 3)
	if len(parts) == 1 || !slices.ContainsFunc(ocitest.Properties, func(p ocitest.Property) bool { return p.Name == parts[1] }) {
		return "", "", false, false
	}
	return strings.ToLower(parts[0]), parts[1], len(parts) == 2, true
}

// order of the columns: packages are tested in whatever order.
var order = []string{"direct", "libcontainer", "crun", "runc", "podman", "docker"}

func read(r io.Reader) (columns []string, cells map[[2]string]*cell, err error) {
	cells = make(map[[2]string]*cell)
	for d := json.NewDecoder(r); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			slices.SortFunc(columns, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
			return columns, cells, nil
		} else if err != nil {
			return nil, nil, fmt.Errorf("cannot read what go test says: %w", err)
		}
		launcher, property, whole, ok := place(e.Test)
		if !ok {
			continue
		}
		if !slices.Contains(columns, launcher) {
			columns = append(columns, launcher)
		}
		c := cells[[2]string{launcher, property}]
		if c == nil {
			c = &cell{}
			cells[[2]string{launcher, property}] = c
		}
		switch e.Action {
		case "output":
			if _, why, ok := strings.Cut(e.Output, exception); ok {
				if why = strings.TrimSpace(why); !slices.Contains(c.reasons, why) {
					c.reasons = append(c.reasons, why)
				}
			}
		case "pass", "fail", "skip":
			if whole {
				c.action = e.Action
			}
		}
	}
}

func table(columns []string, cells map[[2]string]*cell) string {
	var b, notes strings.Builder
	fmt.Fprintf(&b, "| property | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	var reasons []string
	for _, p := range ocitest.Properties {
		fmt.Fprintf(&b, "| `%s` %s |", p.Name, p.Says)
		for _, launcher := range columns {
			text := "not tested"
			if c := cells[[2]string{launcher, p.Name}]; c != nil {
				switch c.action {
				case "pass":
					text = "yes"
				case "skip":
					text = "as a user"
					if len(c.reasons) > 0 {
						text = "no"
					}
				default:
					text = "**fails**"
				}
				for _, why := range c.reasons {
					if !slices.Contains(reasons, why) {
						reasons = append(reasons, why)
						fmt.Fprintf(&notes, "%d. %s\n", len(reasons), why)
					}
					text += fmt.Sprintf(" (%d)", slices.Index(reasons, why)+1)
				}
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	if notes.Len() > 0 {
		b.WriteString("\n" + notes.String())
	}
	return b.String()
}
