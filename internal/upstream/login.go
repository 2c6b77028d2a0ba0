package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"golang.org/x/oauth2"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// renewPause is how long a renewal that failed is not tried again, so that calls that wait do not all wait for it.
const renewPause = 5 * time.Second

// userLogin uses the tokens of a user's login, if there is one, or else another way. It opens no browser: a bridge
// works in the background.
type userLogin struct {
	server oauth.Server
	dir    string
	other  auth.OAuthHandler // may be nil

	mu     sync.Mutex
	failed error
	until  time.Time
}

var _ auth.OAuthHandler = (*userLogin)(nil)

// token is the access token, or empty if there is no login.
func (u *userLogin) token(ctx context.Context, refused string) (string, error) {
	u.mu.Lock()
	failed, until := u.failed, u.until
	u.mu.Unlock()
	if failed != nil && time.Now().Before(until) {
		return "", failed
	}
	token, err := oauth.Token(ctx, u.server, u.dir, refused)
	if err != nil && !errors.Is(err, oauth.ErrLogin) && ctx.Err() == nil {
		u.mu.Lock()
		u.failed, u.until = err, time.Now().Add(renewPause)
		u.mu.Unlock()
	}
	return token, err
}

// TokenSource gives the token of the login. It is asked before each request, because another bridge may have renewed it.
func (u *userLogin) TokenSource(ctx context.Context) (oauth2.TokenSource, error) {
	token, err := u.token(ctx, "")
	switch {
	case err != nil:
		return nil, err
	case token != "":
		return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), nil
	case u.other != nil:
		return u.other.TokenSource(ctx)
	}
	return nil, nil
}

// Authorize renews a token that the server has refused.
func (u *userLogin) Authorize(ctx context.Context, r *http.Request, resp *http.Response) error {
	sent := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := u.token(ctx, "")
	if err == nil && token == "" && u.other != nil {
		return u.other.Authorize(ctx, r, resp)
	}
	resp.Body.Close()
	switch {
	case err != nil:
		return err
	case token == "":
		return errors.New(resp.Header.Get("WWW-Authenticate"))
	case token != sent:
		return nil // another call was quicker
	case resp.StatusCode == http.StatusForbidden: // a new token would have the same rights
		return errors.Join(errors.New(resp.Header.Get("WWW-Authenticate")), oauth.Widen(ctx, u.server, u.dir, resp.Header))
	}
	_, err = u.token(ctx, sent)
	return err
}

// oauthServer is the entry as a login needs it.
func (c *client) oauthServer() oauth.Server {
	s := oauth.Server{URL: c.server.URL, Headers: c.server.Headers}
	if o := c.server.OAuth; o != nil {
		s.ClientID, s.ClientSecret, s.Scopes, s.CallbackPort, s.MetadataURL = o.ClientID, o.ClientSecret, o.Scopes, o.CallbackPort, o.MetadataURL
	}
	return s
}

// hasHeader says if the entry has a header that authorizes.
func (c *client) hasHeader() bool {
	for name := range c.server.Headers {
		if strings.EqualFold(name, "Authorization") {
			return true
		}
	}
	return false
}

// loginHint is what a user can do about an error, if it is one of authorization.
func (c *client) loginHint(err error) string {
	login := ""
	if denied := (*wire.AuthorizationError)(nil); !errors.As(err, &denied) {
		if !errors.Is(err, oauth.ErrLogin) {
			return ""
		}
		return fmt.Sprintf("; %q gets one with a browser", "mcp-bridge login "+quoted(c.server.Name))
	}
	if c.pool.opts.TokenDir != "" && !c.hasHeader() {
		login = fmt.Sprintf("; %q gets it with a browser, or else", "mcp-bridge login "+quoted(c.server.Name))
	} else {
		login = ";"
	}
	return login + " add a header such as Authorization, or an OAuth client with its clientSecret, to its entry in " + c.server.File
}

// quoted is a name as a shell reads it.
func quoted(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,%") == "" {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// remote is the client of a server that a user can log in to.
func (p *Pool) remote(name string) (*client, error) {
	c, err := p.find(name)
	if err != nil {
		return nil, err
	}
	if c.server.Transport == config.Stdio {
		return nil, c.errorf("is a program of this host; it has no login that the bridge could make")
	}
	return c, nil
}

// Login gets the tokens of a server with a browser, and keeps them in TokenDir. show is given the URL to open; scopes, if
// there are any, are asked for instead of those of the entry or the server. issuer is who gave the tokens.
func (p *Pool) Login(ctx context.Context, name string, scopes []string, show func(string)) (issuer string, err error) {
	c, err := p.remote(name)
	if err != nil {
		return "", err
	}
	if c.hasHeader() {
		return "", c.errorf("has an Authorization header in its entry in %s, which goes before a login", c.server.File)
	}
	s := c.oauthServer()
	if len(scopes) > 0 {
		s.Scopes = scopes
	}
	if issuer, err = oauth.Login(ctx, s, p.opts.TokenDir, show); err != nil {
		return "", c.errorf("has no login: %v", err)
	}
	return issuer, nil
}

// Logout removes the tokens of a server. found is false if there were none; told is why the authorization server could
// not be told that they are to end.
func (p *Pool) Logout(ctx context.Context, name string) (found bool, told, err error) {
	c, err := p.remote(name)
	if err != nil {
		return false, nil, err
	}
	if found, told, err = oauth.Logout(ctx, c.oauthServer(), p.opts.TokenDir); err != nil {
		err = c.errorf("is still logged in: %v", err)
	}
	return found, told, err
}
