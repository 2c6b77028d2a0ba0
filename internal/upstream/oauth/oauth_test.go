package oauth

import (
	"net/url"
	"strings"
	"testing"
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
