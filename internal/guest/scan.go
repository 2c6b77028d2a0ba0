package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// encoding/json is too lax for the bytes of an attacker: it takes the last of two fields with the same name, matches
// names in any case, and replaces invalid UTF-8. What it accepts and a tool's server reads otherwise is a hole. So a
// frame is first scanned here: strictly, in one pass, with bounded depth and memory.

// maxNames bounds the field names that are held at once to find duplicates: those of the objects open at one point.
const maxNames = 1 << 18

type field struct {
	name string
	raw  []byte // the value's text, a slice of the frame
}

// scanner walks JSON text. It reports the first deviation from the grammar of RFC 8259.
type scanner struct {
	b     []byte
	i     int
	depth int
	names int
	// lax allows an object to have a field twice; for text of others that is passed on to the guest only.
	lax bool
}

// scanObject checks that b is one JSON object, valid in every respect, and returns its fields.
func scanObject(b []byte) ([]field, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("invalid UTF-8")
	}
	s := scanner{b: b}
	s.space()
	if s.i == len(b) || b[s.i] != '{' {
		return nil, errors.New("not a JSON object")
	}
	var fields []field
	if err := s.object(&fields); err != nil {
		return nil, err
	}
	return fields, s.end()
}

// checkValue reports whether b is one valid JSON value within the depth that a frame may have around it.
func checkValue(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("invalid UTF-8")
	}
	s := scanner{b: b, lax: true, depth: 1}
	s.space()
	if err := s.value(); err != nil {
		return err
	}
	return s.end()
}

func (s *scanner) end() error {
	s.space()
	if s.i < len(s.b) {
		return fmt.Errorf("trailing %s", s.here())
	}
	return nil
}

// here quotes what comes next.
func (s *scanner) here() string {
	if s.i >= len(s.b) {
		return "end of frame"
	}
	return clip(string(s.b[s.i:min(len(s.b), s.i+20)]))
}

func (s *scanner) unexpected() error { return fmt.Errorf("invalid JSON at %s", s.here()) }

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\r' || s.b[s.i] == '\n') {
		s.i++
	}
}

// next skips space and then c, or reports false.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) value() error {
	s.space()
	if s.i == len(s.b) {
		return s.unexpected()
	}
	switch c := s.b[s.i]; c {
	case '{':
		return s.object(nil)
	case '[':
		return s.array()
	case '"':
		_, err := s.text()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) enter() error {
	s.i++
	s.depth++
	if s.depth > MaxDepth {
		return fmt.Errorf("nested more than %d deep", MaxDepth)
	}
	return nil
}

func (s *scanner) array() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer func() { s.depth-- }()
	if s.next(']') {
		return nil
	}
	for {
		if err := s.value(); err != nil {
			return err
		}
		if s.next(']') {
			return nil
		}
		if !s.next(',') {
			return s.unexpected()
		}
	}
}

// object walks an object; fields, if not nil, takes its fields.
func (s *scanner) object(fields *[]field) error {
	if err := s.enter(); err != nil {
		return err
	}
	before := s.names
	defer func() { s.depth--; s.names = before }()
	if s.next('}') {
		return nil
	}
	var seen nameSet
	for {
		s.space()
		if s.i == len(s.b) || s.b[s.i] != '"' {
			return s.unexpected()
		}
		quoted, err := s.text()
		if err != nil {
			return err
		}
		var name string
		if !s.lax || fields != nil {
			if name, err = unquote(quoted); err != nil {
				return err
			}
			if s.names++; s.names > maxNames {
				return fmt.Errorf("more than %d fields", maxNames)
			}
			if !seen.add(name) {
				return fmt.Errorf("duplicate field %s", clip(name))
			}
		}
		if !s.next(':') {
			return s.unexpected()
		}
		s.space()
		start := s.i
		if err := s.value(); err != nil {
			return err
		}
		if fields != nil {
			if len(*fields) == 16 {
				return errors.New("too many fields")
			}
			*fields = append(*fields, field{name, s.b[start:s.i]})
		}
		if s.next('}') {
			return nil
		}
		if !s.next(',') {
			return s.unexpected()
		}
	}
}

// text walks a string and returns it with its quotes.
func (s *scanner) text() ([]byte, error) {
	start := s.i
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start:s.i], nil
		case c < 0x20:
			return nil, errors.New("control character in a string")
		case c == '\\':
			s.i++
			if s.i == len(s.b) {
				return nil, s.unexpected()
			}
			if s.b[s.i] == 'u' {
				if len(s.b)-s.i < 5 || !isHex(s.b[s.i+1:s.i+5]) {
					return nil, errors.New("invalid escape in a string")
				}
				s.i += 4
			} else if bytes.IndexByte([]byte(`"\/bfnrt`), s.b[s.i]) < 0 {
				return nil, errors.New("invalid escape in a string")
			}
		}
	}
	return nil, s.unexpected()
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return s.unexpected()
	}
	s.i += len(word)
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) at(chars string) bool {
	return s.i < len(s.b) && bytes.IndexByte([]byte(chars), s.b[s.i]) >= 0
}

func (s *scanner) number() error {
	start := s.i
	fail := func() error { s.i = start; return s.unexpected() }
	if s.at("-") {
		s.i++
	}
	if s.at("0") {
		s.i++
	} else if !s.digits() {
		return fail()
	}
	if s.at(".") {
		if s.i++; !s.digits() {
			return fail()
		}
	}
	if s.at("eE") {
		if s.i++; s.at("+-") {
			s.i++
		}
		if !s.digits() {
			return fail()
		}
	}
	return nil
}

// nameSet is a set of strings that costs nothing while it is small, as most are.
type nameSet struct {
	few  []string
	many map[string]struct{}
}

func (n *nameSet) add(name string) bool {
	if n.many == nil {
		for _, f := range n.few {
			if f == name {
				return false
			}
		}
		if n.few = append(n.few, name); len(n.few) > 16 {
			n.many = make(map[string]struct{}, 2*len(n.few))
			for _, f := range n.few {
				n.many[f] = struct{}{}
			}
			n.few = nil
		}
		return true
	}
	if _, ok := n.many[name]; ok {
		return false
	}
	n.many[name] = struct{}{}
	return true
}

// unquote returns the text of a JSON string that text has accepted.
func unquote(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var text string
	err := json.Unmarshal(quoted, &text)
	return text, err
}

// clip quotes text of the guest for a message, cut to 100 bytes.
func clip(text string) string {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return fmt.Sprintf("%q", text)
}
