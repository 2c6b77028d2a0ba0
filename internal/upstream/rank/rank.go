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
	// enough is the part of the query, by the weight of its words, that a document must have.
	enough = 0.34
)

const (
	maxText  = 4 << 10 // of a description
	maxDepth = 6       // of a schema
	maxWords = 400     // of a document
	maxQuery = 16      // words
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
	add := func(text string, weight float64) {
		if len(text) > maxText {
			text = text[:maxText]
		}
		for _, w := range words(text) {
			if stop(w) {
				continue
			}
			if count++; count > maxWords {
				return
			}
			e.words = append(e.words, w)
			e.weights[stem(w)] += weight
			e.length += weight
		}
	}
	add(d.Name, weightName)
	add(d.Title, weightTitle)
	add(group, weightGroup)
	// The first sentence says what a tool does, the rest how.
	first, rest, _ := strings.Cut(d.Text, ".")
	add(first, weightText)
	add(rest, weightText/2)
	var schema any
	if json.Unmarshal(d.Schema, &schema) == nil {
		parameters(schema, 0, add)
	}
	return e
}

// parameters adds the names and descriptions of a schema's properties.
func parameters(schema any, depth int, add func(string, float64)) {
	object, ok := schema.(map[string]any)
	if !ok || depth > maxDepth {
		return
	}
	properties, _ := object["properties"].(map[string]any)
	for name, p := range properties {
		add(name, weightParameter)
		if of, ok := p.(map[string]any); ok {
			if text, ok := of["description"].(string); ok {
				add(text, weightHint)
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
	x.spelt, x.short = nil, make(map[string][]string)
	for _, e := range x.all {
		for _, w := range e.words {
			if seen[w] || len(w) < 4 || len(w) > maxWord {
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
	asked := slices.DeleteFunc(words(query), stop)
	if len(asked) == 0 {
		asked = words(query) // of stop words only
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	asked = asked[:min(len(asked), maxQuery)]
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
		weight := 0.0
		for variant, factor := range x.variants(w) {
			list := x.postings[variant]
			idf := math.Log(1 + (float64(len(x.all))-float64(len(list))+0.5)/(float64(len(list))+0.5))
			if factor == 1 || weight == 0 {
				weight = max(weight, idf*min(1, 2*factor))
			}
			for _, p := range list {
				norm := k1 * (1 - b + b*x.all[p.doc].length/x.length)
				s := factor * idf * p.weight * (k1 + 1) / (p.weight + norm)
				best[p.doc] = max(best[p.doc], s)
				part[p.doc] = max(part[p.doc], factor)
			}
		}
		if weight == 0 {
			weight = math.Log(1 + float64(len(x.all))) // a word that is nowhere: nothing has it
		}
		total += weight
		for i, s := range best {
			scores[i] += s
			covered[i] += weight * part[i]
		}
	}
	var hits []Hit
	whole := strings.Join(words(query), " ")
	for i, s := range scores {
		e := x.all[i]
		exact := e.plain == whole
		if s <= 0 || !exact && covered[i] < enough*total {
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
