package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// A listening server of streamable HTTP says something else to each GET, the last thing for ever.
type listening struct {
	*httpServer
	gets []func(w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	asked []time.Time
}

// count is how often it was asked to let us listen.
func (l *listening) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked)
}

func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		l.httpServer.ServeHTTP(w, r)
		return
	}
	l.mu.Lock()
	get := l.gets[min(len(l.asked), len(l.gets)-1)]
	l.asked = append(l.asked, time.Now())
	l.mu.Unlock()
	get(w, r)
}

// status is an answer that is none.
func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", code) }
}

// stream sends an event, and stays if it is to.
func stream(event string, stays bool) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, event)
		_ = http.NewResponseController(w).Flush()
		if stays {
			<-r.Context().Done()
		}
	}
}

func (h *httpServer) note(method string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, method)
}

// said is how often a server was sent a method.
func (h *httpServer) said(method string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.messages {
		if m == method {
			n++
		}
	}
	return n
}

// TestHTTPListensAgain: a server that did not let us listen for a while is listened to again as soon as it takes calls, and what
// it may have said meanwhile is asked for.
func TestHTTPListensAgain(t *testing.T) {
	for name, gets := range map[string][]func(http.ResponseWriter, *http.Request){
		"denied":   {stream("", false), status(http.StatusUnauthorized), stream("", true)},
		"too many": {stream("", false), status(http.StatusTooManyRequests), stream("", true)},
		"outage":   {stream("", false), status(503), status(503), status(503), stream("", true)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &listening{httpServer: &httpServer{lax: true, capabilities: `{"tools":{"listChanged":true}}`}, gets: gets}
			p := pool(t, Options{}, web(t, l))
			text(t, p, "web", "echo", "{}")
			before := l.said("tools/list")
			wait(t, "it is listened to", func() bool {
				text(t, p, "web", "echo", "{}")
				return l.count() == len(gets)
			})
			wait(t, "its tools are listed again", func() bool {
				_, err := p.Running(limited(t), "web")
				return err == nil && l.said("tools/list") > before
			})
		})
	}
}

// TestHTTPDoesNotListen: a server that takes calls and does not let us listen is asked for that less and less often.
func TestHTTPDoesNotListen(t *testing.T) {
	l := &listening{httpServer: &httpServer{lax: true}, gets: []func(http.ResponseWriter, *http.Request){status(http.StatusNotImplemented)}}
	p := pool(t, Options{}, web(t, l))
	wait(t, "it is asked three times", func() bool {
		text(t, p, "web", "echo", "{}")
		return l.count() >= 3
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	// It is left alone for 1 s and 2 s, whatever it takes: pauses that no load makes shorter.
	if first, second := l.asked[1].Sub(l.asked[0]), l.asked[2].Sub(l.asked[1]); first < time.Second || second < 2*time.Second {
		t.Errorf("it is asked again after %v and %v", first, second)
	}
}

// TestHTTPAnswersAgain: an answer to a question of the server's is sent again when it was not taken.
func TestHTTPAnswersAgain(t *testing.T) {
	answers := make(chan string, 10)
	h := &httpServer{lax: true}
	ask := `data: {"jsonrpc":"2.0","id":"%s","method":"roots/list"}` + "\n\n"
	l := &listening{httpServer: h, gets: []func(http.ResponseWriter, *http.Request){
		stream(fmt.Sprintf(ask, "unwanted")+fmt.Sprintf(ask, "question"), true),
	}}
	refuse := 3
	var unwanted atomic.Int32
	p := pool(t, Options{}, web(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"unwanted"`) {
			unwanted.Add(1)
			status(http.StatusBadRequest)(w, r)
			return
		}
		if strings.Contains(string(body), `"question"`) {
			answers <- string(body)
			if refuse--; refuse >= 0 {
				switch refuse {
				case 2:
					status(503)(w, r)
				case 1:
					w.WriteHeader(503)
					fmt.Fprint(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"busy"}}`)
				case 0:
					panic(http.ErrAbortHandler)
				}
				return
			}
			w.WriteHeader(http.StatusAccepted)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		l.ServeHTTP(w, r)
	})))
	text(t, p, "web", "echo", "{}")
	for range 4 {
		select {
		case got := <-answers:
			if !strings.Contains(got, `"roots":[]`) {
				t.Error(got)
			}
		case <-limited(t).Done():
			t.Fatal("the answer was not sent again")
		}
	}
	if n := unwanted.Load(); n != 1 {
		t.Errorf("an answer that was refused was sent %d times", n)
	}
}

// asking are the options of a pool whose servers may ask what capabilities say.
func asking(capabilities string) Options {
	return Options{
		OnRequest:    func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) { return nil, nil },
		Capabilities: func() json.RawMessage { return json.RawMessage(capabilities) },
	}
}

// bothEras is a server of both, which keeps what it is sent; subscribe answers subscriptions/listen.
func bothEras(h *httpServer, subscribe func(w http.ResponseWriter, r *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.Unmarshal(body, &m)
		switch m.Method {
		case "server/discover":
			h.note(m.Method)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],`+
				`"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"web","version":"1"}}}`, m.ID)
		case "subscriptions/listen":
			h.note(m.Method)
			subscribe(w, r)
		default:
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			h.ServeHTTP(w, r)
		}
	})
}

// TestSubscribedAgain: a server of the modern era whose stream of changes breaks off is asked for it again.
func TestSubscribedAgain(t *testing.T) {
	h := &httpServer{lax: true}
	answers := make(chan func(http.ResponseWriter, *http.Request), 3)
	answers <- stream("", false) // breaks off
	answers <- status(http.StatusUnauthorized)
	const acknowledged = `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}` + "\n\n"
	answers <- stream(acknowledged, true)
	p := pool(t, Options{}, web(t, bothEras(h, func(w http.ResponseWriter, r *http.Request) { (<-answers)(w, r) })))
	text(t, p, "web", "echo", "{}")
	wait(t, "it is subscribed to again", func() bool { return h.said("subscriptions/listen") == 2 })
	before := h.said("tools/list")
	<-time.After(2500 * time.Millisecond)
	if n := h.said("subscriptions/listen"); n != 2 || h.said("tools/list") != before {
		t.Errorf("it is asked again, %d times, although a login lacks and nobody calls it", n)
	}
	wait(t, "it is subscribed to as soon as it takes calls", func() bool {
		text(t, p, "web", "echo", "{}")
		return h.said("subscriptions/listen") == 3
	})
	wait(t, "its tools are listed again", func() bool {
		_, err := p.Running(limited(t), "web")
		return err == nil && h.said("tools/list") > before
	})
}

// TestEraOfQuestions: a server that speaks both eras is spoken to in the one in which it can ask, if there is whom to ask.
func TestEraOfQuestions(t *testing.T) {
	for capabilities, want := range map[string]string{`{}`: "server/discover", `{"roots":{}}`: "server/discover", `{"elicitation":{}}`: "initialize"} {
		h := &httpServer{lax: true}
		p := pool(t, asking(capabilities), web(t, bothEras(h, stream("", true))))
		text(t, p, "web", "echo", "{}")
		h.mu.Lock()
		if h.messages[0] != want || want == "initialize" && slices.Contains(h.messages, "server/discover") {
			t.Errorf("%s: %q", capabilities, h.messages)
		}
		h.mu.Unlock()
	}
}

// TestEraAfterFailure: a server that failed for a moment when it was greeted is not spoken to for good in the era in which it
// cannot ask.
func TestEraAfterFailure(t *testing.T) {
	h := &httpServer{lax: true}
	var failed atomic.Bool
	both := bothEras(h, stream("", true))
	p := pool(t, asking(`{"elicitation":{}}`), web(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !failed.Swap(true) {
			status(503)(w, r)
			return
		}
		both.ServeHTTP(w, r)
	})))
	text(t, p, "web", "echo", "{}")
	if h.said("initialize") != 1 || h.said("server/discover") != 0 {
		t.Errorf("%q", h.messages)
	}
}

// TestSlowWhereItAsks: where the user can be asked a server of the older era has all the time to start, and what it says of
// itself is not hidden by what it says of the modern one.
func TestSlowWhereItAsks(t *testing.T) {
	for name, initialize := range map[string]func(w http.ResponseWriter, r *http.Request, h http.Handler){
		"slow": func(w http.ResponseWriter, r *http.Request, h http.Handler) {
			<-time.After(2200 * time.Millisecond)
			h.ServeHTTP(w, r)
		},
		"down": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, "the database is down", http.StatusServiceUnavailable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &httpServer{discover: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Server not initialized", 400) }}
			s := web(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				if strings.Contains(string(body), `"initialize"`) {
					initialize(w, r, h)
					return
				}
				h.ServeHTTP(w, r)
			}))
			s.Transport, s.StartTimeout = config.HTTP, 4*time.Second
			_, err := call(limited(t), pool(t, asking(`{"elicitation":{}}`), s), "web", "echo", "{}")
			if name == "slow" && err != nil {
				t.Error(err)
			} else if name == "down" {
				wantError(t, err, "the database is down")
			}
		})
	}
}
