package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

const (
	// tokenTimeout is how long getting a token may take in all.
	tokenTimeout = 30 * time.Second
	// tokenGrace is how long the end of the bridge waits for a renewal: its refresh token may be used up already.
	tokenGrace = 2 * time.Second
	// tokenPause is how long getting a token that failed is not tried again, so that calls that wait do not all wait for it.
	tokenPause = 5 * time.Second
)

// endpoint is where a server is reached. A login goes before a client with a secret, which can get a token by itself; a
// header of the entry goes before both.
func (c *client) endpoint() wire.Endpoint {
	return wire.Endpoint{URL: c.server.URL, Headers: c.server.Headers, Authorizer: c.authorizer()}
}

// authorizer is the one of all connections to the server; nil if there is no way to get tokens.
func (c *client) authorizer() wire.Authorizer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens != nil || c.hasHeader() {
		return c.tokens
	}
	s := c.oauthServer()
	if s.ClientID != "" && s.ClientSecret != "" {
		credentials := oauth.NewCredentials(s)
		c.tokens = &clientCredentials{
			credentials: credentials,
			fetch:       fetch{pool: c.pool, seen: c.masker.add, get: func(ctx context.Context, _ string) (string, error) { return credentials.Get(ctx) }},
		}
	}
	if dir := c.pool.opts.TokenDir; dir != "" {
		c.tokens = &userLogin{
			server: s, dir: dir, other: c.tokens,
			fetch: fetch{pool: c.pool, seen: c.masker.add, get: func(ctx context.Context, refused string) (string, error) {
				return oauth.Renew(ctx, s, dir, refused)
			}},
		}
	}
	return c.tokens
}

// A challenge is what a server says to a request that it has refused, and a login is the answer to it.
type challenge string

func newChallenge(h http.Header) challenge { return challenge(h.Get("WWW-Authenticate")) }
func (c challenge) Error() string          { return string(c) }
func (c challenge) Is(target error) bool   { return target == oauth.ErrLogin }

// A fetch gets new tokens, once for all who need one. It goes on when they give up: a renewal that is broken off may have used
// up its refresh token.
type fetch struct {
	pool *Pool
	get  func(ctx context.Context, refused string) (string, error)
	seen func(token string)

	mu     sync.Mutex
	going  *fetching
	failed error
	until  time.Time // no other try before
}

type fetching struct {
	refused string
	done    chan struct{}
	token   string
	err     error
}

// token waits for a new token, other than the one that was refused.
func (f *fetch) token(ctx context.Context, refused string) (string, error) {
	for {
		f.mu.Lock()
		if f.failed != nil && time.Now().Before(f.until) {
			defer f.mu.Unlock()
			return "", f.failed
		}
		going := f.going
		if going == nil {
			going = &fetching{refused: refused, done: make(chan struct{})}
			if !f.pool.spawn(func() { f.run(context.WithoutCancel(ctx), going) }) {
				f.mu.Unlock()
				return "", errClosed
			}
			f.going = going
		}
		f.mu.Unlock()
		select {
		case <-going.done:
			if going.err != nil || going.token != refused || going.refused == refused {
				return going.token, going.err
			}
		case <-ctx.Done():
			return "", fmt.Errorf("the authorization server has not answered yet: %w", ctx.Err())
		}
	}
}

func (f *fetch) run(ctx context.Context, going *fetching) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	go func() {
		select {
		case <-f.pool.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	going.token, going.err = f.get(ctx, going.refused)
	if going.err == nil {
		f.seen(going.token)
	} else if ctx.Err() != nil {
		going.err = errors.Join(errors.New("the authorization server takes too long"), going.err)
	}
	f.mu.Lock()
	f.going = nil
	f.failed, f.until = going.err, time.Now().Add(tokenPause)
	f.mu.Unlock()
	close(going.done)
}

// clientCredentials are the tokens of a client with a secret.
type clientCredentials struct {
	credentials *oauth.Credentials
	fetch       fetch
}

// Token implements [wire.Authorizer].
func (a *clientCredentials) Token(ctx context.Context) (string, error) {
	token, renew := a.credentials.Stored("")
	if !renew {
		return token, nil
	}
	renewed, err := a.fetch.token(ctx, token)
	if err != nil && token != "" {
		return token, nil //nolint:nilerr // it is good until it ends
	}
	return renewed, err
}

// Refused implements [wire.Authorizer].
func (a *clientCredentials) Refused(ctx context.Context, sent string, status int, h http.Header) error {
	switch token, _ := a.credentials.Stored(sent); {
	case status == http.StatusForbidden && sent != "":
		if !a.credentials.Widen(h) {
			return newChallenge(h)
		}
	case token != "":
		return nil // another call was quicker
	default:
		a.credentials.Challenged(h)
	}
	_, err := a.fetch.token(ctx, sent)
	return err
}
