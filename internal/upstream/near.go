package upstream

import (
	"fmt"
	"slices"
	"strings"
)

// maxSuggestions is how many names an error lists.
const maxSuggestions = 5

// suggest is what an error says of the names that there are: those close to the one given, or the first of them.
func suggest(name string, names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	type candidate struct {
		name     string
		distance int
	}
	var close []candidate
	asked := plain(name)
	for _, n := range names {
		p := plain(n)
		d := distance(asked, p)
		if asked != "" && p != "" && (strings.Contains(p, asked) || strings.Contains(asked, p)) {
			d = min(d, 2)
		}
		if d <= max(2, len(asked)/3) {
			close = append(close, candidate{n, d})
		}
	}
	slices.SortStableFunc(close, func(a, b candidate) int { return a.distance - b.distance })
	if len(close) > 0 {
		var quoted []string
		for _, c := range close[:min(len(close), maxSuggestions)] {
			quoted = append(quoted, fmt.Sprintf("%q", c.name))
		}
		return "did you mean " + strings.Join(quoted, " or ") + "?"
	}
	var quoted []string
	for _, n := range names[:min(len(names), 3*maxSuggestions)] {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	more := ""
	if rest := len(names) - len(quoted); rest > 0 {
		more = fmt.Sprintf(" and %d more", rest)
	}
	return "there are " + strings.Join(quoted, ", ") + more
}

// plain is a name without what people mix up.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_. /", r) {
			return -1
		}
		return r
	}, strings.ToLower(name[:min(len(name), 200)]))
}

// distance is how many letters are to be put in, taken out, changed or swapped with their neighbour.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
