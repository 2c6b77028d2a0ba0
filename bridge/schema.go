package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// Bounds of what is read of a schema, which its server may have made as it liked. What is beyond them is Any.
const (
	maxParams    = 256
	maxTypeDepth = 8
	maxTypeNodes = 500      // of one tool
	maxTypeWork  = 32 << 20 // bytes of schemas read for one server, each as often as it is read
	maxTypeText  = 400      // bytes of a type in a signature
	maxDocs      = 2000
	anyType      = "Any"
)

// describe is what scripts are told about the tools of a server.
func describe(tools []upstream.Tool) []guest.Tool {
	names := make([]string, len(tools))
	for i, t := range tools {
		names[i] = t.Name
	}
	alias := aliases(names)
	out := make([]guest.Tool, len(tools))
	work := 0
	for i, t := range tools {
		g := guest.Tool{
			Name: t.Name, Alias: alias[i], Title: t.Title, Description: t.Description,
			InputSchema: t.InputSchema, OutputSchema: t.OutputSchema, Annotations: t.Annotations,
		}
		g.Params, g.Open = params(&typer{root: t.InputSchema, work: &work})
		g.Returns = returns(&typer{root: t.OutputSchema, work: &work})
		if len(g.Returns) > maxTypeText {
			g.Returns = anyType
		}
		out[i] = g.Check()
	}
	return out
}

// descriptions are what was made last of the tools of each server, which takes 0.1 ms a tool and is the same for most runs. The
// zero value has none.
type descriptions struct {
	mu   sync.Mutex
	last map[string]described
}

type described struct {
	from []upstream.Tool
	made []guest.Tool
}

// of is describe, unless it is too much. What it returns is shared.
func (d *descriptions) of(server string, tools []upstream.Tool) ([]guest.Tool, error) {
	d.mu.Lock()
	last, ok := d.last[server]
	d.mu.Unlock()
	if ok && reflect.DeepEqual(last.from, tools) {
		return last.made, nil
	}
	made := describe(tools)
	if sizeOf(made) > maxToolList {
		return nil, fmt.Errorf("the descriptions of the tools of %s are longer than %d MiB", quote(server), maxToolList>>20)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = make(map[string]described)
	}
	d.last[server] = described{tools, made}
	return made, nil
}

// params are the arguments that an input schema names, required ones first, and whether it allows others.
func params(t *typer) (list []guest.Param, open bool) {
	s := t.resolve(t.root)
	props, known := members(s["properties"])
	required := required(s)
	has := func(name string) bool {
		return slices.ContainsFunc(props, func(m member) bool { return m.name == name })
	}
	for _, name := range required {
		if !has(name) {
			props = append(props, member{name, nil})
		}
	}
	props = props[:min(len(props), maxParams)]
	var first, rest []guest.Param
	for _, m := range props {
		sub := t.resolve(m.value)
		p := guest.Param{Name: m.name, Type: t.typ(m.value, "", 0), Required: slices.Contains(required, m.name)}
		if len(p.Type) > maxTypeText {
			p.Type = anyType
		}
		p.Description, _ = text(sub["description"])
		p.Description = clip(p.Description, maxDocs)
		p.Nullable = p.Type == anyType || p.Type == "None" || strings.HasSuffix(p.Type, orNone)
		if d := sub["default"]; len(d) > 0 && len(d) <= 100 && json.Valid(d) {
			p.Default = d
		}
		if p.Required {
			first = append(first, p)
		} else {
			rest = append(rest, p)
		}
	}
	list = append(first, rest...)
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	for i, a := range aliases(names) {
		list[i].Alias = a
	}
	switch more := string(bytes.TrimSpace(s["additionalProperties"])); more {
	case "false":
	case "":
		// Most schemas forget to say it. A misspelt argument is then more likely than one that is not named.
		open = !known
		for _, k := range []string{"patternProperties", "anyOf", "oneOf", "allOf", "if"} {
			open = open || s[k] != nil
		}
	default:
		open = true
	}
	return list, open
}

// returns is the Python type of what a tool returns in the sandbox, where an object that only holds a value is opened
// (data_of in values.py).
func returns(t *typer) string {
	s := t.resolve(t.root)
	if props, ok := members(s["properties"]); ok && len(props) == 1 && !isSchema(s["additionalProperties"]) {
		switch inner := t.typ(props[0].value, "Result", 1); {
		case props[0].name == "result":
			return inner
		case props[0].name == "content" && inner == t.builtin("str"): // opened if the text says the same, as some servers have it
			return inner + " | " + t.typ(t.root, "Result", 0)
		}
	}
	return t.typ(t.root, "Result", 0)
}

func isSchema(raw json.RawMessage) bool {
	s := string(bytes.TrimSpace(raw))
	return s != "" && s != "false"
}

// A typer writes schemas as Python types. It never fails: what it does not understand is Any.
type typer struct {
	root  json.RawMessage // where references begin
	nodes int
	work  *int // of all typers of a server, against maxTypeWork
	// class, if not nil, makes a class for an object with properties; it gets a unique name from name first.
	class func(name string, props []member, required []string, depth int)
	name  func(hint string) string
	refs  map[string]string // names of the classes of references
	// hidden are names of which something else has taken the place.
	hidden map[string]bool
}

// object is the members of a JSON object, nil for all else, and for more than what may be read.
func (t *typer) object(raw json.RawMessage) map[string]json.RawMessage {
	if *t.work += len(raw); *t.work > maxTypeWork {
		return nil
	}
	return object(raw)
}

func (t *typer) typ(raw json.RawMessage, hint string, depth int) string {
	if t.nodes++; t.nodes > maxTypeNodes || depth > maxTypeDepth {
		return anyType
	}
	s := t.object(raw)
	if ref, ok := text(s["$ref"]); ok {
		if name := t.refs[ref]; name != "" {
			return name
		}
		target := t.follow(ref)
		if to := t.object(target); t.class != nil && to["properties"] != nil {
			if t.refs == nil {
				t.refs = make(map[string]string)
			}
			t.refs[ref] = t.name(ref[strings.LastIndexByte(ref, '/')+1:])
			t.classOf(t.refs[ref], to, depth)
			return t.refs[ref]
		}
		return t.typ(target, hint, depth+1)
	}
	switch {
	case s == nil:
		return anyType
	case s["const"] != nil:
		return t.literal([]json.RawMessage{s["const"]})
	case s["enum"] != nil:
		return t.literal(elements(s["enum"]))
	}
	for _, k := range []string{"anyOf", "oneOf"} {
		if list := elements(s[k]); len(list) > 0 {
			var types []string
			for i, sub := range list[:min(len(list), 20)] {
				types = append(types, t.typ(sub, numbered(hint, i), depth+1))
			}
			return union(types)
		}
	}
	if list := elements(s["allOf"]); len(list) > 0 && s["properties"] == nil {
		for _, sub := range list[:min(len(list), 20)] {
			if name := t.typ(sub, hint, depth+1); name != anyType {
				return name
			}
		}
		return anyType
	}
	var types []string
	if one, ok := text(s["type"]); ok {
		types = []string{one}
	} else {
		for _, raw := range elements(s["type"]) {
			if one, ok := text(raw); ok && len(types) < 8 {
				types = append(types, one)
			}
		}
	}
	if len(types) == 0 && s["properties"] != nil {
		types = []string{"object"}
	}
	if len(types) == 0 {
		return anyType
	}
	for i, name := range types {
		types[i] = t.named(name, s, hint, depth)
	}
	return union(types)
}

// generic is list or dict of what is not known, which a type checker wants to be told and a reader does not.
func (t *typer) generic(name string) string {
	switch {
	case t.class == nil:
		return t.builtin(name)
	case name == "dict":
		return t.builtin(name) + "[" + t.builtin("str") + ", Any]"
	}
	return t.builtin(name) + "[Any]"
}

// builtin is a type of Python's by a name that means it.
func (t *typer) builtin(name string) string {
	if t.hidden[name] {
		return "builtins." + name
	}
	return name
}

func (t *typer) named(name string, s map[string]json.RawMessage, hint string, depth int) string {
	switch name {
	case "string":
		return t.builtin("str")
	case "integer":
		return t.builtin("int")
	case "number":
		return t.builtin("float")
	case "boolean":
		return t.builtin("bool")
	case "null":
		return "None"
	case "array":
		if s["items"] == nil {
			return t.generic("list")
		}
		return t.builtin("list") + "[" + t.typ(s["items"], hint+"Item", depth+1) + "]"
	case "object":
		if props, ok := members(s["properties"]); ok && len(props) > 0 {
			if t.class == nil {
				return t.generic("dict")
			}
			name := t.name(hint)
			if depth == 0 {
				t.refs = map[string]string{"#": name}
			}
			t.classOf(name, s, depth)
			return name
		}
		if more := t.object(s["additionalProperties"]); len(more) > 0 {
			return t.builtin("dict") + "[" + t.builtin("str") + ", " + t.typ(s["additionalProperties"], hint+"Value", depth+1) + "]"
		}
		return t.generic("dict")
	}
	return anyType
}

func (t *typer) classOf(name string, s map[string]json.RawMessage, depth int) {
	props, _ := members(s["properties"])
	t.class(name, props[:min(len(props), maxParams)], required(s), depth)
}

// required are the names of the properties that an object must have.
func required(schema map[string]json.RawMessage) (names []string) {
	for _, raw := range elements(schema["required"]) {
		if name, ok := text(raw); ok && len(names) < maxParams && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// follow is the schema that a reference within the same document means, nil if there is none.
func (t *typer) follow(ref string) json.RawMessage {
	rest, ok := strings.CutPrefix(ref, "#")
	if !ok || len(ref) > 500 {
		return nil
	}
	at := t.root
	for part := range strings.SplitSeq(strings.TrimPrefix(rest, "/"), "/") {
		if part == "" {
			continue
		}
		if plain, err := url.PathUnescape(part); err == nil { // it is a URI's fragment
			part = plain
		}
		at = t.object(at)[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	return at
}

// resolve is the schema as an object, with its references followed.
func (t *typer) resolve(raw json.RawMessage) map[string]json.RawMessage {
	for range maxTypeDepth {
		s := t.object(raw)
		ref, ok := text(s["$ref"])
		if !ok {
			return s
		}
		raw = t.follow(ref)
	}
	return nil
}

func numbered(hint string, i int) string {
	if i == 0 {
		return hint
	}
	return hint + strconv.Itoa(i+1)
}

const orNone = " | None"

func union(types []string) string {
	var out []string
	none := false
	for _, t := range types {
		t, optional := strings.CutSuffix(t, orNone)
		none = none || optional || t == "None"
		switch {
		case t == anyType:
			return anyType
		case t != "None" && !slices.Contains(out, t):
			out = append(out, t)
		}
	}
	switch {
	case len(out) == 0 && none:
		return "None"
	case len(out) == 0:
		return anyType
	case none:
		return strings.Join(out, " | ") + orNone
	}
	return strings.Join(out, " | ")
}

// literal is the type of one of these values. Of many, and of what Literal has not, it is what they are.
func (t *typer) literal(values []json.RawMessage) string {
	var out, kinds []string
	none, all := false, true
	for _, raw := range values {
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return anyType
		}
		switch v := v.(type) {
		case string:
			out, kinds = append(out, strconv.QuoteToASCII(v)), append(kinds, t.builtin("str"))
		case bool:
			out, kinds = append(out, map[bool]string{true: "True", false: "False"}[v]), append(kinds, t.builtin("bool"))
		case json.Number:
			kind := t.builtin("int")
			if strings.ContainsAny(v.String(), ".eE") {
				kind, all = t.builtin("float"), false
			}
			out, kinds = append(out, v.String()), append(kinds, kind)
			all = all && len(v) <= 20 // Python refuses to read one of 5000 digits
		case nil:
			none = true
		default:
			return anyType
		}
	}
	if none {
		kinds = append(kinds, "None")
	}
	if !all || len(out) == 0 || len(out) > 50 {
		return union(kinds)
	}
	if none {
		return "Literal[" + strings.Join(out, ", ") + "]" + orNone
	}
	return "Literal[" + strings.Join(out, ", ") + "]"
}

// A member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// members are those of a JSON object, in their order and each name once; not ok if raw is no object.
func members(raw json.RawMessage) (list []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	seen := make(map[string]bool)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return list, true
		}
		var m member
		m.name, _ = name.(string)
		if err := d.Decode(&m.value); err != nil {
			return list, true
		}
		if !seen[m.name] {
			seen[m.name] = true
			list = append(list, m)
		}
	}
	return list, true
}

func object(raw json.RawMessage) (m map[string]json.RawMessage) {
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

func elements(raw json.RawMessage) (list []json.RawMessage) {
	if len(raw) == 0 || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// clip is the beginning of s, at most n bytes, with a mark where it was cut.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
