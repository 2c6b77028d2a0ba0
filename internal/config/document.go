package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/tailscale/hujson"
	"go.yaml.in/yaml/v3"
)

// A document is what a file says, whatever it is written in: nil, bool, number, string, []any and object.
type (
	object = map[string]any
	number string // as it is written
)

const (
	maxDepth  = 200
	maxValues = 200_000 // of one document; YAML's aliases make many of few bytes
	maxTyped  = 1 << 20 // bytes of TOML and YAML, whose readers take more time for a byte
)

// A syntaxError is where a file cannot be read. Line and column count from one, the column in bytes; 0 is unknown.
type syntaxError struct {
	line, column int
	text         string
}

func (e *syntaxError) Error() string { return e.text }

func wrong(b []byte, offset int, text string) error {
	offset = max(0, min(offset, len(b)))
	return &syntaxError{1 + bytes.Count(b[:offset], []byte("\n")), offset - bytes.LastIndexByte(b[:offset], '\n'), text}
}

// A format is what a file is written in, where its name does not say.
type format int

const (
	strict  format = iota // JSON
	lenient               // JSON with comments and trailing commas
)

// parse reads a file, and may change b. Of the keys at the top, only those that keep wants are kept; nil wants all. Notes are what is
// not an error but should be known.
func parse(name string, b []byte, f format, keep func(key ...string) bool) (doc any, notes []string, err error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if !utf8.Valid(b) {
		at := 0
		for at < len(b) {
			r, n := utf8.DecodeRune(b[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return nil, nil, wrong(b, at, "it is not UTF-8")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return object{}, nil, nil // editors and installers make empty files
	}
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".toml", ".yaml", ".yml":
		if len(b) > maxTyped {
			return nil, nil, tooBig(maxTyped)
		}
		if ext == ".toml" {
			doc, err = parseTOML(b)
		} else {
			doc, err = parseYAML(b)
		}
		prune(doc, keep)
		return doc, nil, err
	case ".jsonc":
		f = lenient
	}
	return parseJSON(b, f, keep)
}

// prune removes the keys that keep does not want.
func prune(doc any, keep func(key ...string) bool) {
	top, ok := doc.(object)
	if !ok || keep == nil {
		return
	}
	for key, v := range top {
		if !keep(key) {
			delete(top, key)
		} else if inner, ok := v.(object); ok {
			maps.DeleteFunc(inner, func(k string, _ any) bool { return !keep(key, k) })
		}
	}
}

func parseJSON(b []byte, f format, keep func(key ...string) bool) (doc any, notes []string, err error) {
	if keep != nil {
		thin(b, keep)
	}
	if at := tooDeep(b); at >= 0 {
		return nil, nil, wrong(b, at, "it is nested too deeply")
	}
	v, err := hujson.Parse(b)
	if errors.Is(err, io.ErrUnexpectedEOF) { // a comment at the end need not end its line, but hujson wants that
		if ended, err2 := hujson.Parse(append(slices.Clip(b), '\n')); err2 == nil {
			v, err = ended, nil
		}
	}
	if err != nil {
		return nil, nil, hujsonError(err)
	}
	if f == strict && !v.IsStandard() {
		offset := len(b)
		var raw json.RawMessage
		if s := (*json.SyntaxError)(nil); errors.As(json.Unmarshal(b, &raw), &s) {
			offset = int(s.Offset) - 1
		}
		return nil, nil, wrong(b, offset, "it has a comment or a trailing comma, which this program does not allow")
	}
	r := jsonReader{keep: keep, src: b}
	return r.value(v, nil), r.notes, nil
}

// hujsonError takes the place out of the message.
func hujsonError(err error) error {
	text := err.Error()
	if before, _, found := strings.Cut(text, "invalid literal: "); found {
		text = before + "invalid literal" // itself it may be a secret without its quotes
	}
	place := regexp.MustCompile(`^hujson: line (\d+), column (\d+): `).FindStringSubmatch(text)
	if place == nil {
		return &syntaxError{text: text}
	}
	line, _ := strconv.Atoi(place[1])
	column, _ := strconv.Atoi(place[2])
	return &syntaxError{line, column, text[len(place[0]):]}
}

// tooDeep finds where JSON, with comments or without, is nested deeper than what reads it should be asked to follow.
// It is -1 if it is not.
func tooDeep(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return i
			}
		case '}', ']':
			depth--
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '/':
			if n := comment(b[i:]); n > 0 {
				i += n - 1
			}
		}
	}
	return -1
}

type jsonReader struct {
	keep  func(key ...string) bool
	src   []byte
	notes []string
}

func (r *jsonReader) value(v hujson.Value, at []string) any {
	switch v := v.Value.(type) {
	case *hujson.Object:
		t := make(object, len(v.Members))
		for _, m := range v.Members {
			literal, _ := m.Name.Value.(hujson.Literal)
			key := literal.String()
			at := append(at, key)
			if r.keep != nil && len(at) <= 2 && !r.keep(at...) {
				continue
			}
			if _, twice := t[key]; twice && len(r.notes) < 10 {
				line := 1 + bytes.Count(r.src[:m.Name.StartOffset], []byte("\n"))
				r.notes = append(r.notes, fmt.Sprintf("%q is there twice (line %d); the last one counts", key, line))
			}
			t[key] = r.value(m.Value, at)
		}
		return t
	case *hujson.Array:
		list := make([]any, len(v.Elements))
		for i, e := range v.Elements {
			list[i] = r.value(e, append(at, "", "")) // nothing is left out in lists
		}
		return list
	case hujson.Literal:
		switch v.Kind() {
		case 'n':
			return nil
		case 't', 'f':
			return v.Bool()
		case '0':
			return number(v)
		}
		return v.String()
	}
	return nil
}

func parseTOML(b []byte) (any, error) {
	var doc object
	if err := toml.Unmarshal(b, &doc); err != nil {
		if d := (*toml.DecodeError)(nil); errors.As(err, &d) {
			line, column := d.Position()
			return nil, &syntaxError{line, column, strings.TrimPrefix(d.Error(), "toml: ")}
		}
		return nil, &syntaxError{text: err.Error()}
	}
	return fromTOML(doc, 0)
}

var errDeep = errors.New("it is nested too deeply")

func fromTOML(v any, depth int) (_ any, err error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	switch v := v.(type) {
	case object:
		for key := range v {
			if v[key], err = fromTOML(v[key], depth+1); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = fromTOML(v[i], depth+1); err != nil {
				return nil, err
			}
		}
	case int64:
		return number(strconv.FormatInt(v, 10)), nil
	case float64:
		return number(strconv.FormatFloat(v, 'f', -1, 64)), nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case toml.LocalDate, toml.LocalTime, toml.LocalDateTime:
		return fmt.Sprint(v), nil
	}
	return v, nil
}

func parseYAML(b []byte) (any, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		e := &syntaxError{text: text}
		if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
			e.line, _ = strconv.Atoi(m[1])
			e.text = text[len(m[0]):]
		}
		return nil, e
	}
	r := yamlReader{left: maxValues}
	return r.value(&n, 0)
}

type yamlReader struct{ left int }

func at(n *yaml.Node, format string, args ...any) error {
	return &syntaxError{n.Line, n.Column, fmt.Sprintf(format, args...)}
}

func (r *yamlReader) value(n *yaml.Node, depth int) (any, error) {
	if depth > maxDepth {
		return nil, at(n, "it is nested too deeply, or without end")
	}
	if r.left--; r.left < 0 {
		return nil, at(n, "it has more than %d values", maxValues)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 1 {
			return r.value(n.Content[0], depth+1)
		}
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := r.value(c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return r.mapping(n, depth)
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return nil, nil
		case "!!bool":
			var b bool
			if err := n.Decode(&b); err != nil {
				return nil, at(n, "%q is neither true nor false", n.Value)
			}
			return b, nil
		case "!!int", "!!float":
			return number(n.Value), nil
		}
		return n.Value, nil
	}
	return nil, nil
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) (any, error) {
	t := make(object, len(n.Content)/2)
	var merged []any
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		v, err := r.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if k.ShortTag() == "!!merge" {
			if list, ok := v.([]any); ok {
				merged = append(merged, list...)
			} else {
				merged = append(merged, v)
			}
			continue
		}
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return nil, at(k, "a key is not text")
		}
		if _, twice := t[k.Value]; twice {
			return nil, at(k, "%q is there twice", k.Value)
		}
		t[k.Value] = v
	}
	for _, m := range merged {
		from, ok := m.(object)
		if !ok {
			return nil, at(n, "<< does not name a mapping")
		}
		for key, v := range from {
			if _, ok := t[key]; !ok {
				t[key] = v
			}
		}
	}
	return t, nil
}
