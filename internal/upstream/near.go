package upstream

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// What is said of names: of those that are near, and of all.
const (
	maxNear   = 3
	maxListed = 20
	maxList   = 1000 // bytes
)

// Suggest is what an error says of the names that there are: those near to the one that was asked for, or the first of them.
// Without any it is none.
func Suggest(asked string, names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	quoted := func(names []string, between string) string {
		list := make([]string, len(names))
		for i, n := range names {
			list[i] = fmt.Sprintf("%q", n)
		}
		return strings.Join(list, between)
	}
	if list := near(asked, names); len(list) > 0 {
		return "did you mean " + quoted(list, " or ") + "?"
	}
	first := names[:min(len(names), maxListed)]
	more := ""
	if rest := len(names) - len(first); rest > 0 {
		more = fmt.Sprintf(" and %d more", rest)
	}
	return "there are " + cut(quoted(first, ", "), maxList) + more
}

// near are up to maxNear of the names that share most with the one that was asked for, the nearest first: the same but for case
// and punctuation, a part of each other, or few edits apart.
func near(asked string, names []string) (list []string) {
	const long = 100 // who asks for more has not mistyped a name; and the time it takes is the product of two lengths
	if len(asked) > long {
		return nil
	}
	plain := func(name string) string {
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune("-_. /", r) {
				return -1
			}
			return r
		}, strings.ToLower(name[:min(len(name), 2*long)]))
	}
	type match struct {
		name     string
		distance int
	}
	var matches []match
	want := plain(asked)
	for _, name := range names {
		have := plain(name)
		d := levenshtein.ComputeDistance(want, have)
		if len(want) > 2 && (strings.Contains(have, want) || len(have) > 2 && strings.Contains(want, have)) {
			d = min(d, 1)
		}
		if d <= max(1, len(want)/3) {
			matches = append(matches, match{name, d})
		}
	}
	slices.SortStableFunc(matches, func(a, b match) int { return a.distance - b.distance })
	for _, m := range matches[:min(maxNear, len(matches))] {
		list = append(list, m.name)
	}
	return list
}
