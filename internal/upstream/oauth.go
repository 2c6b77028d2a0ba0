package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

const (
	// tokenTimeout is how long getting a token may take in all.
	tokenTimeout = 30 * time.Second
	// tokenGrace is how long the end of the bridge waits for a renewal: its refresh token may be used up already, and the login
	// with it.
	tokenGrace = 5 * time.Second
	// tokenPause is how long getting a token that failed is not tried again, so that calls that wait do not all wait for it.
	tokenPause = 5 * time.Second
)

// endpoint is where a server is reached. A login goes before a client with a secret, which can get a token by itself; a
// header of the entry goes before both.
func (c *client) endpoint() wire.Endpoint {
	return wire.Endpoint{URL: c.server.URL, Headers: c.server.Headers, Authorizer: c.tokens}
}

// authorizer is the one of all connections to the server; nil if there is no way to get tokens.
func (c *client) authorizer() (a wire.Authorizer) {
	if c.hasHeader() {
		return nil
	}
	s := c.oauthServer()
	if s.ClientID != "" && s.ClientSecret != "" {
		credentials := oauth.NewCredentials(s)
		a = &clientCredentials{
			credentials: credentials,
			fetch:       fetch{pool: c.pool, seen: c.masker.add, get: func(ctx context.Context, _ string) (string, error) { return credentials.Get(ctx) }},
		}
	}
	if dir := c.pool.opts.TokenDir; dir != "" {
		a = &userLogin{
			server: s, dir: dir, other: a,
			fetch: fetch{pool: c.pool, seen: c.masker.add, get: func(ctx context.Context, refused string) (string, error) {
				return oauth.Renew(ctx, s, dir, refused)
			}},
		}
	}
	return a
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

	flights singleflight.Group
	mu      sync.Mutex
	failed  error
	until   time.Time // no other try before
}

// begin gets a new token behind calls for which the old one is good.
func (f *fetch) begin(ctx context.Context, refused string) (flight <-chan singleflight.Result, failed error) {
	f.mu.Lock()
	failed, until := f.failed, f.until
	f.mu.Unlock()
	if failed != nil && time.Now().Before(until) {
		return nil, failed
	}
	return f.flights.DoChan(refused, func() (any, error) { return f.run(context.WithoutCancel(ctx), refused) }), nil
}

// token waits for a new token, other than the one that was refused.
func (f *fetch) token(ctx context.Context, refused string) (string, error) {
	flight, err := f.begin(ctx, refused)
	if err != nil {
		return "", err
	}
	select {
	case r := <-flight:
		token, _ := r.Val.(string)
		return token, r.Err
	case <-ctx.Done():
		return "", fmt.Errorf("the authorization server has not answered yet: %w", ctx.Err())
	}
}

func (f *fetch) run(ctx context.Context, refused string) (string, error) {
	done, ok := f.pool.busy()
	if !ok {
		return "", errClosed
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	go func() {
		select {
		case <-f.pool.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	token, err := f.get(ctx, refused)
	if err == nil {
		f.seen(token)
	} else if ctx.Err() != nil {
		err = errors.Join(errors.New("the authorization server takes too long"), err)
	}
	f.mu.Lock()
	f.failed, f.until = err, time.Now().Add(tokenPause)
	f.mu.Unlock()
	return token, err
}

// clientCredentials are the tokens of a client with a secret.
type clientCredentials struct {
	credentials *oauth.Credentials
	fetch       fetch
}

// Token implements [wire.Authorizer].
func (a *clientCredentials) Token(ctx context.Context) (string, error) {
	token, renew := a.credentials.Stored("")
	switch {
	case renew && token != "":
		a.fetch.begin(ctx, token)
	case renew:
		return a.fetch.token(ctx, "")
	}
	return token, nil
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
