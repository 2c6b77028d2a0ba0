// Package oauthtest is an authorization server and a resource that it protects, for tests. It is strict: what a client
// should not have sent fails.
package oauthtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
)

// A World is both servers. Its settings may be changed between requests, with Set.
type World struct {
	Settings
	Resource, AS *httptest.Server

	mu       sync.Mutex
	requests map[string]url.Values // by the code
	access   map[string]bool       // the tokens that are good
	refresh  map[string]bool
	counts   map[string]int
	foreign  []string
}

// Settings are how the servers behave.
type Settings struct {
	Scope          string            // of the challenge
	WellKnownOnly  bool              // the challenge does not say where the metadata is
	OpenID         bool              // the metadata is that of OpenID Connect
	Metadata       map[string]any    // replaces keys of the authorization server's; nil removes one
	ResourceMeta   map[string]any    // of the resource's
	Challenge      string            // the whole of it
	Answer         map[string]string // replaces what the browser brings back; "" removes
	Lifetime       int               // expires_in; 0: not said
	NoRefresh      bool
	ForgetRefresh  bool // every refresh token is refused
	QuoteSecrets   bool // errors quote what was sent
	ClientSecret   string
	RefuseAllCalls bool          // 401 whatever the token
	Missing        string        // a scope without which there is 403
	Slash          bool          // /mcp redirects to /mcp/
	Page           bool          // places that there are not have a page for people
	NoMethod       bool          // registering does not say how the secret is shown
	Hold           chan struct{} // tokens are given when it is closed
	Lives          string        // expires_in as it is
	RefuseRenewals int           // with this status and no JSON
}

// New starts the servers; Close ends them. The resource is at URL.
func New(mcp http.Handler) *World {
	w := &World{requests: make(map[string]url.Values), access: make(map[string]bool), refresh: make(map[string]bool), counts: make(map[string]int)}
	resource, as := http.NewServeMux(), http.NewServeMux()
	w.Resource, w.AS = httptest.NewServer(resource), httptest.NewServer(as)
	resource.HandleFunc("/mcp", func(rw http.ResponseWriter, r *http.Request) {
		if w.settings().Slash {
			http.Redirect(rw, r, "/mcp/", http.StatusTemporaryRedirect)
			return
		}
		w.protect(rw, r, mcp)
	})
	resource.HandleFunc("/mcp/", func(rw http.ResponseWriter, r *http.Request) { w.protect(rw, r, mcp) })
	resource.HandleFunc("/.well-known/oauth-protected-resource/mcp", func(rw http.ResponseWriter, r *http.Request) {
		w.stranger(r)
		w.json(rw, merged(map[string]any{"resource": w.URL(), "authorization_servers": []string{w.Issuer()}, "scopes_supported": []string{"all"}}, w.settings().ResourceMeta))
	})
	metadata := func(openID bool) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			w.stranger(r)
			s := w.settings()
			if s.OpenID != openID {
				w.nowhere(rw, r)
				return
			}
			w.json(rw, merged(map[string]any{
				"issuer": w.Issuer(), "authorization_endpoint": w.Issuer() + "/authorize?tenant=1", "token_endpoint": w.Issuer() + "/token",
				"registration_endpoint": w.Issuer() + "/register", "revocation_endpoint": w.Issuer() + "/revoke",
				"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic"},
			}, s.Metadata))
		}
	}
	as.HandleFunc("/.well-known/oauth-authorization-server/tenant", metadata(false))
	as.HandleFunc("/tenant/.well-known/openid-configuration", metadata(true))
	as.HandleFunc("/", w.nowhere)
	as.HandleFunc("/tenant/register", w.register)
	as.HandleFunc("/tenant/authorize", w.authorize)
	as.HandleFunc("/tenant/token", w.token)
	as.HandleFunc("/tenant/revoke", w.revoke)
	return w
}

// Close ends the servers.
func (w *World) Close() { w.Resource.Close(); w.AS.Close() }

// URL is that of the resource.
func (w *World) URL() string { return w.Resource.URL + "/mcp" }

// Issuer is the authorization server.
func (w *World) Issuer() string { return w.AS.URL + "/tenant" }

// Set changes settings.
func (w *World) Set(change func(*Settings)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.Settings)
}

// Count is how often something was asked for: register, authorize, code, refresh, reuse, revoke.
func (w *World) Count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[what]
}

// Expire makes all access tokens bad.
func (w *World) Expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.access)
}

// Foreign are requests that had a token where none belongs.
func (w *World) Foreign() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.foreign
}

// Secrets are all tokens that are good.
func (w *World) Secrets() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range w.access {
		list = append(list, t)
	}
	for t := range w.refresh {
		list = append(list, t)
	}
	return list
}

func (w *World) settings() Settings {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Settings
}

func merged(m, more map[string]any) map[string]any {
	for name, value := range more {
		m[name] = value
		if value == nil {
			delete(m, name)
		}
	}
	return m
}

func (w *World) json(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v) // the client may be gone
}

func (w *World) nowhere(rw http.ResponseWriter, r *http.Request) {
	if !w.settings().Page {
		http.NotFound(rw, r)
		return
	}
	fmt.Fprint(rw, "<!DOCTYPE html><title>Welcome</title>")
}

func (w *World) stranger(r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer") {
		w.mu.Lock()
		w.foreign = append(w.foreign, r.Method+" "+r.URL.String())
		w.mu.Unlock()
	}
}

func (w *World) protect(rw http.ResponseWriter, r *http.Request, mcp http.Handler) {
	s := w.settings()
	w.mu.Lock()
	good := w.access[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] && !s.RefuseAllCalls
	w.mu.Unlock()
	if good && s.Missing != "" {
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, s.Missing))
		rw.WriteHeader(http.StatusForbidden)
		return
	}
	if good {
		mcp.ServeHTTP(rw, r)
		return
	}
	challenge := "Bearer"
	if !s.WellKnownOnly {
		challenge += fmt.Sprintf(" resource_metadata=%q", w.Resource.URL+"/.well-known/oauth-protected-resource/mcp")
		if s.Scope != "" {
			challenge += fmt.Sprintf(", scope=%q", s.Scope)
		}
	}
	if s.Challenge != "" {
		challenge = s.Challenge
	}
	rw.Header().Set("WWW-Authenticate", challenge)
	rw.WriteHeader(http.StatusUnauthorized)
}

func (w *World) register(rw http.ResponseWriter, r *http.Request) {
	var ask struct {
		RedirectURIs []string `json:"redirect_uris"`
		Method       string   `json:"token_endpoint_auth_method"`
	}
	if json.NewDecoder(r.Body).Decode(&ask) != nil || len(ask.RedirectURIs) != 1 || r.Method != http.MethodPost {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	w.count("register")
	answer := map[string]any{"client_id": "registered " + ask.RedirectURIs[0]}
	if s := w.settings().ClientSecret; s != "" {
		answer["client_secret"] = s
		if !w.settings().NoMethod {
			answer["token_endpoint_auth_method"] = "client_secret_basic"
		}
	}
	rw.WriteHeader(http.StatusCreated)
	w.json(rw, answer)
}

func (w *World) count(what string) {
	w.mu.Lock()
	w.counts[what]++
	w.mu.Unlock()
}

func (w *World) authorize(rw http.ResponseWriter, r *http.Request) {
	w.count("authorize")
	q := r.URL.Query()
	to, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("code_challenge_method") != "S256" || q.Get("tenant") != "1" || q.Get("response_type") != "code" || q.Get("resource") == "" {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	code := "code-" + rand.Text()
	w.mu.Lock()
	w.requests[code] = q
	w.mu.Unlock()
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {w.Issuer()}}
	for name, value := range w.settings().Answer {
		back.Set(name, value)
		if value == "" {
			back.Del(name)
		}
	}
	to.RawQuery = back.Encode()
	http.Redirect(rw, r, to.String(), http.StatusFound)
}

func (w *World) token(rw http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s := w.settings()
	if s.Hold != nil {
		select {
		case <-s.Hold:
		case <-r.Context().Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	refuse := func(code string) {
		rw.WriteHeader(http.StatusBadRequest)
		description := "no"
		if s.QuoteSecrets {
			description = "you sent " + r.PostForm.Encode()
		}
		w.json(rw, map[string]string{"error": code, "error_description": description})
	}
	id, secret, basic := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	if secret, _ = url.QueryUnescape(secret); !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if s.ClientSecret != "" && secret != s.ClientSecret {
		refuse("invalid_client")
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		w.counts["code"]++
		q, ok := w.requests[r.PostForm.Get("code")]
		delete(w.requests, r.PostForm.Get("code"))
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if !ok || s.QuoteSecrets || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") || q.Get("client_id") != id ||
			q.Get("redirect_uri") != r.PostForm.Get("redirect_uri") || q.Get("resource") != r.PostForm.Get("resource") {
			refuse("invalid_grant")
			return
		}
	case "refresh_token":
		w.counts["refresh"]++
		if s.RefuseRenewals != 0 {
			rw.WriteHeader(s.RefuseRenewals)
			return
		}
		token := r.PostForm.Get("refresh_token")
		if !w.refresh[token] || s.ForgetRefresh || r.PostForm.Get("resource") == "" {
			w.counts["reuse"]++
			refuse("invalid_grant")
			return
		}
		delete(w.refresh, token) // each is good once
	case "client_credentials":
		w.counts["client"]++
		if s.ClientSecret == "" || r.PostForm.Get("resource") != w.URL() || s.Scope != "" && r.PostForm.Get("scope") != s.Scope {
			refuse("invalid_request")
			return
		}
	default:
		refuse("unsupported_grant_type")
		return
	}
	answer := map[string]any{"access_token": "access-" + rand.Text(), "token_type": "bearer"}
	w.access[answer["access_token"].(string)] = true
	if s.Lifetime > 0 {
		answer["expires_in"] = s.Lifetime
	}
	if s.Lives != "" {
		answer["expires_in"] = json.RawMessage(s.Lives)
	}
	if !s.NoRefresh {
		answer["refresh_token"] = "refresh-" + rand.Text()
		w.refresh[answer["refresh_token"].(string)] = true
	}
	w.json(rw, answer)
}

func (w *World) revoke(_ http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts["revoke"]++
	delete(w.access, r.PostForm.Get("token"))
	delete(w.refresh, r.PostForm.Get("token"))
}
