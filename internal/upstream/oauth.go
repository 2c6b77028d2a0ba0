package upstream

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/auth/extauth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// tokenTimeout is how long one request to an authorization server may take.
const tokenTimeout = 30 * time.Second

// endpoint is where a server is reached. A login goes before a client with a secret, which can get a token by itself; a
// header of the entry goes before both.
func (c *client) endpoint() wire.Endpoint {
	e := wire.Endpoint{URL: c.server.URL, Headers: c.server.Headers}
	if o := c.server.OAuth; o != nil && o.ClientID != "" && o.ClientSecret != "" {
		e.Authorize = &clientCredentials{oauth: *o}
	}
	if c.pool.opts.TokenDir != "" && !c.hasHeader() {
		e.Authorize = &userLogin{server: c.oauthServer(), dir: c.pool.opts.TokenDir, other: e.Authorize}
	}
	return e
}

// clientCredentials is the SDK's handler of that grant, with the scopes of the configuration. It is made when a server
// asks for it.
type clientCredentials struct {
	oauth   config.OAuth
	handler *extauth.ClientCredentialsHandler
}

var _ auth.OAuthHandler = (*clientCredentials)(nil)

// Authorize gets a token. Its requests do not end with ctx, because the SDK keeps it to renew the token.
func (a *clientCredentials) Authorize(ctx context.Context, r *http.Request, resp *http.Response) error {
	if a.handler == nil {
		handler, err := extauth.NewClientCredentialsHandler(&extauth.ClientCredentialsHandlerConfig{
			Credentials: &oauthex.ClientCredentials{
				ClientID: a.oauth.ClientID, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: a.oauth.ClientSecret},
			},
			HTTPClient: &http.Client{Timeout: tokenTimeout},
		})
		if err != nil {
			resp.Body.Close()
			return err
		}
		a.handler = handler
	}
	if len(a.oauth.Scopes) > 0 {
		const name = "Www-Authenticate"
		resp.Header[name] = append([]string{fmt.Sprintf("Bearer scope=%q", strings.Join(a.oauth.Scopes, " "))}, resp.Header[name]...)
	}
	return a.handler.Authorize(context.WithoutCancel(ctx), r, resp)
}

// TokenSource has nothing before the first Authorize.
func (a *clientCredentials) TokenSource(ctx context.Context) (oauth2.TokenSource, error) {
	if a.handler == nil {
		return nil, nil
	}
	return a.handler.TokenSource(ctx)
}
