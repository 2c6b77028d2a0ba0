package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// userLogin uses the tokens of a user's login, if there is one, or else another way. It opens no browser: a bridge
// works in the background.
type userLogin struct {
	server oauth.Server
	dir    string
	other  wire.Authorizer // may be nil
	fetch  fetch
}

// Token implements [wire.Authorizer]. It looks at the file each time, because another bridge may have renewed the login.
func (u *userLogin) Token(ctx context.Context) (string, error) {
	token, renew, err := oauth.Stored(u.server, u.dir, "")
	switch {
	case renew && token != "":
		u.fetch.begin(ctx, "")
	case renew:
		token, err = u.fetch.token(ctx, "")
	}
	if err == nil && token == "" && u.other != nil {
		return u.other.Token(ctx)
	}
	u.fetch.seen(token)
	return token, err
}

// Refused implements [wire.Authorizer].
func (u *userLogin) Refused(ctx context.Context, sent string, status int, h http.Header) error {
	token, renew, err := oauth.Stored(u.server, u.dir, sent)
	switch {
	case err != nil:
		return err
	case token == "" && !renew: // no login
		if u.other != nil {
			return u.other.Refused(ctx, sent, status, h)
		}
		return newChallenge(h)
	case token != "":
		return nil // another call was quicker
	case status == http.StatusForbidden: // a new token would have the same rights
		return errors.Join(newChallenge(h), oauth.Widen(ctx, u.server, u.dir, h))
	}
	token, err = u.fetch.token(ctx, sent)
	if err == nil && token == "" {
		return newChallenge(h) // logged out meanwhile
	}
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
	denied := (*wire.AuthorizationError)(nil)
	switch {
	case !errors.As(err, &denied):
		if !errors.Is(err, oauth.ErrLogin) {
			return ""
		}
		return fmt.Sprintf("; %q gets one with a browser", "mcp-bridge login "+config.ShellWord(c.server.Name))
	case denied.Err != nil && !errors.Is(denied.Err, oauth.ErrLogin):
		return "" // there is a way, which has failed
	}
	if c.pool.opts.TokenDir != "" && !c.hasHeader() {
		login = fmt.Sprintf("; %q gets it with a browser, or else", "mcp-bridge login "+config.ShellWord(c.server.Name))
	} else {
		login = ";"
	}
	return login + " add a header such as Authorization, or an OAuth client with its clientSecret, to its entry in " + c.server.File
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
		s.Scopes, s.OnlyScopes = scopes, true
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
