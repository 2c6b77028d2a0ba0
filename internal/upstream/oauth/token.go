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

// Stored is the access token of a server's login in dir, empty if there is none that is good. renew says that [Renew] should
// be asked for another one. refused is one that the server no longer takes.
func Stored(s Server, dir, refused string) (token string, renew bool, err error) {
	g, err := read(s, dir)
	switch now := time.Now(); {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	case g.Access == "" || g.Access == refused || !g.good(now):
		return "", true, nil
	default:
		return g.Access, !g.fresh(now), nil
	}
}

// Renew renews the access token of a login, unless another bridge has; empty if there is no login. ctx should outlive who
// waits for the token: the refresh token of a renewal that is broken off may be used up.
func Renew(ctx context.Context, s Server, dir, refused string) (token string, err error) {
	err = locked(ctx, s, dir, func(string) error {
		g, err := read(s, dir)
		if err == nil && (g.Access == "" || g.Access == refused || !g.fresh(time.Now())) {
			err = g.renew(ctx, s, dir, refused)
		}
		if err == nil {
			token = g.Access
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // logged out meanwhile
	}
	return token, err
}

// renew gets a new token for the refresh token; the lock is held, but a login that waited too long for that does without.
func (g *grant) renew(ctx context.Context, s Server, dir, rejected string) error {
	if g.Refresh == "" {
		return fmt.Errorf("%w: the token has expired, and cannot be renewed", ErrLogin)
	}
	w, err := newWeb(g.URL)
	if err != nil {
		return err
	}
	defer w.close()
	file := s.file(dir)
	if err := g.write(file); err != nil { // before the refresh token is used up: what comes for it must have a place
		return fmt.Errorf("cannot renew the token, which could not be kept: %w", err)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}, "resource": {g.Resource}}
	var t tokens
	err = w.postForm(ctx, g.Client, g.TokenEndpoint, form, &t, g.Refresh, g.Access)
	switch now, rerr := read(s, dir); {
	case errors.Is(rerr, fs.ErrNotExist):
		return rerr // logged out meanwhile
	case rerr == nil && (now.Refresh != g.Refresh || now.Client != g.Client):
		*g = *now // logged in
		return nil
	}
	refused := (*refusal)(nil)
	switch {
	case err == nil:
	case !errors.As(err, &refused) || refused.temporary():
		return fmt.Errorf("cannot renew the token: %w (if that stays so, log in again)", err)
	case refused.Code == "invalid_grant" || !g.configured && (refused.Code == "invalid_client" || refused.Code == "unauthorized_client"):
		// There is no use in asking again, where no entry can be mended. The access token may be good for some time.
		if g.Refresh = ""; g.Access == rejected {
			g.Access = ""
		}
		return errors.Join(fmt.Errorf("%w: the last one has ended: %v", ErrLogin, err), g.write(file))
	default:
		return fmt.Errorf("%w: the last one cannot be renewed: %v", ErrLogin, err)
	}
	if err := g.take(t, time.Now()); err != nil {
		return err
	}
	return g.write(file)
}

// maxWanted is how many scopes a server may add to the next login, each of at most 200 bytes.
const maxWanted = 64

// union is a list with what it lacks of another. The list given stays as it is.
func union(list []string, more ...string) []string {
	list = slices.Clip(list)
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// wanted are the scopes that a challenge names beyond those that were asked for, and those that others did before.
func wanted(before, asked []string, challenge http.Header) []string {
	_, scopes := bearer(challenge)
	scopes = slices.DeleteFunc(scopes, func(s string) bool { return len(s) > 200 || slices.Contains(asked, s) })
	list := union(before, scopes...)
	return list[:min(len(list), max(maxWanted, len(before)))]
}

// Widen notes the scopes that a server wants beyond those of the login (a challenge with insufficient_scope), so that the
// next login asks for them.
func Widen(ctx context.Context, s Server, dir string, challenge http.Header) error {
	return locked(ctx, s, dir, func(file string) error {
		g, err := read(s, dir)
		if err != nil {
			return err
		}
		n := len(g.Wanted)
		if g.Wanted = wanted(g.Wanted, g.Scopes, challenge); len(g.Wanted) == n {
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
