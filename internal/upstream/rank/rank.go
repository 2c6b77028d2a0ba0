// Package rank searches descriptions of tools: BM25 over fields of different weight, with stems, words that mean the
// same, and tolerance for typing errors. It says nothing when nothing fits.
package rank

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// A Document is a tool. Only names and descriptions are read of its schema.
type Document struct {
	Name, Title, Text string
	Schema            json.RawMessage
}

// A Hit is a document that was found.
type Hit struct {
	Group, Name string
	Score       float64
}

// The weights of the fields, and BM25's constants.
const (
	weightName, weightTitle, weightText, weightParameter, weightHint, weightGroup = 5.0, 3.0, 1.5, 1.2, 0.5, 1.5

	k1, b = 1.2, 0.6
	// What a word that is only alike, or only close to one that is there, counts for.
	likeness, closeness = 0.45, 0.6
	// enough is the part of the query, by the weight of its words, that a document must have. Of a long sentence, most of
	// which says nothing of the tool, it is that part of so many words.
	enough, sentence = 0.34, 5
)

const (
	maxText  = 4 << 10 // of a description
	maxDepth = 6       // of a schema
	maxWords = 400     // of a document
	maxTimes = 2       // that a word of one text counts: more is not said by saying it more often
	maxQuery = 16      // words
	maxRun   = 5       // words in a row of a name
	maxRuns  = 12      // words of a name that are looked at for that: a server has thousands of names, of a thousand bytes each
	maxWord  = 24      // bytes of one that spelling is looked at
)

// An Index is safe for concurrent use.
type Index struct {
	mu     sync.Mutex
	groups map[string][]*entry
	dirty  bool
	// What follows is made anew when the groups have changed.
	all      []*entry
	postings map[string][]posting
	spelt    []string            // all words, sorted
	short    map[string][]string // words by what is left without one letter
	run      map[string][]string // words in a row of a name, by what they are without spaces: getcards, pullrequest
	length   float64             // mean
	alike    map[string][]string
}

type entry struct {
	group, name string
	plain       string             // the name in words
	weights     map[string]float64 // by term
	words       []string           // as they are spelt
	length      float64
}

type posting struct {
	doc    int
	weight float64
}

// New makes an empty index.
func New() *Index { return &Index{groups: make(map[string][]*entry)} }

// Set replaces a group's documents.
func (x *Index) Set(group string, documents []Document) {
	entries := make([]*entry, len(documents))
	for i, d := range documents {
		entries[i] = newEntry(group, d)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.groups[group], x.dirty = entries, true
}

func newEntry(group string, d Document) *entry {
	e := &entry{group: group, name: d.Name, plain: strings.Join(words(d.Name), " "), weights: make(map[string]float64)}
	count := 0
	add := func(split func(string) []string, text string, weight float64) {
		if len(text) > maxText {
			text = text[:maxText]
		}
		times := make(map[string]int)
		for _, w := range split(text) {
			if stop(w) {
				continue
			}
			if count++; count > maxWords {
				return
			}
			e.words = append(e.words, w)
			e.length += weight
			t := stem(w)
			if times[t]++; times[t] <= maxTimes {
				e.weights[t] += weight
			}
		}
	}
	add(words, d.Name, weightName)
	add(words, d.Title, weightTitle)
	add(words, group, weightGroup)
	// The first sentence says what a tool does, the rest how.
	first, rest, _ := strings.Cut(d.Text, ".")
	add(prose, first, weightText)
	add(prose, rest, weightText/2)
	var schema any
	if json.Unmarshal(d.Schema, &schema) == nil {
		parameters(schema, 0, add)
	}
	return e
}

// parameters adds the names and descriptions of a schema's properties.
func parameters(schema any, depth int, add func(func(string) []string, string, float64)) {
	object, ok := schema.(map[string]any)
	if !ok || depth > maxDepth {
		return
	}
	properties, _ := object["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) { // of too many words the same ones each time
		p := properties[name]
		add(words, name, weightParameter)
		if of, ok := p.(map[string]any); ok {
			if text, ok := of["description"].(string); ok {
				add(prose, text, weightHint)
			}
			parameters(of, depth+1, add)
		}
	}
	parameters(object["items"], depth+1, add)
}

// build makes what a search needs; x.mu is held.
func (x *Index) build() {
	x.all, x.postings, x.length = nil, make(map[string][]posting), 0
	for _, name := range slices.Sorted(maps.Keys(x.groups)) {
		x.all = append(x.all, x.groups[name]...)
	}
	for i, e := range x.all {
		x.length += e.length / float64(len(x.all))
		for t, w := range e.weights {
			x.postings[t] = append(x.postings[t], posting{i, w})
		}
	}
	seen := make(map[string]bool)
	x.spelt, x.short, x.run = nil, make(map[string][]string), make(map[string][]string)
	for _, e := range x.all {
		name := strings.Fields(e.plain)
		name = name[:min(len(name), maxRuns)]
		for i := range name {
			for j := i + 2; j <= min(i+maxRun, len(name)); j++ {
				x.run[strings.Join(name[i:j], "")] = name[i:j]
			}
		}
		for _, w := range e.words {
			if first, _ := utf8.DecodeRuneInString(w); seen[w] || len(w) < 4 || len(w) > maxWord || dense(first) {
				continue
			}
			seen[w] = true
			x.spelt = append(x.spelt, w)
			for shorter := range without(w) {
				x.short[shorter] = append(x.short[shorter], w)
			}
		}
	}
	slices.Sort(x.spelt)
	if x.alike == nil {
		x.alike = make(map[string][]string)
		for _, same := range alike {
			for _, a := range same {
				for _, b := range same {
					if a, b := stem(a), stem(b); a != b {
						x.alike[a] = append(x.alike[a], b)
					}
				}
			}
		}
	}
	x.dirty = false
}

// Search ranks the documents, at most limit of them. The names of documents and groups count as they are, too.
func (x *Index) Search(query string, limit int) []Hit {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.dirty {
		x.build()
	}
	asked := x.asked(query)
	if len(asked) == 0 || len(x.all) == 0 || limit <= 0 {
		return nil
	}
	scores, covered := make([]float64, len(x.all)), make([]float64, len(x.all))
	best := make([]float64, len(x.all)) // of one word of the query
	part := make([]float64, len(x.all))
	total := 0.0
	for _, w := range asked {
		clear(best)
		clear(part)
		weight := x.weight(w)
		for variant, factor := range w.variants {
			idf := min(x.idf(variant), weight) // what is only alike says no more than the word itself
			for _, p := range x.postings[variant] {
				norm := k1 * (1 - b + b*x.all[p.doc].length/x.length)
				s := factor * idf * p.weight * (k1 + 1) / (p.weight + norm)
				best[p.doc] = max(best[p.doc], s)
				part[p.doc] = max(part[p.doc], math.Sqrt(factor))
			}
		}
		total += weight
		for i, s := range best {
			scores[i] += s
			covered[i] += weight * part[i]
		}
	}
	needed := enough * min(total, sentence*math.Log(1+float64(len(x.all))))
	var hits []Hit
	whole := strings.Join(words(query), " ")
	for i, s := range scores {
		e := x.all[i]
		exact := e.plain == whole
		if s <= 0 || !exact && covered[i] < needed {
			continue
		}
		s *= covered[i] / total
		if exact {
			s *= 2
		}
		hits = append(hits, Hit{e.group, e.name, s})
	}
	slices.SortStableFunc(hits, func(a, b Hit) int { return cmp.Compare(b.Score, a.Score) })
	return hits[:min(len(hits), limit)]
}

// idf is how much a term says: the fewer have it, the more.
func (x *Index) idf(term string) float64 {
	n, all := float64(len(x.postings[term])), float64(len(x.all))
	return math.Log(1 + (all-n+0.5)/(n+0.5))
}

// weight is a word's part of a query: as much as the term says that is most like it.
func (x *Index) weight(w wanted) float64 {
	weight, likest := 0.0, 0.0
	for variant, factor := range w.variants {
		if idf := x.idf(variant) * min(1, 2*factor); factor > likest || factor == likest && idf > weight {
			weight, likest = idf, factor
		}
	}
	if likest > 0 {
		return weight
	}
	nowhere := math.Log(1 + float64(len(x.all)))
	if dense(w.first) {
		return nowhere / 2 // more likely the end of one word and the beginning of the next
	}
	return nowhere
}

// A wanted is a word of a query.
type wanted struct {
	first    rune
	variants map[string]float64 // the terms that it finds, and what they count for
}

// asked are the words of a query, in its order. What is one word there may be two in a document, and the other way round.
func (x *Index) asked(query string) (list []wanted) {
	all := words(query)
	all = all[:min(len(all), 4*maxQuery)]
	silent := !slices.ContainsFunc(all, func(w string) bool { return !stop(w) })
	seen := make(map[string]bool)
	ask := func(w string, joined ...string) {
		if seen[w] || len(list) == maxQuery {
			return
		}
		seen[w] = true
		first, _ := utf8.DecodeRuneInString(w)
		asked := wanted{first, x.variants(w)}
		for _, j := range joined {
			asked.variants[stem(j)] = 1
		}
		list = append(list, asked)
	}
	for i, w := range all {
		var joined []string
		for j := max(i-1, 0); j <= i && j+1 < len(all); j++ {
			if both := all[j] + all[j+1]; len(both) >= 4 && x.knows(both) {
				joined = append(joined, both)
			}
		}
		switch {
		case len(joined) > 0 || x.knows(w):
			if len(joined) > 0 || silent || !stop(w) {
				ask(w, joined...)
			}
		case stop(w) && !silent:
		default:
			parts := x.run[w]
			for _, part := range parts {
				if !stop(part) {
					ask(part)
				}
			}
			if len(parts) == 0 {
				ask(w)
			}
		}
	}
	return list
}

// knows says if a word is in a document, or one that means the same.
func (x *Index) knows(w string) bool {
	t := stem(w)
	return len(x.postings[t]) > 0 || slices.ContainsFunc(x.alike[t], func(other string) bool { return len(x.postings[other]) > 0 })
}

// variants are the terms that a query's word finds, and what they count for.
func (x *Index) variants(w string) map[string]float64 {
	found := make(map[string]float64)
	t := stem(w)
	if _, ok := x.postings[t]; ok {
		found[t] = 1
	}
	for _, other := range x.alike[t] {
		if _, ok := x.postings[other]; ok {
			found[other] = likeness
		}
	}
	if len(found) > 0 || len(w) < 4 || len(w) > maxWord {
		return found
	}
	// It is nowhere: perhaps it is the beginning of a word, or misspelt.
	i, _ := slices.BinarySearch(x.spelt, w)
	for ; i < len(x.spelt) && strings.HasPrefix(x.spelt[i], w); i++ {
		found[stem(x.spelt[i])] = closeness
	}
	allowed := 1
	if len(w) >= 7 {
		allowed = 2
	}
	try := func(shorter string) {
		if _, ok := slices.BinarySearch(x.spelt, shorter); ok && near(w, shorter, allowed) {
			found[stem(shorter)] = closeness
		}
		for _, candidate := range x.short[shorter] {
			if near(w, candidate, allowed) {
				found[stem(candidate)] = closeness
			}
		}
	}
	try(w)
	for shorter := range without(w) {
		try(shorter)
		if allowed == 2 {
			for shortest := range without(shorter) {
				try(shortest)
			}
		}
	}
	return found
}

// without are a word's forms that lack one letter. Two words with a slip between them have one of these in common.
func without(w string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(w) {
			if !yield(w[:i] + w[i+1:]) {
				return
			}
		}
	}
}

// near says if a takes at most limit letters put in, taken out, changed or swapped to be b. Few slips are in the first
// letter, and "bake" is not "take".
func near(a, b string, limit int) bool {
	if a[0] != b[0] {
		return false
	}
	if d := len(a) - len(b); d > limit || -d > limit {
		return false
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := row[0]
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return false
		}
		before, last, row = last, row, before
	}
	return last[len(b)] <= limit
}
