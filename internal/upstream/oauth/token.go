package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"
)

// Token is the access token of a server's login in dir, renewed if it must be; empty if there is no login. refused is
// one that the server no longer takes.
func Token(ctx context.Context, s Server, dir, refused string) (string, error) {
	g, err := read(s, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if g.good(refused) {
		return g.Access, nil
	}
	// Whoever waits may give up, but a renewal that has begun ends: its refresh token may be used up already.
	err = locked(ctx, s, dir, func(file string) error {
		if g, err = read(s, dir); err != nil || g.good(refused) { // another bridge was quicker
			return err
		}
		return g.renew(context.WithoutCancel(ctx), file)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // logged out meanwhile
	}
	if err != nil {
		return "", err
	}
	return g.Access, nil
}

func (g *grant) good(refused string) bool {
	return g.Access != "" && g.Access != refused && (g.Renew.IsZero() || time.Now().Before(g.Renew))
}

// renew gets a new token for the refresh token; the lock is held.
func (g *grant) renew(ctx context.Context, file string) error {
	if g.Refresh == "" {
		return fmt.Errorf("%w: the token has expired, and cannot be renewed", ErrLogin)
	}
	w, err := newWeb(g.URL)
	if err != nil {
		return err
	}
	defer w.close()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}, "resource": {g.Resource}}
	var t tokens
	err = w.postForm(ctx, g.Client, g.TokenEndpoint, form, &t, g.Refresh, g.Access)
	if e := (*refusal)(nil); errors.As(err, &e) && (e.Code == "invalid_grant" || e.Code == "invalid_client" || e.Code == "unauthorized_client") {
		g.Access, g.Refresh = "", ""
		return errors.Join(fmt.Errorf("%w: the last one has ended: %v", ErrLogin, err), g.write(file))
	}
	if err != nil {
		return fmt.Errorf("cannot renew the token: %w", err)
	}
	if err := g.take(t, time.Now()); err != nil {
		return err
	}
	return g.write(file)
}

// maxWanted is how many scopes a server may add to the next login, each of at most 200 bytes.
const maxWanted = 64

// Widen notes the scopes that a server wants beyond those of the login (a challenge with insufficient_scope), so that the
// next login asks for them.
func Widen(ctx context.Context, s Server, dir string, challenge http.Header) error {
	_, scopes := bearer(challenge)
	if len(scopes) == 0 {
		return nil
	}
	return locked(ctx, s, dir, func(file string) error {
		g, err := read(s, dir)
		if err != nil {
			return err
		}
		n := len(g.Wanted)
		for _, scope := range scopes {
			if len(g.Wanted) < maxWanted && len(scope) <= 200 && !slices.Contains(g.Scopes, scope) && !slices.Contains(g.Wanted, scope) {
				g.Wanted = append(g.Wanted, scope)
			}
		}
		if len(g.Wanted) == n {
			return nil
		}
		return g.write(file)
	})
}

// Logout removes a server's login, and tells the authorization server if that wants to know. found is false if there was
// none; told is why the authorization server does not know.
func Logout(ctx context.Context, s Server, dir string) (found bool, told, err error) {
	if _, err := os.Lstat(s.file(dir)); err != nil {
		return false, nil, nil
	}
	var g *grant
	err = locked(ctx, s, dir, func(file string) error {
		g, told = read(s, dir) // what cannot be read is removed all the same
		return os.Remove(file)
	})
	if err != nil || told != nil {
		return true, told, err
	}
	return true, g.revoke(ctx), nil
}

// revoke ends the tokens at the authorization server (RFC 7009).
func (g *grant) revoke(ctx context.Context) error {
	if g.RevocationEndpoint == "" {
		return errors.New("the authorization server cannot be told")
	}
	w, err := newWeb(g.URL)
	if err != nil {
		return err
	}
	defer w.close()
	var errs []error
	for hint, token := range map[string]string{"refresh_token": g.Refresh, "access_token": g.Access} {
		if token != "" {
			form := url.Values{"token": {token}, "token_type_hint": {hint}}
			errs = append(errs, w.postForm(ctx, g.Client, g.RevocationEndpoint, form, nil, token))
		}
	}
	return errors.Join(errs...)
}
