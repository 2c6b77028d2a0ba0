package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// A found is what discovery says.
type found struct {
	Resource string   // RFC 8707; what the token is for
	Scopes   []string // to ask for
	AS       authServer
}

// authServer is the metadata of an authorization server (RFC 8414, OpenID Connect Discovery).
type authServer struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Registration  string   `json:"registration_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	Scopes        []string `json:"scopes_supported"`
	Methods       []string `json:"token_endpoint_auth_methods_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	SaysIssuer    bool     `json:"authorization_response_iss_parameter_supported"`
}

// discover finds out who may give tokens for a server.
func (w *web) discover(ctx context.Context, s Server) (found, error) {
	header, err := w.challenge(ctx, s)
	if err != nil {
		return found{}, err
	}
	return w.follow(ctx, s, header)
}

// follow reads the metadata that a challenge leads to; nil is that of a server which has not challenged.
func (w *web) follow(ctx context.Context, s Server, challenge http.Header) (found, error) {
	places := []*url.URL{wellKnown(w.server, "oauth-protected-resource"), wellKnown(&url.URL{Scheme: w.server.Scheme, Host: w.server.Host}, "oauth-protected-resource")}
	raw, challengeScopes := bearer(challenge)
	if raw != "" {
		at, err := parse(raw)
		if err != nil || !same(at, w.server) {
			return found{}, errors.New("the metadata of the resource is not on the server's own host")
		}
		places = []*url.URL{at}
	}
	var meta struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
	}
	at, err := w.get(ctx, &meta, places...)
	if err != nil {
		return found{}, fmt.Errorf("cannot read the metadata of the resource: %w", err)
	}
	f := found{Resource: s.URL, Scopes: meta.Scopes}
	switch {
	case at != nil && !w.covers(meta.Resource):
		return found{}, fmt.Errorf("the metadata is of another resource: %.200q", meta.Resource)
	case at != nil:
		f.Resource = meta.Resource
	case raw != "":
		return found{}, errors.New("the metadata that the server's answer names is not there")
	}
	if challengeScopes != nil {
		f.Scopes = challengeScopes
	}
	if s.Scopes != nil {
		f.Scopes = s.Scopes
	}
	switch {
	case s.MetadataURL != "":
		u, err := parse(s.MetadataURL)
		if err != nil {
			return found{}, fmt.Errorf("the authServerMetadataUrl of its entry %w", err)
		}
		if at, err := w.get(ctx, &f.AS, u); err != nil || at == nil {
			return found{}, errors.Join(errors.New("cannot read the authServerMetadataUrl of its entry"), err)
		}
	case at != nil && len(meta.Servers) > 0:
		err = w.authServer(ctx, meta.Servers[0], &f.AS)
	default:
		err = w.before(ctx, challenge != nil, &f.AS)
	}
	if err != nil {
		return found{}, err
	}
	return f, w.check(f.AS)
}

// challenge asks the server without a token, until it denies that (401), for the header of that answer; nil if it never does.
// The first requests are those of the two eras of the protocol; the older transport knows no POST here.
func (w *web) challenge(ctx context.Context, s Server) (http.Header, error) {
	ctx = context.WithValue(ctx, ownServer{}, true)
	for _, hello := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp-bridge","version":"login"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-bridge","version":"login"}}}`,
		"",
	} {
		method, body := http.MethodPost, io.Reader(strings.NewReader(hello))
		if hello == "" {
			method, body = http.MethodGet, nil
		}
		r, err := http.NewRequestWithContext(ctx, method, s.URL, body)
		if err != nil {
			return nil, errors.New("its url is none")
		}
		r.Header.Set("Accept", "application/json, text/event-stream")
		if hello != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		for name, value := range s.Headers {
			r.Header.Set(name, value)
			if strings.EqualFold(name, "Host") {
				r.Host = value
			}
		}
		resp, err := w.client.Do(r)
		if err != nil {
			if e := (*url.Error)(nil); errors.As(err, &e) {
				err = e.Err
			}
			return nil, fmt.Errorf("cannot be reached: %w", err)
		}
		resp.Body.Close() // unread: it may be a stream that never ends
		if resp.StatusCode == http.StatusUnauthorized {
			return resp.Header, nil
		}
	}
	return nil, nil
}

// bearer reads a challenge: where the metadata is, and the scopes. One that cannot be read says nothing.
func bearer(h http.Header) (metadata string, scopes []string) {
	list, err := oauthex.ParseWWWAuthenticate(h.Values("WWW-Authenticate"))
	if err != nil {
		return "", nil
	}
	for _, c := range list {
		if c.Scheme != "bearer" {
			continue
		}
		if metadata == "" {
			metadata = c.Params["resource_metadata"]
		}
		if scope := c.Params["scope"]; scope != "" && scopes == nil {
			scopes = strings.Fields(scope)
		}
	}
	return metadata, scopes
}

// wellKnown is the place of a document, between the host and the path with its query (RFC 8615, RFC 8414, RFC 9728).
func wellKnown(u *url.URL, name string) *url.URL {
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/.well-known/" + name + strings.TrimSuffix(u.Path, "/"), RawQuery: u.RawQuery}
}

// covers says if a resource is the server, or what the server is a part of.
func (w *web) covers(resource string) bool {
	u, err := parse(resource)
	if err != nil || !same(u, w.server) || u.RawQuery != "" && u.RawQuery != w.server.RawQuery || u.Fragment != "" {
		return false
	}
	above, below := strings.TrimSuffix(u.Path, "/")+"/", strings.TrimSuffix(w.server.Path, "/")+"/"
	return strings.HasPrefix(below, above)
}

// authServer reads the metadata of an issuer, at the three places where it may be.
func (w *web) authServer(ctx context.Context, issuer string, into *authServer) error {
	u, err := parse(issuer)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the authorization server %.200q is not at an https URL", issuer)
	}
	appended := *u
	appended.Path = strings.TrimSuffix(u.Path, "/") + "/.well-known/openid-configuration"
	at, err := w.get(ctx, into, wellKnown(u, "oauth-authorization-server"), wellKnown(u, "openid-configuration"), &appended)
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the metadata of the authorization server: %w", err)
	case at == nil:
		return fmt.Errorf("the authorization server %.200q has no metadata", issuer)
	case strings.TrimSuffix(into.Issuer, "/") != strings.TrimSuffix(issuer, "/"):
		return fmt.Errorf("the metadata of %.200q is of another issuer: %.200q", issuer, into.Issuer)
	}
	return nil
}

// before is how it was before resources had metadata (MCP 2025-03-26): the host of the server gives its tokens, at
// places that are agreed on if it has no metadata at all.
func (w *web) before(ctx context.Context, denied bool, into *authServer) error {
	origin := w.server.Scheme + "://" + w.server.Host
	at, err := w.get(ctx, into, wellKnown(&url.URL{Scheme: w.server.Scheme, Host: w.server.Host}, "oauth-authorization-server"))
	if err != nil {
		return err
	}
	if at == nil && denied {
		*into = authServer{
			Issuer: origin, Authorization: origin + "/authorize", Token: origin + "/token", Registration: origin + "/register",
			Challenges: []string{"S256"},
		}
		return nil
	}
	if at == nil {
		return errors.New("the server says nothing of an authorization server; it may not want a login of this kind")
	}
	if strings.TrimSuffix(into.Issuer, "/") != origin {
		return fmt.Errorf("the metadata of %.200q is of another issuer: %.200q", origin, into.Issuer)
	}
	return nil
}

// check refuses an authorization server to which secrets could not go safely. It may have no places that are not needed.
func (w *web) check(a authServer) error {
	for name, raw := range map[string]string{
		"issuer": a.Issuer, "token_endpoint": a.Token, "authorization_endpoint": a.Authorization,
		"registration_endpoint": a.Registration, "revocation_endpoint": a.Revocation,
	} {
		u, err := parse(raw)
		if raw == "" && name != "issuer" && name != "token_endpoint" {
			continue
		}
		// A browser is not held back by what a server of the internet may make us dial.
		if err == nil && name == "authorization_endpoint" && onLoopback(u) && !onLoopback(w.server) {
			err = errors.New("is on this host, and the server is not")
		}
		if err != nil {
			return fmt.Errorf("the %s of the authorization server %w", name, err)
		}
	}
	return nil
}

// checkLogin is check for a login with a browser.
func (a *authServer) checkLogin() error {
	if _, err := parse(a.Authorization); err != nil {
		return fmt.Errorf("the authorization_endpoint of the authorization server %w", err)
	}
	if !slices.Contains(a.Challenges, "S256") {
		return errors.New("the authorization server does not support PKCE with S256")
	}
	return nil
}

// method is how a client with a secret shows it.
func (a *authServer) method() string {
	if slices.Contains(a.Methods, "client_secret_post") && !slices.Contains(a.Methods, "client_secret_basic") {
		return "client_secret_post"
	}
	return "client_secret_basic"
}
