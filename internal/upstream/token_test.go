package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth/oauthtest"
)

// TestRenewal: a token is renewed once for all who need it, in two bridges, when it has expired and when the server says
// so; and the new refresh token takes the place of the old one.
func TestRenewal(t *testing.T) {
	w, s := world(t)
	dir := tokenDir(t)
	pools := []*Pool{pool(t, Options{TokenDir: dir}, s), pool(t, Options{TokenDir: dir}, s)}
	if _, err := login(t, pools[0]); err != nil {
		t.Fatal(err)
	}
	for _, p := range pools {
		text(t, p, "web", "echo", "{}")
	}
	calls := func() {
		t.Helper()
		var work sync.WaitGroup
		for i := range 20 {
			work.Go(func() {
				if _, err := call(limited(t), pools[i%2], "web", "echo", "{}"); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
	}
	for round := range 3 {
		w.Expire()
		calls()
		if n := w.Count("refresh"); n != round+1 {
			t.Fatalf("%d renewals after %d expiries", n, round+1)
		}
	}
	// By the clock: before the server refuses the old token.
	name, fields := kept(t, dir)
	fields["renew"] = time.Now().Add(-time.Second)
	b, _ := json.Marshal(fields)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	calls() // with the old token, which is good
	wait(t, "the token is renewed", func() bool { return w.Count("refresh") == 4 })
	if n := w.Count("reuse"); n != 0 {
		t.Errorf("%d renewals with a token that was used up", n)
	}
	// A server that refuses whatever it gets is asked once more, not for ever.
	w.Set(func(s *oauthtest.Settings) { s.RefuseAllCalls = true })
	_, err := call(limited(t), pools[0], "web", "echo", "{}")
	wantError(t, err, "needs authorization", "mcp-bridge login web")
	if n := w.Count("refresh"); n != 5 {
		t.Errorf("%d renewals", n)
	}
}

// TestRenewalFails: a login that has ended says so and names the way back; one that may come back does not.
func TestRenewalFails(t *testing.T) {
	w, s, dir, p := loggedIn(t)
	text(t, p, "web", "echo", "{}")
	w.Set(func(s *oauthtest.Settings) { s.RefuseRenewals = http.StatusInternalServerError })
	secrets := w.Secrets()
	w.Expire()
	for range 3 {
		_, err := call(limited(t), p, "web", "echo", "{}")
		wantError(t, err, "cannot renew the token", "500")
	}
	if n := w.Count("refresh"); n != 1 {
		t.Errorf("%d renewals in a row", n)
	}
	w.Set(func(s *oauthtest.Settings) { s.RefuseRenewals, s.ForgetRefresh, s.QuoteSecrets = 0, true, true })
	p = pool(t, Options{TokenDir: dir}, s)
	for range 3 {
		_, err := p.Tools(limited(t), "web")
		e := wantError(t, err, "a login is needed", "mcp-bridge login web")
		for _, secret := range secrets {
			if strings.Contains(e.Message, secret) {
				t.Errorf("a token is shown: %s", e.Message)
			}
		}
	}
	if n := w.Count("refresh"); n != 2 {
		t.Errorf("%d renewals; a token that is refused is not tried again", n)
	}
	w.Set(func(s *oauthtest.Settings) { *s = oauthtest.Settings{NoRefresh: true, Lifetime: 1} })
	if _, err := login(t, p); err != nil {
		t.Fatal(err)
	}
	p = pool(t, Options{TokenDir: dir}, s)
	text(t, p, "web", "echo", "{}")
	w.Expire()
	_, err := call(limited(t), p, "web", "echo", "{}")
	wantError(t, err, "cannot be renewed", "mcp-bridge login web")
}

// TestMoreScopes: what a server wants beyond a login is asked for by the next one, and nothing is renewed for it.
func TestMoreScopes(t *testing.T) {
	w, _, _, p := loggedIn(t)
	text(t, p, "web", "echo", "{}")
	w.Set(func(s *oauthtest.Settings) { s.Missing = "write " + strings.Repeat("x", 300) })
	for range 2 {
		_, err := call(limited(t), p, "web", "echo", "{}")
		wantError(t, err, "cannot be asked", "403", "insufficient_scope", "mcp-bridge login web")
	}
	w.Set(func(s *oauthtest.Settings) { s.Missing = "" })
	asked, err := login(t, p)
	if err != nil || asked.Get("scope") != "all write" || w.Count("refresh") != 0 {
		t.Errorf("%v; it asked for %q; %d renewals", err, asked.Get("scope"), w.Count("refresh"))
	}
	text(t, p, "web", "echo", "{}")
}

// TestClientCredentials: a client with a secret gets tokens where the metadata says, and nowhere else.
func TestClientCredentials(t *testing.T) {
	w, s := world(t)
	w.Set(func(s *oauthtest.Settings) {
		s.ClientSecret, s.Lifetime = "ses+ame/42", 3600
		s.Metadata = map[string]any{"authorization_endpoint": nil, "code_challenge_methods_supported": nil}
	})
	s.OAuth = &config.OAuth{ClientID: "me", ClientSecret: "ses+ame/42"}
	p := pool(t, Options{}, s)
	text(t, p, "web", "echo", "{}")
	text(t, p, "web", "echo", "{}")
	w.Expire()
	text(t, p, "web", "echo", "{}")
	if n := w.Count("client"); n != 2 {
		t.Errorf("%d tokens", n)
	}
	// What the authorization server quotes is not shown.
	w.Set(func(s *oauthtest.Settings) { s.Scope, s.QuoteSecrets = "others", true })
	w.Expire()
	other := s
	other.OAuth = &config.OAuth{ClientID: "me", ClientSecret: "ses+ame/43", Scopes: []string{"x"}}
	_, err := pool(t, Options{}, other).Tools(limited(t), "web")
	if e := wantError(t, err, "invalid_client"); strings.Contains(e.Message, "ame") || strings.Contains(e.Message, "mcp-bridge login") {
		t.Error(e.Message)
	}
	// The server's metadata is not believed where the entry has some, and is not passed by where it is bad.
	w.Set(func(s *oauthtest.Settings) {
		*s = oauthtest.Settings{ClientSecret: "ses+ame/42", ResourceMeta: map[string]any{"authorization_servers": []string{"http://127.0.0.1:1/evil"}}}
	})
	_, err = pool(t, Options{}, s).Tools(limited(t), "web")
	wantError(t, err, "127.0.0.1:1")
	s.OAuth.MetadataURL = w.AS.URL + "/.well-known/oauth-authorization-server/tenant"
	text(t, pool(t, Options{}, s), "web", "echo", "{}")
	w.Set(func(s *oauthtest.Settings) { s.ResourceMeta = map[string]any{"resource": "https://bank.example/"} })
	_, err = pool(t, Options{}, s).Tools(limited(t), "web")
	wantError(t, err, "of another resource")
	if f := w.Foreign(); len(f) > 0 {
		t.Errorf("tokens went to %v", f)
	}
}

// TestSlowRenewal: an authorization server that does not answer holds neither who has given up nor the end of the bridge, and
// the renewal goes on.
func TestSlowRenewal(t *testing.T) {
	w, _, _, p := loggedIn(t)
	text(t, p, "web", "echo", "{}")
	hold := make(chan struct{})
	w.Set(func(s *oauthtest.Settings) { s.Hold = hold })
	w.Expire()
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := call(ctx, p, "web", "echo", "{}"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	}
	work.Wait()
	close(hold)
	text(t, p, "web", "echo", "{}")
	if n := w.Count("refresh"); n != 1 || w.Count("reuse") != 0 {
		t.Errorf("%d renewals, %d with a token that was used up", n, w.Count("reuse"))
	}
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	w.Set(func(s *oauthtest.Settings) { s.Hold = never })
	w.Expire()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _ = call(ctx, p, "web", "echo", "{}")
	begun := time.Now()
	p.Close()
	if took := time.Since(begun); took > tokenTimeout/2 {
		t.Errorf("the end took %v", took)
	}
}

// TestUsableUntilItEnds: a token that should be renewed and cannot be is used while it is good; and after a login nobody is held
// up by what failed before.
func TestUsableUntilItEnds(t *testing.T) {
	w, s := world(t)
	dir := tokenDir(t)
	p := pool(t, Options{TokenDir: dir}, s)
	w.Set(func(s *oauthtest.Settings) { s.Lifetime = 3600 })
	if _, err := login(t, p); err != nil {
		t.Fatal(err)
	}
	name, fields := kept(t, dir)
	fields["renew"] = time.Now().Add(-time.Second)
	b, _ := json.Marshal(fields)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	w.Set(func(s *oauthtest.Settings) { s.RefuseRenewals, s.Hold = http.StatusInternalServerError, hold })
	for range 3 { // while the authorization server thinks it over
		text(t, p, "web", "echo", "{}")
	}
	close(hold)
	wait(t, "it is asked to renew the token", func() bool { return w.Count("refresh") == 1 })
	text(t, p, "web", "echo", "{}")
	// What is said of the client is not said of the login: its entry may be mended.
	configured := s
	configured.OAuth = &config.OAuth{ClientID: "me"}
	w.Set(func(s *oauthtest.Settings) { *s = oauthtest.Settings{Lifetime: 3600} })
	if _, err := login(t, pool(t, Options{TokenDir: dir}, configured)); err != nil {
		t.Fatal(err)
	}
	w.Set(func(s *oauthtest.Settings) { s.ClientSecret = "another" })
	w.Expire()
	_, err := call(limited(t), pool(t, Options{TokenDir: dir}, configured), "web", "echo", "{}")
	wantError(t, err, "invalid_client", "mcp-bridge login web")
	w.Set(func(s *oauthtest.Settings) { s.ClientSecret = "" })
	text(t, pool(t, Options{TokenDir: dir}, configured), "web", "echo", "{}")
	for _, status := range []int{http.StatusUnauthorized, http.StatusBadRequest} {
		w.Set(func(s *oauthtest.Settings) { s.RefuseRenewals = status })
		w.Expire()
		q := pool(t, Options{TokenDir: dir}, s)
		for range 3 {
			_, err := call(limited(t), q, "web", "echo", "{}")
			wantError(t, err, "mcp-bridge login web", fmt.Sprint(status))
		}
		if _, err := login(t, q); err != nil {
			t.Fatal(err)
		}
		text(t, q, "web", "echo", "{}")
	}
}

// TestTokenIsMasked: an access token that the server quotes is in no error.
func TestTokenIsMasked(t *testing.T) {
	w, s := world(t)
	h := &httpServer{lax: true, answer: func(rw http.ResponseWriter, r *http.Request, _ json.RawMessage) bool {
		http.Error(rw, "debug: "+r.Header.Get("Authorization"), http.StatusInternalServerError)
		return true
	}}
	w.Close()
	w = oauthtest.New(h)
	t.Cleanup(w.Close)
	s.URL = w.URL()
	p := pool(t, Options{TokenDir: tokenDir(t)}, s)
	if _, err := login(t, p); err != nil {
		t.Fatal(err)
	}
	_, err := call(limited(t), p, "web", "echo", "{}")
	wantError(t, err, "debug: Bearer …")
}
