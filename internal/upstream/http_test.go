package upstream

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// An httpServer is a server of streamable HTTP that a test bends.
type httpServer struct {
	mu           sync.Mutex
	session      int // the one that is known
	inits        int
	headers      http.Header // of the last request
	messages     []string
	forgot       func(w http.ResponseWriter)                                           // what it says of a session that it does not know
	discover     func(w http.ResponseWriter, r *http.Request)                          // what it says to server/discover
	capabilities string                                                                // {} if it is empty
	lax          bool                                                                  // several clients at a time, without sessions
	answer       func(w http.ResponseWriter, r *http.Request, id json.RawMessage) bool // of tools/call
}

func (h *httpServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Method != http.MethodPost {
		if h.answer != nil && r.Header.Get("Last-Event-ID") != "" && h.answer(w, r, nil) {
			return
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage
		Method string
	}
	_ = json.Unmarshal(body, &m)
	h.headers, h.messages = r.Header.Clone(), append(h.messages, m.Method)
	w.Header().Set("Content-Type", "application/json")
	if m.Method == "initialize" {
		h.session++
		h.inits++
		if !h.lax {
			w.Header().Set("Mcp-Session-Id", fmt.Sprint(h.session))
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":%s,"serverInfo":{"name":"web","version":"1"}}}`, m.ID, cmp.Or(h.capabilities, "{}"))
		return
	}
	if !h.lax && r.Header.Get("Mcp-Session-Id") != fmt.Sprint(h.session) {
		if m.Method != "server/discover" && h.forgot != nil {
			h.forgot(w)
			return
		}
		if m.Method != "server/discover" || h.discover == nil {
			http.Error(w, "no such session", http.StatusNotFound)
			return
		}
	}
	switch {
	case m.Method == "server/discover" && h.discover != nil:
		h.discover(w, r)
	case m.Method == "server/discover":
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`, m.ID)
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	case m.Method == "tools/list":
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"echo"}]}}`, m.ID)
	case h.answer != nil && h.answer(w, r, m.ID):
	default:
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"web"}]}}`, m.ID)
	}
}

func web(t *testing.T, h http.Handler) config.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return config.Server{Name: "web", File: "/etc/test.json", Transport: config.Remote, URL: s.URL + "/mcp?key=secret", Headers: map[string]string{"X-Key": "secret"}}
}

// TestHTTP: what a server of HTTP may answer.
func TestHTTP(t *testing.T) {
	h := &httpServer{}
	p := pool(t, Options{}, web(t, h))
	if got := text(t, p, "web", "echo", "{}"); got != "web" {
		t.Errorf("%q", got)
	}
	h.mu.Lock()
	if h.headers.Get("X-Key") != "secret" || h.headers.Get("Mcp-Protocol-Version") != "2025-11-25" {
		t.Errorf("%v", h.headers)
	}
	h.session = 77 // the server has forgotten, and the call is made again in a new session
	h.mu.Unlock()
	if got := text(t, p, "web", "echo", "{}"); got != "web" {
		t.Errorf("%q", got)
	}
	for _, tt := range []struct {
		name, want string
		answer     func(w http.ResponseWriter, id json.RawMessage)
	}{
		{"500", "which may have been carried out: it answered 500 Internal Server Error: \"oh no\"", func(w http.ResponseWriter, _ json.RawMessage) { http.Error(w, "oh no", 500) }},
		{"an error with a status", "not today", func(w http.ResponseWriter, id json.RawMessage) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"not today"}}`, id)
		}},
		{"HTML", `of type "text/html"`, func(w http.ResponseWriter, _ json.RawMessage) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>")
		}},
		{"another id", "to something else", func(w http.ResponseWriter, _ json.RawMessage) {
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":999,"result":{}}`)
		}},
		{"nothing", "to something else", func(http.ResponseWriter, json.RawMessage) {}},
		{"half a stream", "broke off", func(w http.ResponseWriter, id json.RawMessage) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,", id)
		}},
		{"an endless event", "longer than 64 MiB", func(w http.ResponseWriter, _ json.RawMessage) {
			w.Header().Set("Content-Type", "text/event-stream")
			line := "data: " + strings.Repeat("x", 1<<20) + "\n"
			for range 70 {
				_, _ = io.WriteString(w, line)
			}
		}},
		{"another host", "another host", func(w http.ResponseWriter, _ json.RawMessage) {
			w.Header().Set("Location", "http://127.0.0.2:1/steal")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.mu.Lock()
			h.answer = func(w http.ResponseWriter, _ *http.Request, id json.RawMessage) bool { tt.answer(w, id); return true }
			h.mu.Unlock()
			_, err := call(limited(t), p, "web", "echo", "{}")
			wantError(t, err, `MCP server "web"`, tt.want)
			h.mu.Lock()
			h.answer = nil
			h.mu.Unlock()
			text(t, p, "web", "echo", "{}")
		})
	}
	if h.inits != 2 {
		t.Errorf("%d sessions", h.inits)
	}
}

// TestResume: a stream that breaks off is taken up where it was, and the call is not made again.
func TestResume(t *testing.T) {
	h := &httpServer{}
	posts := 0
	var id json.RawMessage
	h.answer = func(w http.ResponseWriter, r *http.Request, given json.RawMessage) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Method == http.MethodPost {
			posts++
			id = given
			fmt.Fprint(w, ": comment\nretry: 10\nid: e1\ndata:\n\n")
			return true
		}
		fmt.Fprintf(w, "id: e2\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":%s,\"result\":{\"content\":[{\"text\":\"after %s\"}]}}\n\n", id, r.Header.Get("Last-Event-ID"))
		return true
	}
	if got := text(t, pool(t, Options{}, web(t, h)), "web", "echo", "{}"); got != "after e1" || posts != 1 {
		t.Errorf("%q after %d posts", got, posts)
	}
}

// TestResumeRefused: a server that has taken a call, and then refuses to resume its answer, has not refused the call.
func TestResumeRefused(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusUnauthorized, http.StatusNotFound} {
		h := &httpServer{answer: func(w http.ResponseWriter, r *http.Request, _ json.RawMessage) bool {
			if r.Method == http.MethodGet {
				w.WriteHeader(status)
				return true
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "retry: 10\nid: e1\ndata:\n\n")
			return true
		}}
		_, err := call(limited(t), pool(t, Options{}, web(t, h)), "web", "echo", "{}")
		wantError(t, err, `did not answer "echo", which may have been carried out`, fmt.Sprint(status))
	}
}

// TestAuthorization: what an error says where a login is needed, and how a client with a secret gets in.
func TestAuthorization(t *testing.T) {
	var tokens atomic.Int32
	h := &httpServer{}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer resource_metadata=%q`, server.URL+"/.well-known/oauth-protected-resource/mcp"))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
	mux.HandleFunc("/.well-known/oauth-protected-resource/mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"resource":%q,"authorization_servers":[%q]}`, server.URL+"/mcp", server.URL)
	})
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q,"authorization_endpoint":%q,"response_types_supported":["code"],"code_challenge_methods_supported":["S256"],"token_endpoint_auth_methods_supported":["client_secret_post"]}`, server.URL, server.URL+"/token", server.URL+"/authorize")
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		tokens.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if r.FormValue("grant_type") != "client_credentials" || r.FormValue("client_secret") != "secret" || !slices.Contains([]string{"a b", "b a"}, r.FormValue("scope")) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_client"}`)
			return
		}
		fmt.Fprint(w, `{"access_token":"good","token_type":"Bearer","expires_in":3600}`)
	})
	s := config.Server{Name: "web", File: "/etc/test.json", Transport: config.Remote, URL: server.URL + "/mcp"}
	_, err := pool(t, Options{}, s).Tools(limited(t), "web")
	wantError(t, err, `MCP server "web" cannot be reached: it needs authorization: it answered 401`, "add a header such as Authorization", "/etc/test.json")

	s.OAuth = &config.OAuth{ClientID: "me", ClientSecret: "secret", Scopes: []string{"a", "b"}}
	p := pool(t, Options{}, s)
	text(t, p, "web", "echo", "{}")
	text(t, p, "web", "echo", "{}")
	if n := tokens.Load(); n != 1 {
		t.Errorf("%d tokens", n)
	}
	s.OAuth.ClientSecret = "wrong"
	_, err = pool(t, Options{}, s).Tools(limited(t), "web")
	wantError(t, err, "needs authorization", "invalid_client")

	s.Headers, s.OAuth = map[string]string{"Authorization": "Bearer good"}, nil
	text(t, pool(t, Options{}, s), "web", "echo", "{}")
}

// TestUnreachable: servers of the network that are none.
func TestUnreachable(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: endpoint\ndata: http://127.0.0.2:1/steal\n\n")
	}))
	t.Cleanup(foreign.Close)
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	for url, want := range map[string]string{
		closed.URL: "connection refused", foreign.URL: "on another host", missing.URL: "404 Not Found",
		"ftp://secret@host/": "not one of http or https", "http://secret:x y/": "not one of http or https", "": "not one of http or https",
	} {
		_, err := pool(t, Options{}, config.Server{Name: "web", Transport: config.Remote, URL: url}).Tools(limited(t), "web")
		if e := (*Error)(nil); !errors.As(err, &e) {
			t.Errorf("%s: %v", url, err)
			continue
		}
		wantError(t, err, `MCP server "web" cannot be reached`, want)
	}
}

// TestHTTPListens: the first call comes when the server has somebody to ask.
func TestHTTPListens(t *testing.T) {
	var listening atomic.Bool
	h := &httpServer{answer: func(w http.ResponseWriter, _ *http.Request, id json.RawMessage) bool {
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%t"}]}}`, id, listening.Load())
		return true
	}}
	p := pool(t, Options{}, web(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h.ServeHTTP(w, r)
			return
		}
		<-time.After(50 * time.Millisecond) // a busy server
		listening.Store(true)
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})))
	if got := text(t, p, "web", "echo", "{}"); got != "true" {
		t.Errorf("a call while it listens: %s", got)
	}
}

// TestHTTPForgotten: SDKs say in several ways that they do not know a session any more.
func TestHTTPForgotten(t *testing.T) {
	for name, forgot := range map[string]func(w http.ResponseWriter){
		"TypeScript": func(w http.ResponseWriter) {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`)
		},
		"TypeScript, restarted": func(w http.ResponseWriter) {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}`)
		},
		"Python": func(w http.ResponseWriter) { http.Error(w, "Bad Request: No valid session ID provided", 400) },
		"Rust":   func(w http.ResponseWriter) { http.Error(w, "Unauthorized: Session not found", http.StatusUnauthorized) },
	} {
		t.Run(name, func(t *testing.T) {
			h := &httpServer{forgot: forgot}
			p := pool(t, Options{}, web(t, h))
			for range 3 {
				if got := text(t, p, "web", "echo", "{}"); got != "web" {
					t.Errorf("%q", got)
				}
				if _, err := p.Running(limited(t), "web"); err != nil { // so that nothing else is under way
					t.Error(err)
				}
				h.mu.Lock()
				h.session += 10
				h.mu.Unlock()
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.inits != 3 {
				t.Errorf("%d sessions", h.inits)
			}
		})
	}
}

// TestHTTPUndiscovered: a server of the older era may do anything with what it does not know.
func TestHTTPUndiscovered(t *testing.T) {
	for name, discover := range map[string]func(w http.ResponseWriter, r *http.Request){
		"500":       func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "unknown method", 500) },
		"accepted":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
		"empty":     func(http.ResponseWriter, *http.Request) {},
		"something": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"jsonrpc":"2.0","id":999,"result":{}}`) },
		"hangs up":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			s := web(t, &httpServer{discover: discover})
			s.StartTimeout = 2 * time.Second
			p := pool(t, Options{}, s)
			if got := text(t, p, "web", "echo", "{}"); got != "web" {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestSecretsAreMasked: what an entry holds as its secrets is in no error, though servers put it there.
func TestSecretsAreMasked(t *testing.T) {
	h := &httpServer{}
	h.answer = func(w http.ResponseWriter, r *http.Request, _ json.RawMessage) bool {
		http.Error(w, "wrong key for text/plain: "+r.Header.Get("X-Key")+" "+r.Header.Get("Authorization"), http.StatusForbidden)
		return true
	}
	s := web(t, h)
	s.Headers = map[string]string{"X-Key": "HDRSECRET42", "Authorization": "Bearer TOKENSECRET42", "accept": "text/plain", "X-Number": "12345678"}
	p := pool(t, Options{}, s, hostile(t, "", "API_KEY=ENVSECRET42"))
	_, err := call(limited(t), p, "web", "echo", "{}")
	wantError(t, err, `MCP server "web" refused "echo": it answered 403 Forbidden: "wrong key for text/plain: … …"`)
	for data, want := range map[string]string{`{"key":"HDRSECRET42"}`: `{"key":"…"}`, `{"key":12345678}`: "", `[1]`: `[1]`} {
		h.mu.Lock()
		h.answer = func(w http.ResponseWriter, _ *http.Request, id json.RawMessage) bool {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-1,"message":"no","data":%s}}`, id, data)
			return true
		}
		h.mu.Unlock()
		_, err := call(limited(t), p, "web", "echo", "{}")
		if got := wantError(t, err, "no").Data; string(got) != want {
			t.Errorf("%s: %s", data, got)
		}
	}
	_, err = call(limited(t), p, "hostile", "die", "{}")
	wantError(t, err, "I am dying …")
}
