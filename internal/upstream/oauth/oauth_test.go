package oauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSame: hosts are compared as RFC 3986 has it.
func TestSame(t *testing.T) {
	for a, others := range map[string]map[string]bool{
		"https://mcp.example/a": {"https://MCP.Example:443/b": true, "http://mcp.example/a": false, "https://mcp.example:444/": false},
		"http://[::1]:80/":      {"http://[0:0:0:0:0:0:0:1]/": true, "http://127.0.0.1/": false},
	} {
		for b, want := range others {
			first, err1 := url.Parse(a)
			second, err2 := url.Parse(b)
			if err1 != nil || err2 != nil || same(first, second) != want {
				t.Errorf("%s and %s: not %v", a, b, want)
			}
		}
	}
}

// TestNotInTheClear: secrets go over https, or over http on this host.
func TestNotInTheClear(t *testing.T) {
	for raw, ok := range map[string]bool{
		"https://mcp.example/": true, "http://LOCALHOST:1/": true, "http://127.0.0.1/": true, "http://[::1]/": true,
		"http://mcp.example/": false, "http://192.168.0.1/": false, "https://user:pass@mcp.example/": false, "file:///etc/passwd": false,
	} {
		if _, err := parse(raw); (err == nil) != ok {
			t.Errorf("%s: %v", raw, err)
		}
	}
	c := NewCredentials(Server{URL: "http://mcp.example/mcp", ClientID: "me", ClientSecret: "sesame"})
	if _, err := c.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "not one of https") {
		t.Errorf("client credentials in the clear: %v", err)
	}
	w, err := newWeb("https://mcp.example/")
	if err != nil {
		t.Fatal(err)
	}
	as := authServer{Issuer: "https://as.example", Token: "https://as.example/token", Authorization: "http://127.0.0.1:8080/admin?do=1"}
	if err := w.check(as); err == nil {
		t.Error("a browser is sent to this host")
	}
}

// TestKeptAllTheSame: a bridge that was stopped while it renewed a login does not cost the user a new one.
func TestKeptAllTheSame(t *testing.T) {
	dir, s := filepath.Join(t.TempDir(), "tokens"), Server{URL: "https://mcp.example/"}
	if err := canKeep(dir); err != nil {
		t.Fatal(err)
	}
	stopped, err := os.Create(strings.TrimSuffix(s.file(dir), ".json") + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Close()
	if err := syscall.Flock(int(stopped.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	defer func(d time.Duration) { lockPatience = d }(lockPatience)
	lockPatience = 50 * time.Millisecond
	g := &grant{Version: grantVersion, URL: s.URL, Access: "new"}
	if err := g.keep(t.Context(), s, dir); err != nil {
		t.Fatal(err)
	}
	if token, _, err := Stored(s, dir, ""); token != "new" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(names) != 2 || len(hidden) > 0 {
		t.Errorf("%q, %q, %v", names, hidden, err)
	}
}

// TestNewLoginStays: a renewal that ends behind a login that did not wait for it leaves that as it is.
func TestNewLoginStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	if err := canKeep(dir); err != nil {
		t.Fatal(err)
	}
	var s Server
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		login := &grant{Version: grantVersion, URL: s.URL, Access: "of the login", Refresh: "r2"}
		if err := login.write(s.file(dir)); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"renewed","token_type":"bearer","refresh_token":"r3"}`)
	}))
	defer server.Close()
	s.URL = server.URL + "/mcp"
	old := &grant{Version: grantVersion, URL: s.URL, TokenEndpoint: server.URL + "/token", Access: "old", Refresh: "r1"}
	if err := old.write(s.file(dir)); err != nil {
		t.Fatal(err)
	}
	if token, err := Renew(t.Context(), s, dir, "old"); token != "of the login" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	if token, _, err := Stored(s, dir, ""); token != "of the login" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
}
