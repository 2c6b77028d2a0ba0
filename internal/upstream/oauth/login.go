package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loginTimeout is how long a user may take in the browser.
const loginTimeout = 5 * time.Minute

// Login gets tokens for a server and keeps them in dir. show is given the URL that a browser is to open, once the answer
// is waited for. It returns the issuer of the tokens.
func Login(ctx context.Context, s Server, dir string, show func(string)) (issuer string, err error) {
	w, err := newWeb(s.URL)
	if err != nil {
		return "", err
	}
	defer w.close()
	if err := canKeep(dir); err != nil { // before the user takes pains
		return "", err
	}
	f, err := w.discover(ctx, s)
	if err == nil {
		err = f.AS.checkLogin()
	}
	if err != nil {
		return "", err
	}
	if before, err := read(s, dir); err == nil && !s.OnlyScopes && before.Wanted != nil {
		f.Scopes = union(union(f.Scopes, before.Scopes...), before.Wanted...)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(s.CallbackPort))
	if err != nil {
		return "", fmt.Errorf("cannot listen for the browser: %w", err)
	}
	defer l.Close()
	redirect := "http://" + l.Addr().String() + "/callback"
	c, err := w.register(ctx, s, f, redirect)
	if err != nil {
		return "", err
	}
	ask, err := newQuestion(f, c, redirect)
	if err != nil {
		return "", err
	}
	wait, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	code, err := ask.answer(wait, l, show)
	if err != nil {
		return "", err
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect},
		"code_verifier": {ask.verifier}, "resource": {f.Resource},
	}
	var t tokens
	if err := w.postForm(ctx, c, f.AS.Token, form, &t, code, ask.verifier); err != nil {
		return "", fmt.Errorf("cannot get a token: %w", err)
	}
	g := &grant{
		Version: grantVersion, URL: s.URL, Resource: f.Resource, Issuer: f.AS.Issuer, Client: c,
		TokenEndpoint: f.AS.Token, RevocationEndpoint: f.AS.Revocation, configured: s.ClientID != "",
		Scopes: f.Scopes,
	}
	if err := g.take(t, time.Now()); err != nil {
		return "", err
	}
	return f.AS.Issuer, g.keep(ctx, s, dir)
}

// register makes us known to the authorization server, unless we are already.
func (w *web) register(ctx context.Context, s Server, f found, redirect string) (client, error) {
	if s.ClientID != "" {
		if s.ClientSecret == "" {
			return client{ID: s.ClientID, Method: "none"}, nil
		}
		return client{ID: s.ClientID, Secret: s.ClientSecret, Method: f.AS.method()}, nil
	}
	if f.AS.Registration == "" {
		return client{}, fmt.Errorf("%.200q does not let programs register themselves: add an OAuth clientId to its entry", f.AS.Issuer)
	}
	method := "none"
	if f.AS.Methods != nil && !slices.Contains(f.AS.Methods, method) {
		method = f.AS.method()
	}
	ask := map[string]any{
		"client_name": "mcp-bridge", "redirect_uris": []string{redirect}, "application_type": "native",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": method,
	}
	if scope := f.scope(); scope != "" {
		ask["scope"] = scope
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return client{}, err
	}
	var got struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
		Method string `json:"token_endpoint_auth_method"`
	}
	if err := w.post(ctx, f.AS.Registration, "application/json", body, nil, &got); err != nil {
		return client{}, fmt.Errorf("cannot register a client: %w", err)
	}
	if got.ID == "" {
		return client{}, errors.New("cannot register a client: the answer has no client_id")
	}
	switch {
	case got.Method != "":
	case got.Secret != "":
		got.Method = f.AS.method()
	default:
		got.Method = method
	}
	return client(got), nil
}

// scope is what is asked for. Without offline_access some servers give no token that can be renewed.
func (f found) scope() string {
	list := f.Scopes
	if slices.Contains(f.AS.Scopes, "offline_access") {
		list = union(list, "offline_access")
	}
	return strings.Join(list, " ")
}

// A question is one request for an authorization.
type question struct {
	to              *url.URL
	state, verifier string
	issuer          string
	saysIssuer      bool
}

func newQuestion(f found, c client, redirect string) (*question, error) {
	to, err := parse(f.AS.Authorization)
	if err != nil {
		return nil, err
	}
	q := &question{to: to, state: random(), verifier: random(), issuer: f.AS.Issuer, saysIssuer: f.AS.SaysIssuer}
	sum := sha256.Sum256([]byte(q.verifier))
	v := to.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": c.ID, "redirect_uri": redirect, "state": q.state, "resource": f.Resource,
		"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256",
	} {
		v.Set(name, value)
	}
	if scope := f.scope(); scope != "" {
		v.Set("scope", scope)
		if strings.Contains(" "+scope+" ", " offline_access ") {
			v.Set("prompt", "consent") // OpenID Connect Core, 11
		}
	}
	to.RawQuery = v.Encode()
	return q, nil
}

// random is a text that nobody can guess, as long as a verifier has to be: 43 characters or more (RFC 7636, 4.1).
func random() string { return rand.Text() + rand.Text() }

// answer waits for the browser to come back. The first answer to our question counts, right or wrong; what has another state
// may be of any page or of an older login.
func (q *question) answer(ctx context.Context, l net.Listener, show func(string)) (code string, err error) {
	type answer struct {
		code string
		err  error
	}
	answers := make(chan answer, 1)
	server := &http.Server{
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // what strangers send to a port
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Referrer-Policy", "no-referrer")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			if r.URL.Path != "/callback" || r.Method != http.MethodGet || r.Host != l.Addr().String() {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			if subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("state")), []byte(q.state)) != 1 {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintln(w, "This is not the answer that mcp-bridge waits for. It may be one to an older question.")
				return
			}
			code, err := q.check(r.URL.Query())
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintln(w, "The login has failed; mcp-bridge says why in its terminal. You can close this page.")
			} else {
				fmt.Fprintln(w, "mcp-bridge has the answer and says in its terminal if the login is done. You can close this page.")
			}
			select {
			case answers <- answer{code, err}:
			default:
			}
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // the page is still on its way
		defer cancel()
		if server.Shutdown(end) != nil {
			server.Close()
		}
		<-ended
	}()
	show(q.to.String())
	select {
	case a := <-answers:
		return a.code, a.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf("the browser has not come back in %v", loginTimeout)
		}
		return "", ctx.Err()
	}
}

// check reads the answer that a browser brings, of the issuer that was asked (RFC 9207).
func (q *question) check(v url.Values) (code string, err error) {
	if iss := v.Get("iss"); (v.Has("iss") || q.saysIssuer) && iss != q.issuer {
		return "", fmt.Errorf("the answer is of another issuer: %.200q, not %.200q", iss, q.issuer)
	}
	if v.Has("error") {
		return "", refused("the authorization server", 0, v.Get("error"), v.Get("error_description"), q.state, v.Get("code"))
	}
	if code = v.Get("code"); code == "" {
		return "", errors.New("the answer has no code")
	}
	return code, nil
}
