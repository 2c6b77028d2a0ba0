// Package oauth gets tokens for MCP servers that want authorization: a login with a browser, the file in which its tokens are
// kept, and their renewal; and those of a client with a secret. It knows no configuration, and it never opens a browser
// unless it is told to.
// What resources and authorization servers say is hostile: it is bounded, and it sends requests neither in the clear nor
// into a network that the server is not in itself. No token, code or secret is in an error.
package oauth

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// A Server is what an entry says of a server.
type Server struct {
	URL     string
	Headers map[string]string // for the first request, which asks for the challenge

	// ClientID is a client that is registered already; without one, login registers one.
	ClientID, ClientSecret string
	Scopes                 []string
	OnlyScopes             bool   // not those, too, that the server has asked for since the last login
	CallbackPort           int    // 0: any
	MetadataURL            string // of the authorization server; empty: the server says it
}

// ErrLogin is that a user must log in (again).
var ErrLogin = errors.New("a login is needed")

// same says if two URLs are of one origin.
func same(a, b *url.URL) bool { return a.Scheme == b.Scheme && host(a) == host(b) }

// host is a host with its port.
func host(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return hostname(u) + " " + port
}

// hostname is one of several ways to write a host (RFC 3986, 6.2.2.1; RFC 5952).
func hostname(u *url.URL) string {
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return a.String()
	}
	return strings.ToLower(u.Hostname())
}
