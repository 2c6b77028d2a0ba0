package oauth

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Credentials are a client with a secret, which gets tokens in its own name (RFC 6749, 4.4) from the authorization server that
// the MCP server's metadata names. It is safe for concurrent use, and keeps tokens in memory only.
type Credentials struct {
	server Server

	mu        sync.Mutex
	challenge http.Header // the last; nil before the server has asked for authorization
	wider     []string    // scopes that it wanted besides those that were asked for
	token     string
	scopes    []string
	life      life
}

// NewCredentials makes Credentials of the ClientID and the ClientSecret of a server.
func NewCredentials(s Server) *Credentials { return &Credentials{server: s} }

// Challenged notes the header of an answer that has asked for authorization.
func (c *Credentials) Challenged(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.challenge = h
}

// Widen notes the scopes that a server wants beyond those of the token (a challenge with insufficient_scope), so that the next
// one has them. It is false if there are none, or if the entry says which scopes there are to be.
func (c *Credentials) Widen(h http.Header) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.wider)
	if c.server.Scopes == nil {
		c.wider = wanted(c.wider, c.scopes, h)
	}
	return len(c.wider) > n
}

// Stored is as [Stored]. Before the server has asked for authorization there is no token, and none to be got.
func (c *Credentials) Stored(refused string) (token string, renew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := time.Now(); {
	case c.challenge == nil:
		return "", false
	case c.token == "" || c.token == refused || !c.life.good(now):
		return "", true
	default:
		return c.token, !c.life.fresh(now)
	}
}

// Get gets a new token.
func (c *Credentials) Get(ctx context.Context) (string, error) {
	c.mu.Lock()
	challenge, wider := c.challenge, c.wider
	c.mu.Unlock()
	w, err := newWeb(c.server.URL)
	if err != nil {
		return "", err
	}
	defer w.close()
	f, err := w.follow(ctx, c.server, challenge)
	if err != nil {
		return "", err
	}
	f.Scopes = union(f.Scopes, wider...)
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {f.Resource}}
	if len(f.Scopes) > 0 {
		form.Set("scope", strings.Join(f.Scopes, " "))
	}
	var t tokens
	who := client{ID: c.server.ClientID, Secret: c.server.ClientSecret, Method: f.AS.method()}
	if err = w.postForm(ctx, who, f.AS.Token, form, &t); err == nil {
		err = t.check()
	}
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.life, c.scopes = t.Access, t.life(time.Now()), f.Scopes
	return c.token, nil
}
