package bridge

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// linesOf makes the lines of a result from what a script wrote to one stream.
//
// A line ends at "\n" or "\r\n". Of a line with lone carriage returns only the text behind the last one stays, as on a
// terminal, where each writes over what was before it: a progress bar is its final state, not a thousand drawings.
// Lines of white space are dropped, for a model pays for each; indentation and trailing blanks of the others stay.
// Bytes that are not UTF-8 become U+FFFD, one for each run of them. Other control characters stay as they are.
func linesOf(raw []byte) []string {
	var lines []string
	for line := range strings.SplitSeq(string(raw), "\n") {
		line = strings.TrimRight(line, "\r")
		line = line[strings.LastIndexByte(line, '\r')+1:]
		if strings.TrimSpace(line) == "" {
			continue
		}
		lines = append(lines, strings.ToValidUTF8(line, "\uFFFD"))
	}
	return lines
}

// printable makes guest text fit for a text that people and models read: escape sequences of terminals are dropped,
// control characters are shown as their pictures (U+2400..) or, having none, as U+FFFD, and separators of lines that
// are not "\n" as U+2424. Tab, "\n" and "\r" stay for the encoder or the caller. Invalid UTF-8 becomes U+FFFD.
//
// It takes time linear in s, whatever s is: no sequence is looked at twice.
func printable(s string) string {
	clean := true
	for _, r := range s {
		if pictured(r) != r || r == utf8.RuneError {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		if n := escapeSequence(s[i:]); n > 0 {
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		b.WriteRune(pictured(r))
		i += size
	}
	return b.String()
}

// oneLine is printable for where a line break would make two lines of one.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(printable(s), "\r", "␍"), "\n", "␊")
}

func pictured(r rune) rune {
	switch {
	case r == '\t' || r == '\n' || r == '\r':
		return r
	case r < 0x20:
		return 0x2400 + r
	case r == 0x7f:
		return '\u2421'
	case r == 0x85 || r == 0x2028 || r == 0x2029:
		return '\u2424'
	case unicode.IsControl(r) || turnsDirection(r):
		return utf8.RuneError
	}
	return r
}

// turnsDirection says that r makes what follows be read from the other side (embeddings, overrides, isolates): a line
// with one shows other words than it has. The marks, which only a neighbour obeys, are what real text needs.
func turnsDirection(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// escapeSequence is the length of the terminal sequence of ECMA-48 that s begins with, or zero. One that is not
// finished within its own kind of bytes is none: its ESC is then shown, and no text behind it is lost.
func escapeSequence(s string) int {
	var kind byte
	i := 0
	switch {
	case len(s) > 1 && s[0] == 0x1b:
		kind, i = s[1], 2
	case len(s) > 1 && s[0] == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f:
		kind, i = s[1]-0x40, 2 // the same in one character, U+0080..U+009F
		if kind != '[' && kind != ']' {
			return 0
		}
	default:
		return 0
	}
	switch {
	case kind == '[': // CSI: colours, cursor
		i = skip(s, i, 0x30, 0x3f)
		i = skip(s, i, 0x20, 0x2f)
		if i < len(s) && s[i] >= 0x40 && s[i] <= 0x7e {
			return i + 1
		}
	case kind == ']' || kind == 'P' || kind == 'X' || kind == '^' || kind == '_': // OSC: titles, links; device strings
		// Text up to BEL or ST (ESC \ or U+009C). It holds no control characters, so the search ends at any of them.
		for ; i < len(s); i++ {
			switch {
			case s[i] == 0x07:
				return i + 1
			case s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\':
				return i + 2
			case s[i] == 0xc2 && i+1 < len(s) && s[i+1] == 0x9c:
				return i + 2
			case s[i] < 0x20 || s[i] == 0xc2 && i+1 < len(s) && s[i+1] >= 0x80 && s[i+1] <= 0x9f:
				return 0
			}
		}
	case kind >= 0x20 && kind <= 0x2f: // character sets
		i = skip(s, i, 0x20, 0x2f)
		if i < len(s) && s[i] >= 0x30 && s[i] <= 0x7e {
			return i + 1
		}
	case kind >= 0x30 && kind <= 0x7e: // one character: save the cursor, reset
		return i
	}
	return 0
}

// skip passes the bytes of s from i on that are within the bounds.
func skip(s string, i int, least, most byte) int {
	for i < len(s) && s[i] >= least && s[i] <= most {
		i++
	}
	return i
}
