package cli

import (
	"strconv"
	"strings"
	"unicode"
)

// printableLine is a line without what a terminal would obey.
func printableLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " ")))
}

// lastLines is what a program printed last, on one line: for an error to quote.
func lastLines(text string) string {
	const most = 500
	var lines []string
	for line := range strings.Lines(text) {
		// runc: time="..." level=error msg="..."
		if _, msg, ok := strings.Cut(line, ` msg="`); ok {
			if s, err := strconv.QuotedPrefix(`"` + msg); err == nil {
				line, _ = strconv.Unquote(s)
			}
		}
		if line = printableLine(line); line != "" {
			lines = append(lines, line)
		}
	}
	last := strings.Join(lines[max(0, len(lines)-4):], "; ")
	if len(last) > most {
		last = "..." + strings.ToValidUTF8(last[len(last)-most:], "")
	}
	if last == "" {
		return "nothing"
	}
	return last
}
