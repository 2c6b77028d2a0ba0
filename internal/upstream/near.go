package upstream

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
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
		d := levenshtein.ComputeDistance(asked, p)
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
