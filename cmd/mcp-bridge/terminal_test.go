package main

import (
	"bytes"
	"os"
	"testing"
)

func TestEscaper(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\r\n":            "plain\ttext\r\n",
		"Grüße, 世界 👋\u00a0.":         "Grüße, 世界 👋\u00a0.",
		"\x1b]52;c;cm0=\x07":         `\x1b]52;c;cm0=\x07`,
		"a\x00\x7f\b":                `a\x00\x7f\x08`,
		"\u009b31m":                  `\u009b31m`,
		"user\u202enimda\u2066":      `user\u202enimda\u2066`,
		"\U000e0041":                 `\U000e0041`,
		"bad \xff\xc3( and \xe2\x82": `bad \xff\xc3( and `, // the last may still become a character
	} {
		var whole, bytewise bytes.Buffer
		e := &escaper{w: &whole}
		if n, err := e.Write([]byte(in)); n != len(in) || err != nil {
			t.Errorf("%q: wrote %d, %v", in, n, err)
		}
		e = &escaper{w: &bytewise}
		for i := range len(in) {
			if _, err := e.Write([]byte{in[i]}); err != nil {
				t.Error(err)
			}
		}
		if whole.String() != want || bytewise.String() != want {
			t.Errorf("%q is shown as %q, byte by byte as %q, want %q", in, whole.String(), bytewise.String(), want)
		}
	}
}

// TestForTerminal: only a terminal gets less than the bytes.
func TestForTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if forTerminal(w) != w {
		t.Error("a pipe does not get the bytes as they are")
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	defer tty.Close()
	if _, ok := forTerminal(tty).(*escaper); !ok {
		t.Error("a terminal gets the bytes as they are")
	}
}
