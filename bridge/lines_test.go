package bridge

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      []string
	}{
		{"nothing", "", nil},
		{"one", "a\n", []string{"a"}},
		{"no newline at the end", "a\nb", []string{"a", "b"}},
		{"order and repetition", "b\na\nb\n", []string{"b", "a", "b"}},
		{"blank lines", "\n\na\n \t\n\u00a0\nb\n\n", []string{"a", "b"}},
		{"indentation and trailing blanks", "  a \n\tb\t\n", []string{"  a ", "\tb\t"}},
		{"windows", "a\r\nb\r\r\n", []string{"a", "b"}},
		{"progress bar", "  0%\r 50%\r100%\n", []string{"100%"}},
		{"progress bar that returns last", "  0%\r 50%\r100%\r\ndone\n", []string{"100%", "done"}},
		{"progress bar, wiped", "50%\r   \n", nil},
		{"invalid UTF-8", "a\xff\xfeb\xc3\n", []string{"a\uFFFDb\uFFFD"}},
		{"control characters stay", "\x1b[31mred\x1b[0m\x00\n", []string{"\x1b[31mred\x1b[0m\x00"}},
		{"other separators do not end a line", "a\u2028b\vc\fd\u0085e\n", []string{"a\u2028b\vc\fd\u0085e"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, linesOf([]byte(tt.raw))); diff != "" {
				t.Errorf("linesOf(%q) (-want +got):\n%s", tt.raw, diff)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "grüß\t\n\r 日本", "grüß\t\n\r 日本"},
		{"colour", "\x1b[1;31mred\x1b[0m.", "red."},
		{"truecolour with colons", "\x1b[38:2::1:2:3mx\x1b[m", "x"},
		{"cursor", "\x1b[2J\x1b[1;1Hx\x1b[?25l", "x"},
		{"link", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x07", "text"},
		{"title in C1", "\u009d0;title\u009cx", "x"},
		{"colour in C1", "\u009b31mx", "x"},
		{"device string", "\x1bPq#0\x1b\\x", "x"},
		{"character set", "\x1b(Bx\x1b7\x1b8", "x"},
		{"lone", "\x1b", "␛"},
		{"at the end", "x\x1b[", "x␛["},
		{"not finished", "\x1b[31", "␛[31"},
		{"broken off", "\x1b[31\x01m", "␛[31␁m"},
		{"title without end hides nothing", "\x1b]0;all of the output", "␛]0;all of the output"},
		{"title ends at the next", "\x1b]0;a\x1b[31mb", "␛]0;ab"},
		{"controls", "a\x00\x07\x08\x7f", "a␀␇␈␡"},
		{"C1 has no pictures", "a\u0080b", "a\uFFFDb"},
		{"lines by other means", "a\u0085b\u2028c\u2029d\ve\ff", "a␤b␤c␤d␋e␌f"},
		{"invalid UTF-8", "a\xffb", "a\uFFFDb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := printable(tt.in); got != tt.want {
				t.Errorf("printable(%q) = %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}

// A guest chooses what the host has to clean. The bound is loose: the quadratic forms of these take minutes.
func TestPrintableIsLinear(t *testing.T) {
	start := time.Now()
	for _, unit := range []string{"\x1b]", "\x1b[1", "\x1b]\u009d", "\u009d", "\x1bP\x1b", "\x1b(", "\x1b]\x1b]x", "\x1b]\xc2"} {
		if got := printable(strings.Repeat(unit, 1<<18)); !utf8.ValidString(got) {
			t.Errorf("%q: not valid UTF-8", unit)
		}
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}
