package bridge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// maxStubs bounds the text of one server's stubs.
const maxStubs = 4 << 20

// Stubs is a .pyi of the tools of a server: what `from mcp.servers.<alias> import *` brings, with the types of
// arguments and results.
func (b *Bridge) Stubs(ctx context.Context, server string) (string, error) {
	_, names := b.servers()
	i := slices.Index(names, server)
	if i < 0 {
		return "", unknownServer(server, names)
	}
	tools, err := b.opts.Servers.Tools(ctx, server)
	if err != nil {
		return "", err
	}
	return stubs(server, serverAliases(names)[i], tools), nil
}

// stubs writes the .pyi. Everything that comes from the server is quoted or made an identifier.
func stubs(server, alias string, tools []upstream.Tool) string {
	classes, functions := &strings.Builder{}, &strings.Builder{}
	taken := make(map[string]bool) // names that a class must not have, and that do not mean Python's type if they are a tool's
	for _, u := range []string{"Any", "Literal", "NotRequired", "TypedDict"} {
		taken[u] = true
	}
	described := describe(tools)
	for _, d := range described {
		taken[d.Alias] = true
	}
	work := 0
	for i, d := range described {
		if functions.Len()+classes.Len() > maxStubs {
			fmt.Fprintf(functions, "\n# %d more tools are left out\n", len(tools)-i)
			break
		}
		prefix := camel(d.Alias)
		newTyper := func(schema []byte) *typer {
			t := &typer{root: schema, work: &work, hidden: taken}
			t.name = func(hint string) string {
				base := prefix + camel(identifier(hint))
				name := base
				for k := 2; taken[name]; k++ {
					name = fmt.Sprintf("%s%d", base, k)
				}
				taken[name] = true
				return name
			}
			t.class = func(name string, props []member, required []string, depth int) {
				classes.WriteString(typedDict(t, name, props, required, depth))
			}
			return t
		}
		// The parameters are those of the signature in the sandbox; only their types are told in full.
		t := newTyper(d.InputSchema)
		props, _ := members(t.resolve(d.InputSchema)["properties"])
		var list []string
		for _, p := range d.Params {
			typ := p.Type
			if k := slices.IndexFunc(props, func(m member) bool { return m.name == p.Name }); k >= 0 {
				typ = t.typ(props[k].value, p.Alias, 1)
			}
			switch {
			case p.Required:
			case typ == anyType || strings.HasSuffix(typ, orNone):
				typ += " = None"
			default:
				typ += orNone + " = None"
			}
			list = append(list, p.Alias+": "+typ)
		}
		if d.Open {
			more := "more"
			for slices.ContainsFunc(d.Params, func(p guest.Param) bool { return p.Alias == more }) {
				more += "_"
			}
			list = append(list, "**"+more+": Any")
		}
		result := returns(newTyper(d.OutputSchema))
		fmt.Fprintf(functions, "\nasync def %s(%s) -> %s:\n", d.Alias, strings.Join(list, ", "), result)
		fmt.Fprintf(functions, "    %s\n", docstring(d))
	}
	imports := "from typing import Any, Literal, NotRequired, TypedDict\n"
	if strings.Contains(classes.String()+functions.String(), "builtins.") {
		imports = "import builtins\n" + imports
	}
	return fmt.Sprintf("# mcp_%s, mcp.servers.%s: the MCP server %s. Made from its schemas by mcp-bridge.\n"+
		"# Results behave as the type says; those that are dicts have their keys as attributes too.\n"+
		"%s", alias, alias, quote(server), imports) +
		classes.String() + functions.String()
}

func typedDict(t *typer, name string, props []member, required []string, depth int) string {
	functional := slices.ContainsFunc(props, func(m member) bool { return identifier(m.name) != m.name })
	var b strings.Builder
	for _, m := range props {
		typ := t.typ(m.value, camel(identifier(m.name)), depth+1)
		if !slices.Contains(required, m.name) {
			typ = "NotRequired[" + typ + "]"
		}
		if functional {
			fmt.Fprintf(&b, "    %s: %s,\n", pythonString(m.name), pythonString(typ))
		} else {
			fmt.Fprintf(&b, "    %s: %s\n", m.name, typ)
		}
	}
	switch {
	case functional:
		return fmt.Sprintf("\n%s = TypedDict(%q, {\n%s})\n", name, name, b.String())
	case b.Len() == 0:
		return fmt.Sprintf("\nclass %s(TypedDict): ...\n", name)
	}
	return fmt.Sprintf("\nclass %s(TypedDict):\n%s", name, b.String())
}

func docstring(d guest.Tool) string {
	lines := []string{clip(cmp.Or(d.Description, d.Title), maxDocs)}
	for _, p := range d.Params {
		if p.Description != "" {
			lines = append(lines, p.Alias+": "+clip(p.Description, 500))
		}
	}
	doc := strings.TrimSpace(strings.Join(lines, "\n"))
	if doc == "" {
		return "..."
	}
	doc = strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`, "\x00", "", "\r", "").Replace(strings.ToValidUTF8(doc, "\uFFFD"))
	if strings.HasSuffix(doc, `"`) {
		doc = doc[:len(doc)-1] + `\"`
	}
	return `"""` + strings.ReplaceAll(doc, "\n", "\n    ") + `"""`
}

// camel is an identifier as the name of a class.
func camel(id string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(id, "_") {
		if part != "" {
			r := []rune(part)
			b.WriteString(strings.ToUpper(string(r[:1])) + string(r[1:]))
		}
	}
	name := b.String()
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "T" + name
	}
	return name
}

// pythonString is a Python literal of a string.
func pythonString(s string) string { return strconv.QuoteToASCII(s) }
