package rootfs

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// TestRedirectToPlain: a registry with TLS may send us on to another with TLS, but to none without, which gets not a byte;
// an insecure one may.
func TestRedirectToPlain(t *testing.T) {
	var asked atomic.Int64
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		io.WriteString(w, "blob")
	})
	plain := httptest.NewServer(answer)
	defer plain.Close()
	for _, http2 := range []bool{false, true} {
		var to string
		registry := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/blob" {
				answer(w, r)
				return
			}
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		}))
		registry.EnableHTTP2 = http2
		registry.StartTLS()
		defer registry.Close()
		for _, c := range []struct {
			to       string
			insecure bool
			refused  bool
		}{
			{registry.URL + "/v2/blob", false, false},
			{plain.URL, false, true},
			{plain.URL, true, false},
		} {
			to = c.to
			asked.Store(0)
			ctx, dog := patience{}.watch(t.Context())
			req, err := http.NewRequestWithContext(dog.traced(ctx, c.insecure), http.MethodGet, registry.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := registry.Client().Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			err = dog.blame(ctx, err)
			dog.end()
			if c.refused != errors.Is(err, errPlain) || !c.refused && err != nil || c.refused == (asked.Load() > 0) {
				t.Errorf("HTTP/2 %v, to %s, insecure %v: %v, asked %d times", http2, c.to, c.insecure, err, asked.Load())
			}
			if c.refused && transient(err) {
				t.Error("it would be tried again")
			}
		}
	}
}
