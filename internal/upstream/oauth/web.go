package oauth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Bounds of one request.
const (
	requestTimeout = 30 * time.Second
	maxBody        = 1 << 20
	maxRedirects   = 3
)

// web makes the requests for one server.
type web struct {
	server *url.URL
	client *http.Client
}

// newWeb makes a web. close ends its connections.
func newWeb(server string) (*web, error) {
	u, err := parse(server)
	if err != nil {
		return nil, fmt.Errorf("its url %w", err)
	}
	w := &web{server: u}
	proxied := http.DefaultTransport.(*http.Transport).Clone()
	direct := proxied.Clone()
	direct.DialContext = (&net.Dialer{Timeout: requestTimeout, ControlContext: w.control}).DialContext
	w.client = &http.Client{
		Timeout:   requestTimeout,
		Transport: transport{direct, proxied},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if _, open := r.Context().Value(ownServer{}).(bool); !open && via[0].Method != http.MethodGet || !same(r.URL, via[0].URL) || len(via) > maxRedirects {
				return errRedirect
			}
			return nil
		},
	}
	return w, nil
}

// ownServer marks the context of a request to the MCP server, which may be redirected within that although it has a body.
type ownServer struct{}

var errRedirect = errors.New("it redirects, which is not followed to another host nor with secrets")

// transport dials by itself what no proxy of the environment is for; a proxy has its own rules.
type transport struct{ direct, proxied *http.Transport }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if p, err := http.ProxyFromEnvironment(r); err != nil || p != nil {
		return t.proxied.RoundTrip(r)
	}
	return t.direct.RoundTrip(r)
}

func (w *web) close() {
	t := w.client.Transport.(transport)
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
}

// A reach is how far an address is away.
type reach int

const (
	unreachable reach = iota // where credentials of clouds are, and what is no host
	loopback
	private
	public
)

func reachOf(a netip.Addr) reach {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return loopback
	case a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return unreachable
	case a.IsPrivate(), netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a):
		return private
	}
	return public
}

// control refuses to dial an address that is nearer than the server's own: a server of the internet must not make us
// ask hosts of this network.
func (w *web) control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	there := reachOf(to.Addr())
	if there == public {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", w.server.Hostname())
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if there != unreachable && reachOf(a) <= there || a.Unmap() == to.Addr().Unmap() {
			return nil
		}
	}
	return errors.New("it is in a network that the MCP server is not in")
}

// parse reads a URL to which secrets may go: https, or http on this host.
func parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Opaque != "" || u.User != nil {
		return nil, errors.New("is no URL of a host") // not shown: it may hold a key
	}
	if u.Scheme == "https" || u.Scheme == "http" && onLoopback(u) {
		return u, nil
	}
	return nil, errors.New("is not one of https")
}

func onLoopback(u *url.URL) bool {
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && a.Unmap().IsLoopback() || hostname(u) == "localhost"
}

// do makes a request and reads its answer.
func (w *web) do(r *http.Request) (status int, body []byte, err error) {
	resp, err := w.client.Do(r)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // without the URL
		}
		return 0, nil, fmt.Errorf("cannot ask %s: %w", r.URL.Host, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("the answer is longer than %d MiB", maxBody>>20)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read the answer of %s: %w", r.URL.Host, err)
	}
	return resp.StatusCode, body, nil
}

// get reads a document of metadata from the first place that has one. Others may answer with an error or with a page for
// people, as a server does for all that it does not know; what they say counts if no place has it. at is nil then.
func (w *web) get(ctx context.Context, into any, places ...*url.URL) (at *url.URL, err error) {
	var odd error
	for _, u := range places {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", "application/json")
		r.Header.Set("MCP-Protocol-Version", "2025-11-25")
		status, body, err := w.do(r)
		switch {
		case errors.Is(err, errRedirect):
			odd = cmp.Or(odd, err)
		case err != nil:
			return nil, err
		case status/100 == 4:
		case status != http.StatusOK:
			odd = cmp.Or(odd, fmt.Errorf("%s answers %d", u.Host, status))
		case !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) || json.Unmarshal(body, into) != nil:
			odd = cmp.Or(odd, fmt.Errorf("the metadata of %s is not JSON as it should be", u.Host))
		default:
			return u, nil
		}
	}
	return nil, odd
}

// A refusal is an error of OAuth.
type refusal struct {
	Code, text string
	status     int
}

func (e *refusal) Error() string { return e.text }

// temporary says that the same request may be answered later.
func (e *refusal) temporary() bool {
	return e.status/100 == 5 || e.status == http.StatusRequestTimeout || e.status == http.StatusTooManyRequests
}

func isErrorCode(s string) bool {
	return s != "" && len(s) <= 60 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// refused reads the error in an answer. It may quote what we have sent, so a description that has a secret is left out.
func refused(who string, status int, code, description string, secrets ...string) error {
	e := &refusal{Code: code, text: fmt.Sprintf("%s refuses", who), status: status}
	if status != 0 {
		e.text += fmt.Sprintf(" (%d)", status)
	}
	if !isErrorCode(code) {
		e.Code = ""
		return e
	}
	e.text += ": " + code
	for _, s := range secrets {
		if s != "" && (strings.Contains(description, s) || strings.Contains(description, url.QueryEscape(s))) {
			return e
		}
	}
	if r := []rune(description); len(r) > 300 {
		description = string(r[:300]) + "…"
	}
	if description != "" {
		e.text += fmt.Sprintf(" (%q)", description)
	}
	return e
}

// post sends a request to an authorization server, and reads its answer if that is good.
func (w *web) post(ctx context.Context, to, kind string, body []byte, header http.Header, into any, secrets ...string) error {
	u, err := parse(to)
	if err != nil {
		return fmt.Errorf("an endpoint of the authorization server %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Accept", "application/json")
	status, answer, err := w.do(r)
	if err != nil {
		return err
	}
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(answer, &e)                       // what is no JSON has no code
	if status/100 != 2 || into != nil && e.Error != "" { // GitHub refuses with 200
		return refused(u.Host, status, e.Error, e.Description, secrets...)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("the answer of %s is not JSON as it should be", u.Host)
	}
	return nil
}

// A client is what an authorization server knows us as.
type client struct {
	ID     string `json:"id"`
	Secret string `json:"secret,omitempty"`
	Method string `json:"method"` // of token_endpoint_auth_method
}

// postForm sends a form in the client's name.
func (w *web) postForm(ctx context.Context, c client, to string, form url.Values, into any, secrets ...string) error {
	header := make(http.Header)
	switch {
	case c.Secret == "" || c.Method == "none":
		form.Set("client_id", c.ID)
	case c.Method == "client_secret_post":
		form.Set("client_id", c.ID)
		form.Set("client_secret", c.Secret)
	default:
		r := http.Request{Header: header}
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	secrets = append(secrets, c.Secret)
	return w.post(ctx, to, "application/x-www-form-urlencoded", []byte(form.Encode()), header, into, secrets...)
}
