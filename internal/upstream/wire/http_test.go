package wire

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestListenToAPage: what a server shows to a browser is no stream, and it is not asked for again and again.
func TestListenToAPage(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<p>This is an MCP server.")
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts := Options{}
	opts.fill()
	w, err := newWeb(Endpoint{URL: server.URL}, opts, ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &streamable{web: w}
	answered := 0
	s.listen(ctx, func() {
		if answered++; answered > 1 {
			cancel()
		}
	})
	if asked != 1 || answered != 1 {
		t.Errorf("asked %d times", asked)
	}
}
