package wire

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An Endpoint is a server that is reached by HTTP.
type Endpoint struct {
	URL     string
	Headers map[string]string
	// Authorizer gets tokens; nil sends the headers only.
	Authorizer Authorizer
}

// An Authorizer gets the tokens for a server. It is safe for concurrent use, and gives up when ctx ends.
type Authorizer interface {
	// Token is sent with a request; empty sends none.
	Token(ctx context.Context) (string, error)
	// Refused is told of an answer (401, or 403 with a challenge) to a request with token. The request is made once more if
	// there is no error.
	Refused(ctx context.Context, token string, status int, header http.Header) error
}

// A StatusError is an answer of HTTP that is none of MCP.
type StatusError struct {
	Code         int
	Status, Body string
}

func (e *StatusError) Error() string {
	s := "it answered " + e.Status
	if e.Body != "" {
		s += fmt.Sprintf(": %q", e.Body)
	}
	return s
}

// forgotten says if the server does not know the session any more. That is 404 (MCP, "Session Management"); but the SDK of
// TypeScript, and older ones of Python, answer 400 with some words, and older ones of Rust 401.
func (e *StatusError) forgotten() bool {
	body := strings.ToLower(e.Body)
	switch e.Code {
	case http.StatusNotFound:
		return true
	case http.StatusBadRequest: // the second are the words for whoever comes first after a restart
		return strings.Contains(body, "session") || strings.Contains(body, "server not initialized")
	case http.StatusUnauthorized:
		return strings.Contains(body, "session not found")
	}
	return false
}

// passing says if the answer may be another one soon.
func (e *StatusError) passing() bool {
	return e.Code == http.StatusRequestTimeout || e.Code == http.StatusTooManyRequests || e.Code/100 == 5
}

var errNoToken = errors.New("cannot get a token")

// denied says if it is a login that lacks. To ask again may cost a renewal.
func denied(err error) bool {
	e := (*AuthorizationError)(nil)
	return errors.As(err, &e) || errors.Is(err, errNoToken)
}

// passing says if what could not be sent over HTTP may be sent again.
func passing(err error) bool {
	status, network := (*StatusError)(nil), net.Error(nil)
	switch {
	case err == nil || denied(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &status):
		return status.passing()
	case errors.Is(err, ErrNotSent):
		return errors.As(err, &network)
	}
	return true // a connection, or a stream of one, that broke
}

// maxResumes is how often a stream is resumed that brings nothing.
const maxResumes = 5

// web is what the two transports over HTTP share.
type web struct {
	endpoint Endpoint
	origin   *url.URL
	opts     Options
	client   *http.Client
	// bind makes a context end with the connection, and parting is for a last request after that end.
	bind    func(context.Context) (context.Context, context.CancelFunc)
	parting func() (context.Context, context.CancelFunc)
}

func newWeb(e Endpoint, opts Options, base context.Context) (*web, error) {
	origin, err := url.Parse(e.URL)
	if err != nil || origin.Scheme != "http" && origin.Scheme != "https" || origin.Host == "" {
		return nil, errors.New("its url is not one of http or https") // not shown: it may hold a key
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	// A connection may lead nowhere since a laptop slept or changed its network. The kernel would try for a quarter of an
	// hour, and with HTTP/2 every call would wait on that one connection.
	transport.DialContext = (&net.Dialer{Timeout: 30 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = setSilence(int(fd), opts.Silence) })
	}}).DialContext
	w := &web{endpoint: e, origin: origin, opts: opts, client: &http.Client{Transport: transport}}
	w.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != origin.Scheme || !strings.EqualFold(r.URL.Host, origin.Host) {
			return errors.New("it redirects to another host, or another scheme, which must not get the headers") // nor the arguments
		}
		if len(via) > 5 {
			return errors.New("it redirects again and again")
		}
		under, to := strings.TrimSuffix(origin.Path, "/")+"/", path.Clean("/"+r.URL.Path)+"/"
		if e.Authorizer != nil && !strings.HasPrefix(to, under) {
			r.Header.Del("Authorization") // the token is for this server, not for all of its host
		}
		return nil
	}
	w.bind = func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(base, cancel)
		return ctx, func() { stop(); cancel() }
	}
	w.parting = func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.WithoutCancel(base), 2*time.Second)
	}
	return w, nil
}

// do makes a request, with a token if there is one, and once more after an authorization. Other answers than 2xx are
// errors.
func (w *web) do(ctx context.Context, method, to string, body []byte, header http.Header) (*http.Response, error) {
	for again := false; ; again = true {
		r, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		for name, values := range header {
			r.Header[name] = values
		}
		for name, value := range w.endpoint.Headers {
			r.Header.Set(name, value)
			if strings.EqualFold(name, "Host") {
				r.Host = value
			}
		}
		token := ""
		if w.endpoint.Authorizer != nil {
			if token, err = w.endpoint.Authorizer.Token(ctx); err != nil {
				return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, errNoToken, err)
			}
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
		}
		resp, err := w.client.Do(r)
		if err != nil {
			if e := (*url.Error)(nil); errors.As(err, &e) {
				err = e.Err // without the URL
			}
			if e := (*net.OpError)(nil); errors.As(err, &e) && e.Op == "dial" {
				err = fmt.Errorf("%w: %w", ErrNotSent, err)
			}
			return nil, err
		}
		if resp.StatusCode/100 == 2 {
			return resp, nil
		}
		if resp.StatusCode == http.StatusUnauthorized && header.Get("Mcp-Session-Id") != "" && resp.Header.Get("WWW-Authenticate") == "" {
			if e := (*StatusError)(nil); errors.As(refusal(resp), &e) && e.forgotten() {
				return nil, e
			}
		}
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden && resp.Header.Get("WWW-Authenticate") != "" {
			if w.endpoint.Authorizer != nil && !again {
				resp.Body.Close()
				if err := w.endpoint.Authorizer.Refused(ctx, token, resp.StatusCode, resp.Header); err != nil {
					return nil, &AuthorizationError{resp.Status, err.Error(), err}
				}
				continue
			}
			if resp.StatusCode == http.StatusUnauthorized {
				defer resp.Body.Close()
				return nil, &AuthorizationError{resp.Status, resp.Header.Get("WWW-Authenticate"), nil}
			}
		}
		return nil, refusal(resp)
	}
}

// refusal is an answer other than 2xx as an error.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if m, err := decode(bytes.TrimSpace(text)); err == nil && len(m) == 1 && bytes.HasPrefix(m[0].Error, []byte("{")) {
		return &httpRefusal{StatusError{resp.StatusCode, resp.Status, clip(text, 500)}, decodeError(m[0].Error)}
	}
	return &StatusError{resp.StatusCode, resp.Status, clip(bytes.TrimSpace(text), 500)}
}

// An httpRefusal is a JSON-RPC error that came with a status of its own.
type httpRefusal struct {
	status StatusError
	err    *Error
}

func (e *httpRefusal) Error() string   { return e.err.Message }
func (e *httpRefusal) Unwrap() []error { return []error{&e.status, e.err} }

// streamable is the link of streamable HTTP: each message is a request of its own, and the answers come with it.
type streamable struct {
	*web
	conn *Conn
	work sync.WaitGroup

	mu      sync.Mutex
	session string
	version string // "" until it is agreed on
	modern  bool
}

// DialHTTP greets a server by streamable HTTP. ctx bounds that; the connection outlives it.
func DialHTTP(ctx context.Context, e Endpoint, opts Options) (*Conn, error) {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := newConn(opts, cancel)
	w, err := newWeb(e, c.opts, base)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &streamable{web: w, conn: c}
	c.link = s
	if err := c.greet(ctx, base); err != nil {
		c.Close()
		return nil, err
	}
	if !c.Hello().Modern {
		answered := make(chan struct{})
		s.work.Go(func() { s.listen(base, sync.OnceFunc(func() { close(answered) })) })
		// What a server asks while nobody listens is lost with some (the SDK of TypeScript), and it may ask as soon as it is
		// called. Others answer this only when they have something to say.
		patience := time.NewTimer(listenPatience)
		defer patience.Stop()
		select {
		case <-answered:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	return c, nil
}

// listenPatience is how long a new connection waits to be heard.
const listenPatience = 500 * time.Millisecond

func (s *streamable) greeted(h Hello) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.modern = h.Version, h.Modern
	if h.Version == "" {
		s.session = ""
	}
}

func (s *streamable) headers(m outgoing) (h http.Header, session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h = http.Header{"Accept": {"application/json, text/event-stream"}}
	if m.data != nil {
		h.Set("Content-Type", "application/json")
	}
	if s.version != "" {
		h.Set("Mcp-Protocol-Version", s.version)
	}
	if s.session != "" {
		h.Set("Mcp-Session-Id", s.session)
	}
	if s.modern && m.method != "" {
		h.Set("Mcp-Method", m.method)
		var p struct{ Name, URI string }
		if m.id != 0 && json.Unmarshal(m.params, &p) == nil && p.Name+p.URI != "" {
			h.Set("Mcp-Name", headerValue(p.Name+p.URI))
		}
		if m.method == "tools/call" && s.opts.ParamHeaders != nil {
			for name, value := range s.opts.ParamHeaders(m.params) {
				h.Set(name, headerValue(value))
			}
		}
	}
	return h, s.session
}

// headerValue is a text as the value of a header (MCP, SEP-2243).
func headerValue(s string) string {
	unprintable := func(r rune) bool { return r < 0x20 || r > 0x7e }
	if strings.ContainsFunc(s, unprintable) || strings.TrimSpace(s) != s || strings.HasPrefix(s, "=?base64?") {
		return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
	}
	return s
}

// send makes the request of a message, and takes the answers that come with it before it returns.
func (s *streamable) send(ctx context.Context, m outgoing) error {
	ctx, stop := s.bind(ctx)
	defer stop()
	header, session := s.headers(m)
	resp, err := s.do(ctx, http.MethodPost, s.endpoint.URL, m.data, header)
	if err != nil {
		if e := (*StatusError)(nil); errors.As(err, &e) && session != "" && e.forgotten() {
			err = fmt.Errorf("%w: the server has forgotten the session", ErrEnded)
			s.conn.end(err)
			return fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		if e := (*httpRefusal)(nil); errors.As(err, &e) && m.id != 0 {
			s.conn.answer(m.id, nil, err)
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	select {
	case s.conn.taken <- struct{}{}:
	default:
	}
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" && m.method == "initialize" {
		s.mu.Lock()
		s.session = id
		s.mu.Unlock()
	}
	if m.id == 0 {
		return nil
	}
	kind := mediaType(resp)
	switch kind {
	case "text/event-stream":
		return s.stream(ctx, resp, m.id)
	case "application/json":
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
		if err != nil {
			return err
		}
		if len(body) > maxMessage {
			return fmt.Errorf("its answer is longer than %d MiB", maxMessage>>20)
		}
		s.conn.receive(ctx, bytes.TrimSpace(body))
		if s.conn.waits(m.id) {
			return fmt.Errorf("its answer is to something else: %q", clip(body, 200))
		}
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return fmt.Errorf("its answer is of type %q: %q", kind, clip(bytes.TrimSpace(body), 200))
}

func mediaType(resp *http.Response) string {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // what is none is empty
	return kind
}

// stream takes events until a call is answered, and resumes the stream where it breaks off.
func (s *streamable) stream(ctx context.Context, resp *http.Response, id int64) error {
	lastID, retry := "", time.Second
	for resumes := 0; ; resumes++ {
		r := newEventReader(resp.Body)
		r.lastID = lastID
		err := s.take(ctx, r, id)
		resp.Body.Close()
		if !s.conn.waits(id) {
			return nil
		}
		if r.lastID != lastID {
			resumes = 0
		}
		if lastID = r.lastID; r.retry > 0 {
			retry = r.retry
		}
		if lastID == "" || resumes >= maxResumes || ctx.Err() != nil {
			return fmt.Errorf("the answer broke off: %w", err)
		}
		if err := Pause(ctx, retry); err != nil {
			return err
		}
		header, _ := s.headers(outgoing{})
		header.Set("Accept", "text/event-stream")
		header.Set("Last-Event-ID", lastID)
		if resp, err = s.do(ctx, http.MethodGet, s.endpoint.URL, nil, header); err != nil {
			// Not wrapped: that this was refused, or not sent, says nothing of the call, which the server has taken.
			return fmt.Errorf("the answer broke off: %v", err)
		}
	}
}

// take takes the events of one stream; id is the call that ends it, 0 for none.
func (s *streamable) take(ctx context.Context, r *eventReader, id int64) error {
	for {
		e, err := r.next()
		if err != nil {
			return err
		}
		if data := bytes.TrimSpace(e.data); len(data) > 0 {
			s.conn.receive(ctx, data)
		}
		if id != 0 && !s.conn.waits(id) {
			return nil
		}
	}
}

// Pause waits for d, or until ctx ends, whose error it then returns.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *streamable) close() {
	s.work.Wait()
	if header, session := s.headers(outgoing{}); session != "" {
		ctx, cancel := s.parting()
		if resp, err := s.do(ctx, http.MethodDelete, s.endpoint.URL, nil, header); err == nil {
			resp.Body.Close()
		}
		cancel()
	}
	s.client.CloseIdleConnections()
}
