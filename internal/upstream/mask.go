package upstream

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// minSecret is how long a value of a configuration must be to be taken out of what a server says: a shorter one is part of too
// many words.
const minSecret = 6

// openHeaders hold no secrets, but words that a server needs to say what is wrong.
var openHeaders = []string{"Accept", "Accept-Language", "Content-Type", "User-Agent"}

// maxTokens is how many access tokens are remembered for that.
const maxTokens = 8

// A masker takes the values that an entry has for its environment, its headers and its login, and the tokens that were sent to
// the server, out of a text that a model or a log gets: servers put them into their last words and into their answers.
type masker struct {
	entry []string

	mu       sync.Mutex
	tokens   []string // the last ones
	replacer atomic.Pointer[strings.Replacer]
}

func newMasker(s config.Server) *masker {
	m := &masker{}
	for _, v := range s.Env {
		m.entry = append(m.entry, v)
	}
	for name, v := range s.Headers {
		if slices.Contains(openHeaders, http.CanonicalHeaderKey(name)) {
			continue
		}
		m.entry = append(append(m.entry, v), strings.Fields(v)...) // "Bearer ..."
	}
	if o := s.OAuth; o != nil && o.ClientSecret != "" {
		id, secret := url.QueryEscape(o.ClientID), url.QueryEscape(o.ClientSecret)
		m.entry = append(m.entry, o.ClientSecret, secret, base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	}
	m.make()
	return m
}

// add adds a token.
func (m *masker) add(token string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token == "" || slices.Contains(m.tokens, token) {
		return
	}
	m.tokens = append(m.tokens[max(0, len(m.tokens)-maxTokens+1):], token)
	m.make()
}

// make makes the replacer; m.mu is held, or nobody else has m yet.
func (m *masker) make() {
	all := slices.Clone(m.entry)
	for _, token := range m.tokens {
		all = append(all, token, url.QueryEscape(token))
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may be a part of another
	var pairs []string
	for _, v := range all {
		if len(v) >= minSecret && !strings.EqualFold(v, "bearer") {
			pairs = append(pairs, v, "…")
		}
	}
	m.replacer.Store(strings.NewReplacer(pairs...))
}

func (c *client) mask(text string) string { return c.masker.replacer.Load().Replace(text) }
