package upstream

import (
	"cmp"
	"slices"
	"strings"
)

// minSecret is how long a value of a configuration must be to be taken out of what a server says: a shorter one is part of too
// many words.
const minSecret = 6

// secrets are the values that the entry of this server has for its environment and its headers, the longest first. Servers put
// them into their last words and into their answers.
func (c *client) secrets() []string {
	var all []string
	for _, v := range c.server.Env {
		all = append(all, v)
	}
	for _, v := range c.server.Headers {
		all = append(append(all, v), strings.Fields(v)...) // "Bearer ..."
	}
	if o := c.server.OAuth; o != nil {
		all = append(all, o.ClientSecret)
	}
	all = slices.DeleteFunc(all, func(v string) bool { return len(v) < minSecret || strings.EqualFold(v, "bearer") })
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return slices.Compact(all)
}

// mask takes the secrets out of a text that a model or a log gets.
func (c *client) mask(text string) string {
	for _, v := range c.secrets() {
		text = strings.ReplaceAll(text, v, "…")
	}
	return text
}
