package bridge

import (
	"slices"
	"strconv"
	"strings"
)

// maxAlias bounds the Python name of a thing whose own name has no bound.
const maxAlias = 100

var keywords = []string{ // a literal, which costs no start anything
	"False", "None", "True", "and", "as", "assert", "async", "await", "break", "class",
	"continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global",
	"if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise",
	"return", "try", "while", "with", "yield",
}

// aliases are the Python identifiers for names: unique, no keywords, not of the form __x__ or __x, and the name itself
// wherever it is such a thing. They depend on nothing but the names, in their order; taken are those that none may get.
func aliases(names []string, taken ...string) []string {
	out := make([]string, len(names))
	used := make(map[string]bool, len(names)+len(taken))
	for _, t := range taken {
		used[t] = true
	}
	// Who is an identifier keeps its name, wherever in the list it stands.
	for i, n := range names {
		if identifier(n) == n && !used[n] {
			out[i], used[n] = n, true
		}
	}
	next := make(map[string]int) // of a base, so that a thousand equal names are no million tries
	for i, n := range names {
		if out[i] != "" {
			continue
		}
		base := identifier(n)
		alias := base
		for k := max(2, next[base]); used[alias]; k++ {
			alias = strings.TrimSuffix(base, "_") + "_" + strconv.Itoa(k) // of "_", not __2
			next[base] = k
		}
		out[i], used[alias] = alias, true
	}
	return out
}

// identifier is the Python identifier that is most like name.
func identifier(name string) string {
	var b strings.Builder
	for _, r := range name {
		if b.Len() >= maxAlias {
			break
		}
		if r == '_' || r >= '0' && r <= '9' || pythonLetter(r) {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	id := b.String()
	if strings.HasPrefix(id, "__") {
		// Python gives such names a meaning of its own, and mangles them inside of classes.
		id = strings.Trim(id, "_")
	}
	switch {
	case id == "":
		return "unnamed"
	case id[0] >= '0' && id[0] <= '9':
		return "_" + id
	case slices.Contains(keywords, id):
		return id + "_"
	}
	return id
}

// letters are ranges of characters that are letters to every Python, and that it leaves as they are when it normalises
// identifiers (NFKC): what getattr finds, source code finds too.
var letters = [][2]rune{
	{'A', 'Z'},
	{'a', 'z'},
	{0xc0, 0xd6},
	{0xd8, 0xf6},
	{0xf8, 0x131},
	{0x134, 0x13e},
	{0x141, 0x148},
	{0x14a, 0x17e},
	{0x388, 0x38a},
	{0x38e, 0x3a1},
	{0x3a3, 0x3ce},
	{0x400, 0x481},
	{0x48a, 0x527},
	{0x5d0, 0x5ea},
	{0x621, 0x63a},
	{0x641, 0x64a},
	{0x3041, 0x3096},
	{0x30a1, 0x30fa},
	{0x4e00, 0x9fcb},
	{0xac00, 0xd7a3},
}

func pythonLetter(r rune) bool {
	return slices.ContainsFunc(letters, func(l [2]rune) bool { return r >= l[0] && r <= l[1] })
}
