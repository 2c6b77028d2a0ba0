package upstream

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// minSecret is how long a value of a configuration must be to be taken out of what a server says: a shorter one is part of too
// many words.
const minSecret = 6

// openHeaders hold no secrets, but words that a server needs to say what is wrong.
var openHeaders = []string{"Accept", "Accept-Language", "Content-Type", "User-Agent"}

// masker takes the values that an entry has for its environment, its headers and its login out of a text that a model or a log
// gets: servers put them into their last words and into their answers.
func masker(s config.Server) *strings.Replacer {
	var all []string
	for _, v := range s.Env {
		all = append(all, v)
	}
	for name, v := range s.Headers {
		if slices.Contains(openHeaders, http.CanonicalHeaderKey(name)) {
			continue
		}
		all = append(append(all, v), strings.Fields(v)...) // "Bearer ..."
	}
	if s.OAuth != nil {
		all = append(all, s.OAuth.ClientSecret)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may be a part of another
	var pairs []string
	for _, v := range all {
		if len(v) >= minSecret && !strings.EqualFold(v, "bearer") {
			pairs = append(pairs, v, "…")
		}
	}
	return strings.NewReplacer(pairs...)
}

func (c *client) mask(text string) string { return c.masker.Replace(text) }
