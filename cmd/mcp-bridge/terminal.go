package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"unicode"
	"unicode/utf8"
)

// writeJSON writes what a program is to read, and people may.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// forTerminal is f, or if f is a terminal what shows a script's output there: a terminal obeys what it is told by escape
// sequences (titles, the clipboard by OSC 52, keystrokes as answers), and bidirectional controls show one text as
// another. In a file or a pipe the bytes are the script's own.
func forTerminal(f *os.File) io.Writer {
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return f
	}
	return &escaper{w: f}
}

// An escaper writes text with everything that would steer a terminal as \x1b, \u202e and the like. Only the new
// line, the tab and the carriage return (of progress bars) stay.
type escaper struct {
	w    io.Writer
	rest []byte // the beginning of a character whose end has not been written yet
}

func (e *escaper) Write(p []byte) (int, error) {
	b := append(e.rest, p...) // rest is not used any more
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 && utf8.FullRune(b) {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, b[0])
		case r == '\n' || r == '\t' || r == '\r' || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r):
			out = append(out, b[:n]...)
		case r < 0x80:
			out = fmt.Appendf(out, `\x%02x`, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = fmt.Appendf(out, `\U%08x`, r)
		}
		b = b[n:]
	}
	e.rest = append([]byte(nil), b...)
	if _, err := e.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
