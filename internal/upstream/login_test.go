package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/oauth/oauthtest"
)

// world makes a server that wants a login.
func world(t testing.TB) (*oauthtest.World, config.Server) {
	t.Helper()
	w := oauthtest.New(&httpServer{lax: true})
	t.Cleanup(w.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return w, config.Server{Name: "web", File: "/etc/test.json", Transport: config.Remote, URL: w.URL()}
}

// tokenDir is a directory for logins.
func tokenDir(t testing.TB) string { return filepath.Join(t.TempDir(), "data", "tokens") }

// browse plays a browser and its user, who agrees. Its page comes when the login has taken the answer.
func browse(t testing.TB, to *string) func(string) {
	return func(u string) {
		*to = u
		go func() {
			resp, err := http.Get(u)
			if err != nil {
				t.Errorf("the browser: %v", err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}()
	}
}

func login(t testing.TB, p *Pool) (url.Values, error) {
	t.Helper()
	var opened string
	_, err := p.Login(limited(t), "web", nil, browse(t, &opened))
	u, _ := url.Parse(opened)
	return u.Query(), err
}

// loggedIn makes a server that wants a login, and a pool that has one.
func loggedIn(t testing.TB) (w *oauthtest.World, s config.Server, dir string, p *Pool) {
	t.Helper()
	w, s = world(t)
	dir = tokenDir(t)
	p = pool(t, Options{TokenDir: dir}, s)
	if _, err := login(t, p); err != nil {
		t.Fatal(err)
	}
	return w, s, dir, p
}

// kept is the one login in a directory.
func kept(t testing.TB, dir string) (name string, fields map[string]any) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v: %v", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	return names[0], fields
}

// TestLogin: a server that wants a login is usable after it, in all ways in which it can say what it wants.
func TestLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		set    func(*oauthtest.Settings)
		server func(*config.Server, *oauthtest.World)
		scope  string
		client string
	}{
		"the challenge says where":   {scope: "all", client: "registered "},
		"the challenge names scopes": {set: func(s *oauthtest.Settings) { s.Scope = "read write" }, scope: "read write", client: "registered "},
		"a well-known place":         {set: func(s *oauthtest.Settings) { s.WellKnownOnly = true }, scope: "all", client: "registered "},
		"OpenID":                     {set: func(s *oauthtest.Settings) { s.OpenID = true }, scope: "all", client: "registered "},
		"a resource above":           {set: func(s *oauthtest.Settings) { s.ResourceMeta = map[string]any{"scopes_supported": nil} }, client: "registered "},
		"no issuer in the answer":    {set: func(s *oauthtest.Settings) { s.Answer = map[string]string{"iss": ""} }, scope: "all", client: "registered "},
		"a redirect to a slash":      {set: func(s *oauthtest.Settings) { s.Slash = true }, scope: "all", client: "registered "},
		"pages for people":           {set: func(s *oauthtest.Settings) { s.OpenID, s.Page = true, true }, scope: "all", client: "registered "},
		"an odd life":                {set: func(s *oauthtest.Settings) { s.Lives = `"soon"` }, scope: "all", client: "registered "},
		"a secret without a method": {
			set: func(s *oauthtest.Settings) { s.ClientSecret, s.NoMethod = "sesame", true }, scope: "all", client: "registered ",
		},
		"a client with a secret": {set: func(s *oauthtest.Settings) { s.ClientSecret = "sesame" }, scope: "all", client: "registered "},
		"offline access": {
			set: func(s *oauthtest.Settings) {
				s.Metadata = map[string]any{"scopes_supported": []string{"offline_access"}}
			},
			scope: "all offline_access", client: "registered ",
		},
		"a client of the entry": {
			set: func(s *oauthtest.Settings) {
				s.ClientSecret, s.Metadata = "sesame", map[string]any{"registration_endpoint": nil}
			},
			server: func(s *config.Server, _ *oauthtest.World) {
				s.OAuth = &config.OAuth{ClientID: "mine", ClientSecret: "sesame", Scopes: []string{"x"}}
			},
			scope: "x", client: "mine",
		},
		"metadata of the entry": {
			set: func(s *oauthtest.Settings) { s.ResourceMeta = map[string]any{"authorization_servers": nil} },
			server: func(s *config.Server, w *oauthtest.World) {
				s.OAuth = &config.OAuth{MetadataURL: w.AS.URL + "/.well-known/oauth-authorization-server/tenant"}
			},
			scope: "all", client: "registered ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := world(t)
			if tt.set != nil {
				w.Set(tt.set)
			}
			if tt.server != nil {
				tt.server(&s, w)
			}
			dir := tokenDir(t)
			p := pool(t, Options{TokenDir: dir}, s)
			if s.OAuth == nil {
				_, err := p.Tools(limited(t), "web")
				wantError(t, err, `needs authorization: it answered 401`, "mcp-bridge login web", "/etc/test.json")
			}
			asked, err := login(t, p)
			if err != nil {
				t.Fatal(err)
			}
			if asked.Get("scope") != tt.scope || !strings.HasPrefix(asked.Get("client_id"), tt.client) || asked.Get("resource") != w.URL() {
				t.Errorf("it asked %v", asked)
			}
			text(t, p, "web", "echo", "{}")
			text(t, pool(t, Options{TokenDir: dir}, s), "web", "echo", "{}")
			file, _ := kept(t, dir)
			for _, name := range []string{file, dir} {
				if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s: %v, %v", name, info.Mode(), err)
				}
			}
			if b, _ := os.ReadFile(file); tt.client == "mine" && strings.Contains(string(b), "sesame") {
				t.Errorf("the secret of the entry is kept: %s", b)
			}
			if f := w.Foreign(); len(f) > 0 || w.Count("refresh") > 0 {
				t.Errorf("tokens went to %v; %d renewals", f, w.Count("refresh"))
			}
		})
	}
}

// TestLoginRefused: what makes a login fail, before or after the browser, and that nothing is kept then.
func TestLoginRefused(t *testing.T) {
	meta := func(key string, value any) func(*oauthtest.Settings) {
		return func(s *oauthtest.Settings) { s.Metadata = map[string]any{key: value} }
	}
	answer := func(kv ...string) func(*oauthtest.Settings) {
		return func(s *oauthtest.Settings) {
			s.Answer = make(map[string]string)
			for i := 0; i < len(kv); i += 2 {
				s.Answer[kv[i]] = kv[i+1]
			}
		}
	}
	resource := func(key string, value any) func(*oauthtest.Settings) {
		return func(s *oauthtest.Settings) { s.ResourceMeta = map[string]any{key: value} }
	}
	for name, tt := range map[string]struct {
		set     func(*oauthtest.Settings)
		want    string
		browser bool
	}{
		"issuer":            {answer("iss", "https://evil.example"), "of another issuer", true},
		"issuer with slash": {answer("iss", "x/"), "of another issuer", true},
		"no code":           {answer("code", ""), "no code", true},
		"denied":            {answer("error", "access_denied", "error_description", "not \x1b you"), `access_denied ("not \x1b you")`, true},
		"denied by another": {answer("error", "access_denied", "iss", "https://evil.example"), "of another issuer", true},
		"an odd error":      {answer("error", "<script>"), "the authorization server refuses", true},
		"quotes":            {func(s *oauthtest.Settings) { s.QuoteSecrets = true }, "invalid_grant", true},
		"issuer missing": {func(s *oauthtest.Settings) {
			s.Answer, s.Metadata = map[string]string{"iss": ""}, map[string]any{"authorization_response_iss_parameter_supported": true}
		}, "of another issuer", true},
		"no PKCE":              {meta("code_challenge_methods_supported", nil), "PKCE", false},
		"plain PKCE":           {meta("code_challenge_methods_supported", []string{"plain"}), "PKCE", false},
		"no registration":      {meta("registration_endpoint", nil), "add an OAuth clientId", false},
		"another issuer's":     {meta("issuer", "https://evil.example"), "of another issuer", false},
		"plain http":           {meta("token_endpoint", "http://evil.example/token"), "token_endpoint of the authorization server is not one of https", false},
		"javascript":           {meta("authorization_endpoint", "javascript:alert(1)"), "authorization_endpoint", false},
		"a file":               {meta("authorization_endpoint", "file:///etc/passwd"), "authorization_endpoint", false},
		"cloud":                {resource("authorization_servers", []string{"https://169.254.169.254/"}), "a network that the MCP server is not in", false},
		"plain issuer":         {resource("authorization_servers", []string{"http://10.0.0.1/"}), "is not at an https URL", false},
		"another resource":     {resource("resource", "https://bank.example/mcp"), "of another resource", false},
		"a neighbour":          {func(s *oauthtest.Settings) { s.ResourceMeta = map[string]any{"resource": "http://x/mcp/other"} }, "of another resource", false},
		"metadata elsewhere":   {func(s *oauthtest.Settings) { s.Challenge = `Bearer resource_metadata="https://evil.example/"` }, "not on the server's own host", false},
		"metadata in a file":   {func(s *oauthtest.Settings) { s.Challenge = `Bearer resource_metadata="file:///etc/passwd"` }, "not on the server's own host", false},
		"metadata without end": {resource("x", strings.Repeat("x", 2<<20)), "longer than 1 MiB", false},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := world(t)
			w.Set(tt.set)
			dir := tokenDir(t)
			asked, err := login(t, pool(t, Options{TokenDir: dir}, s))
			e := wantError(t, err, tt.want)
			if (w.Count("authorize") > 0) != tt.browser {
				t.Errorf("the browser was asked %d times: %v", w.Count("authorize"), err)
			}
			for _, part := range []string{"code-", "code_verifier", asked.Get("state"), "\x1b"} {
				if part != "" && strings.Contains(e.Message, part) {
					t.Errorf("%q is shown: %s", part, e.Message)
				}
			}
			if names, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(names) > 0 {
				t.Errorf("kept: %v", names)
			}
		})
	}
}

// TestForgedAnswer: what is no answer to our question neither ends the login nor makes one.
func TestForgedAnswer(t *testing.T) {
	_, s := world(t)
	p := pool(t, Options{TokenDir: tokenDir(t)}, s)
	var opened string
	_, err := p.Login(limited(t), "web", nil, func(to string) {
		u, _ := url.Parse(to)
		for _, state := range []string{"forged", ""} {
			resp, err := http.Get(u.Query().Get("redirect_uri") + "?code=x&state=" + state)
			if err != nil {
				t.Error(err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("state %q: %s", state, resp.Status)
			}
		}
		browse(t, &opened)(to)
	})
	if err != nil {
		t.Error(err)
	}
	text(t, p, "web", "echo", "{}")
}

// TestLoginOf: servers for which there is no login.
func TestLoginOf(t *testing.T) {
	header := config.Server{Name: "header", Transport: config.HTTP, URL: "https://x.example", Headers: map[string]string{"authorization": "Bearer x"}}
	clear := config.Server{Name: "clear", Transport: config.HTTP, URL: "http://user:secret@x.example/"}
	p := pool(t, Options{TokenDir: tokenDir(t)}, hostile(t, ""), header, clear)
	for name, want := range map[string]string{
		"hostile": "is a program", "header": "has an Authorization header", "clear": "its url is no URL of a host", "other": "there is no MCP server",
	} {
		_, err := p.Login(limited(t), name, nil, func(string) { t.Error("a browser") })
		wantError(t, err, want)
	}
	clear.URL = "http://x.example/"
	_, err := pool(t, Options{TokenDir: tokenDir(t)}, clear).Login(limited(t), "clear", nil, nil)
	wantError(t, err, "not one of https")
	ctx, cancel := context.WithCancel(t.Context())
	w, s := world(t)
	if _, err = pool(t, Options{TokenDir: tokenDir(t)}, s).Login(ctx, "web", nil, func(string) { cancel() }); err == nil || w.Count("code") > 0 {
		t.Errorf("a login that is given up: %v", err)
	}
}

// TestTokenStaysHome: a token goes to the server only, not where that sends us.
func TestTokenStaysHome(t *testing.T) {
	w, s, dir, p := loggedIn(t)
	var mu sync.Mutex
	var got []string
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got = append(got, r.Header.Get("Authorization"))
		mu.Unlock()
	}))
	t.Cleanup(thief.Close)
	// The server that we have logged in to now redirects.
	to := thief.URL
	w.Resource.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/mcp" {
			mu.Lock()
			got = append(got, r.Header.Get("Authorization"))
			mu.Unlock()
			return
		}
		http.Redirect(rw, r, to, http.StatusTemporaryRedirect)
	})
	_, err := p.Tools(limited(t), "web")
	wantError(t, err, "redirects to another host")
	to = "/elsewhere"
	_, _ = pool(t, Options{TokenDir: dir}, s).Tools(limited(t), "web") // its answer is none
	if strings.Join(got, "") != "" || len(got) == 0 {
		t.Errorf("tokens arrived: %q", got)
	}
	// Another server of the same host has no part in it.
	other := s
	other.URL = thief.URL
	_, _ = pool(t, Options{TokenDir: dir}, other).Tools(limited(t), "web")
	if strings.Join(got, "") != "" {
		t.Errorf("tokens arrived: %q", got)
	}
}

// TestTokenFile: a login that others may have read or written is not used, and logging out removes it.
func TestTokenFile(t *testing.T) {
	w, s, dir, p := loggedIn(t)
	name, fields := kept(t, dir)
	good, _ := os.ReadFile(name)
	fields["url"] = "https://other.example/"
	moved, _ := json.Marshal(fields)
	for what, tt := range map[string]struct {
		spoil func() error
		want  string
	}{
		"readable": {func() error { return os.Chmod(name, 0o640) }, "others have rights to it"},
		"a link":   {func() error { return os.Symlink("/dev/zero", name) }, "cannot read a login"},
		"a pipe":   {func() error { return os.Mkdir(name, 0o700) }, "no regular file"},
		"another's": {func() error {
			if os.Geteuid() != 0 {
				return os.Chmod(name, 0o604) // as good as it gets
			}
			return os.Chown(name, 12345, 12345)
		}, map[bool]string{true: "another user", false: "others have rights"}[os.Geteuid() == 0]},
		"moved":   {func() error { return os.WriteFile(name, moved, 0o600) }, "not what this version has written"},
		"garbage": {func() error { return os.WriteFile(name, []byte(`{"version":`), 0o600) }, "not what this version has written"},
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
			if what != "a link" && what != "a pipe" {
				if err := os.WriteFile(name, good, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.spoil(); err != nil {
				t.Fatal(err)
			}
			_, err := pool(t, Options{TokenDir: dir}, s).Tools(limited(t), "web")
			wantError(t, err, tt.want)
		})
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := login(t, p)
	wantError(t, err, "others have rights to it")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
	if _, err := login(t, p); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		found, told, err := p.Logout(limited(t), "web")
		if found != want || told != nil || err != nil {
			t.Errorf("%v, %v, %v", found, told, err)
		}
	}
	if n := w.Count("revoke"); n != 2 {
		t.Errorf("%d tokens were revoked", n)
	}
	_, err = pool(t, Options{TokenDir: dir}, s).Tools(limited(t), "web")
	wantError(t, err, "it answered 401", fmt.Sprintf("%q", "mcp-bridge login web"))
}
