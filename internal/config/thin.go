package config

import (
	"bytes"
	"strings"
)

// thin puts a 0 in the place of each value of a JSON document that keep does not want, and spaces for the rest of it,
// so that what is wanted stays where it is. Claude Code's file is megabytes of history around a few servers: it would
// take its reader longer than all else together. What is broken is left to the reader, which says where.
func thin(b []byte, keep func(key ...string) bool) {
	t := thinner{b: b, keep: keep}
	t.space()
	t.object("")
}

type thinner struct {
	b    []byte
	i    int
	keep func(key ...string) bool
}

// next is the byte that comes, 0 at the end.
func (t *thinner) next() byte {
	if t.i < len(t.b) {
		return t.b[t.i]
	}
	return 0
}

// object goes through the members of the whole document, or of what stands under a key of it.
func (t *thinner) object(under string) bool {
	if t.next() != '{' {
		return false
	}
	t.i++
	for {
		t.space()
		if t.next() == '}' {
			t.i++
			return true
		}
		start := t.i
		if t.next() != '"' || !t.skip() {
			return false
		}
		key := string(t.b[start+1 : t.i-1])
		t.space()
		if t.next() != ':' {
			return false
		}
		t.i++
		t.space()
		if !t.member(under, key) {
			return false
		}
		t.space()
		if t.next() == ',' {
			t.i++
		}
	}
}

func (t *thinner) member(under, key string) bool {
	at := []string{under, key}
	if under == "" {
		at = at[1:]
	}
	start := t.i
	switch {
	case strings.Contains(key, `\`) || key == "": // read by who can
		return t.skip()
	case !t.keep(at...):
		if !t.skip() {
			return false
		}
		for n := start; n < t.i; n++ {
			if t.b[n] != '\n' {
				t.b[n] = ' '
			}
		}
		t.b[start] = '0'
		return true
	case under == "" && t.next() == '{':
		return t.object(key)
	}
	return t.skip()
}

// space goes over white space and comments.
func (t *thinner) space() {
	for t.i < len(t.b) {
		switch c := t.b[t.i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			t.i++
		case c == '/':
			n := comment(t.b[t.i:])
			if n == 0 {
				return
			}
			t.i += n
		default:
			return
		}
	}
}

// comment is the length of the comment that b begins with, 0 if it does not or if it has no end.
func comment(b []byte) int {
	if bytes.HasPrefix(b, []byte("//")) {
		return bytes.IndexByte(b, '\n') + 1
	}
	if bytes.HasPrefix(b, []byte("/*")) {
		if end := bytes.Index(b[2:], []byte("*/")); end >= 0 {
			return end + 4
		}
	}
	return 0
}

// skip goes over one value, if that has an end.
func (t *thinner) skip() bool {
	start, depth := t.i, 0
	for t.i < len(t.b) {
		switch c := t.b[t.i]; c {
		case '"':
			if t.i++; !t.text() {
				return false
			}
		case '{', '[':
			depth++
			t.i++
			continue
		case '}', ']':
			if depth == 0 {
				return t.i > start
			}
			depth--
			t.i++
		case '/':
			n := comment(t.b[t.i:])
			if n == 0 {
				return false
			}
			t.i += n
			continue
		case ' ', '\t', '\r', '\n', ',', ':':
			if depth == 0 {
				return t.i > start
			}
			t.i++
			continue
		default:
			t.i++
			continue
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

// text goes to behind the quote that ends a text.
func (t *thinner) text() bool {
	for {
		n := bytes.IndexByte(t.b[t.i:], '"')
		if n < 0 {
			return false
		}
		t.i += n + 1
		escapes := 0
		for t.b[t.i-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return true
		}
	}
}
