package rootfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// answer is an instead that gives one answer to all requests whose path has a part.
func respond(part string, status int, header ...string) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "<html>\n\x1b[31mnonsense\n")
		return true
	}
}

// TestRegistryStatus: what a registry answers instead of an image, what we say, and how often we ask.
func TestRegistryStatus(t *testing.T) {
	isolate(t)
	for name, tt := range map[string]struct {
		part   string
		status int
		header []string
		want   []string
		asked  int // for the same thing
	}{
		"401 of a manifest":       {"/manifests/", 401, nil, []string{"asks for a login for", "(401)", "`docker login 127.0.0.1:"}, 1},
		"401 of a blob":           {"/blobs/", 401, nil, []string{"cannot unpack image", "blob sha256:", "(401)", "`podman login 127.0.0.1:"}, 1},
		"403":                     {"/manifests/", 403, nil, []string{"denies access to", "/x:1 (403)"}, 1},
		"403 of a blob":           {"/blobs/", 403, nil, []string{"denies access to blob sha256:"}, 1},
		"404":                     {"/manifests/", 404, nil, []string{"has no", "/x:1 (404): check the name and the tag"}, 1},
		"404 of a blob":           {"/blobs/", 404, nil, []string{"has no blob sha256:"}, 1},
		"404 of all":              {"/v2/", 404, nil, []string{"(404)"}, 1},
		"418":                     {"/manifests/", 418, nil, []string{"status 418"}, 1},
		"429, every time":         {"/manifests/", 429, []string{"Retry-After", "0"}, []string{"too many requests (429)"}, 5},
		"429 of a blob":           {"/blobs/", 429, []string{"Retry-After", "0"}, []string{"too many requests (429)"}, 5},
		"500, every time":         {"/manifests/", 500, nil, []string{"failed with status 500", "try again later"}, attempts},
		"503 of a blob":           {"/blobs/", 503, nil, []string{"failed with status 503 for blob sha256:"}, attempts},
		"a redirect to itself":    {"/blobs/", 307, []string{"Location", "/v2/x/blobs/again"}, []string{"stopped after 10 redirects"}, 0},
		"a redirect to nowhere":   {"/blobs/", 307, []string{"Location", "http://127.0.0.1:1/x?signature=geheim"}, []string{"nothing listens"}, 1},
		"not a manifest":          {"/manifests/", 200, nil, []string{"cannot be read"}, 1},
		"nonsense instead of one": {"/manifests/", 200, []string{"Content-Type", "text/html"}, []string{"cannot be read"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			ref := f.ref()
			f.instead = respond(tt.part, tt.status, tt.header...)
			s := registryStore(t)
			_, err := s.Ensure(t.Context(), ref)
			wantError(t, err, tt.want...)
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("a signature in %v", err)
			}
			most := 0
			for path, n := range f.asked {
				if path != "/v2/" && strings.Contains(path, tt.part) {
					most = max(most, n)
				}
			}
			if tt.asked > 0 && tt.part != "/v2/" && most != tt.asked {
				t.Errorf("asked %d times, want %d", most, tt.asked)
			}
			checkClean(t, s, 0)
		})
	}
}

// TestRegistryRecovers: what another attempt mends.
func TestRegistryRecovers(t *testing.T) {
	isolate(t)
	type request = func(w http.ResponseWriter, r *http.Request, n int) bool
	for name, instead := range map[string]func(f *fakeRegistry) request{
		"429 twice": func(*fakeRegistry) request {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				return n <= 2 && respond("/x/", 429, "Retry-After", "0")(w, r, n)
			}
		},
		"503 twice": func(*fakeRegistry) request {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				return n <= 2 && respond("/x/", 503)(w, r, n)
			}
		},
		"no answer at all, twice": func(*fakeRegistry) request {
			return func(_ http.ResponseWriter, r *http.Request, n int) bool {
				if n <= 2 && strings.Contains(r.URL.Path, "/x/") {
					panic(http.ErrAbortHandler)
				}
				return false
			}
		},
		"half a download, then the rest": func(f *fakeRegistry) request {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				if !f.bigBlob(r) {
					return false
				}
				if n == 1 {
					f.breakOff(w, r)
				} else if r.Header.Get("Range") == "" {
					f.t.Error("not resumed")
				}
				return false
			}
		},
		"half a download, and no ranges": func(f *fakeRegistry) request {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				if !f.bigBlob(r) {
					return false
				}
				if n == 1 {
					f.breakOff(w, r)
				}
				r.Header.Del("Range")
				return false
			}
		},
		"an early end that looks like one": func(f *fakeRegistry) request {
			return func(w http.ResponseWriter, r *http.Request, n int) bool {
				if !f.bigBlob(r) || n > 1 {
					return false
				}
				b, err := os.ReadFile(f.blobPath(digest.Digest(filepath.Base(r.URL.Path))))
				if err != nil {
					f.t.Error(err)
				}
				w.(http.Flusher).Flush()       // so that there is no Content-Length
				w.Write(b[: len(b)/2 : 1<<20]) // the client may be gone
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			ref := f.ref()
			f.instead = instead(f)
			s := registryStore(t)
			tree, err := s.Ensure(t.Context(), ref)
			if err != nil || tree.Env[0] != "X=1" {
				t.Errorf("%v, %v", tree, err)
			}
			checkClean(t, s, 1)
		})
	}
}

// TestRegistryBreaksOff: a blob that never comes whole ends.
func TestRegistryBreaksOff(t *testing.T) {
	isolate(t)
	f := newFake(t)
	ref := f.ref()
	f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if f.bigBlob(r) {
			f.breakOff(w, r)
		}
		return false
	}
	s := registryStore(t)
	_, err := s.Ensure(t.Context(), ref)
	wantError(t, err, "cannot unpack layer sha256:", fmt.Sprintf("the connection broke %d times", attempts))
	checkClean(t, s, 0)
}

// TestRegistrySilence: who sends nothing is not waited for.
func TestRegistrySilence(t *testing.T) {
	isolate(t)
	for name, when := range map[string]func(f *fakeRegistry, r *http.Request) bool{
		"at once":       func(*fakeRegistry, *http.Request) bool { return true },
		"at a manifest": func(_ *fakeRegistry, r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") },
		"at a blob":     func(_ *fakeRegistry, r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") },
		"within a blob": func(f *fakeRegistry, r *http.Request) bool { return f.bigBlob(r) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			ref := f.ref()
			f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !when(f, r) {
					return false
				}
				if name == "within a blob" {
					fmt.Fprint(w, "some bytes")
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				return true
			}
			s := registryStore(t)
			s.patience.silence = 200 * time.Millisecond
			_, err := s.Ensure(t.Context(), ref)
			wantError(t, err, f.host+" is silent: no byte came for 200ms")
			checkClean(t, s, 0)
		})
	}
}

// TestRegistryCancelled: a call that is cancelled in the middle of a blob ends at once, and nothing stays.
func TestRegistryCancelled(t *testing.T) {
	isolate(t)
	f := newFake(t)
	ref := f.ref()
	ctx, cancel := context.WithCancel(t.Context())
	f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if f.bigBlob(r) {
			fmt.Fprint(w, "some bytes")
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
		}
		return false
	}
	s := registryStore(t)
	if _, err := s.Ensure(ctx, ref); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkClean(t, s, 0)
}

// TestRegistryLies: content that is not what it is said to be, at each level. The error names the blob.
func TestRegistryLies(t *testing.T) {
	isolate(t)
	type made struct {
		f     *fakeRegistry
		index ispec.Descriptor
		m     ispec.Manifest
		d     ispec.Descriptor
	}
	other := func(n int64) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Write([]byte(strings.Repeat("{", int(n)))) } // the client may be gone
	}
	for name, tt := range map[string]struct {
		ref  func(x made) string
		blob func(x made) ispec.Descriptor
		with func(x made, d ispec.Descriptor) func(w http.ResponseWriter)
		want string
	}{
		"an index of another digest": {
			ref:  func(x made) string { return "@" + x.index.Digest.String() },
			blob: func(x made) ispec.Descriptor { return x.index },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) { return other(d.Size) }, want: "answered with a manifest of digest sha256:",
		},
		"a manifest of another digest": {
			blob: func(x made) ispec.Descriptor { return x.d },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) { return other(d.Size) }, want: "has the digest",
		},
		"a manifest of another size": {
			blob: func(x made) ispec.Descriptor { return x.d },
			with: func(made, ispec.Descriptor) func(http.ResponseWriter) { return other(7) }, want: "bytes, as its descriptor says",
		},
		"a huge manifest": {
			blob: func(x made) ispec.Descriptor { return x.d },
			with: func(made, ispec.Descriptor) func(http.ResponseWriter) { return other(9 << 20) }, want: "exceeded maximum allowed size",
		},
		"a config of another digest": {
			blob: func(x made) ispec.Descriptor { return x.m.Config },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) { return other(d.Size) }, want: "has the digest",
		},
		"a config of another size": {
			blob: func(x made) ispec.Descriptor { return x.m.Config },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) { return other(d.Size + 1) }, want: "its descriptor says",
		},
		"a layer of another digest": {
			blob: func(x made) ispec.Descriptor { return x.m.Layers[0] },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) { return other(d.Size) }, want: "has the digest",
		},
		"a layer that announces another size": {
			blob: func(x made) ispec.Descriptor { return x.m.Layers[0] },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) {
				return func(w http.ResponseWriter) { w.Header().Set("Content-Length", "99999999"); other(d.Size)(w) }
			}, want: "it has 99999999 bytes, its descriptor says",
		},
		"a layer that is longer than announced anywhere": {
			blob: func(x made) ispec.Descriptor { return x.m.Layers[0] },
			with: func(_ made, d ispec.Descriptor) func(http.ResponseWriter) {
				return func(w http.ResponseWriter) {
					w.(http.Flusher).Flush() // so that there is no Content-Length
					other(d.Size + 5)(w)
				}
			}, want: "it has more than",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			x := made{f: f}
			x.d = f.image(testImage{compress: "gzip", layers: [][]byte{python(t)}, edit: func(m *ispec.Manifest, _ *ispec.Image) { x.m.Layers = m.Layers }})
			b, err := os.ReadFile(f.blobPath(x.d.Digest))
			if err != nil {
				t.Fatal(err)
			}
			if x.m, err = parseManifest(b); err != nil {
				t.Fatal(err)
			}
			x.index = f.nested(x.d)
			f.tags["1"] = x.index
			bad := tt.blob(x)
			f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !strings.HasSuffix(r.URL.Path, bad.Digest.String()) {
					return false
				}
				w.Header().Set("Content-Type", bad.MediaType)
				tt.with(x, bad)(w)
				return true
			}
			ref := f.host + "/x:1"
			if tt.ref != nil {
				ref = f.host + "/x" + tt.ref(x)
			}
			s := registryStore(t)
			_, err = s.Ensure(t.Context(), ref)
			wantError(t, err, tt.want, bad.Digest.String())
			checkClean(t, s, 0)
		})
	}
}

// TestRegistryTwoMeanings: bytes that could be taken for an index and for a manifest are neither.
func TestRegistryTwoMeanings(t *testing.T) {
	isolate(t)
	for name, body := range map[string]string{
		"both":             `{"schemaVersion":2,"manifests":[],"layers":[]}`,
		"another type":     `{"schemaVersion":2,"mediaType":"` + ispec.MediaTypeImageManifest + `","manifests":[]}`,
		"docker, says oci": `{"schemaVersion":2,"mediaType":"` + ispec.MediaTypeImageManifest + `","layers":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.Header().Set("Content-Type", dockerIndex)
					fmt.Fprint(w, body)
					return true
				}
				return false
			}
			_, err := registryStore(t).Ensure(t.Context(), f.host+"/x:1")
			wantError(t, err, "two meanings")
		})
	}
	t.Run("schema 1", func(t *testing.T) {
		f := newFake(t)
		f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", dockerSchema1+"+prettyjws")
				fmt.Fprint(w, `{"schemaVersion":1}`)
				return true
			}
			return false
		}
		_, err := registryStore(t).Ensure(t.Context(), f.host+"/x:1")
		wantError(t, err, "schema 1")
	})
}

// TestRegistryRedirect: blobs may be elsewhere, but the login is for the registry only.
func TestRegistryRedirect(t *testing.T) {
	home := isolate(t)
	f := newFake(t)
	ref := f.ref()
	if err := writeTestFile(filepath.Join(home, ".docker/config.json"), `{"auths":{"`+f.host+`":{"auth":"dTpw"}}}`); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	leaked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") != "" {
			leaked++
		}
		http.ServeFile(w, r, f.blobPath(digest.Digest(filepath.Base(r.URL.Path))))
	}))
	t.Cleanup(elsewhere.Close)
	_, port, err := net.SplitHostPort(elsewhere.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "http://localhost:"+port+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	if _, err := registryStore(t).Ensure(t.Context(), ref); err != nil {
		t.Error(err)
	}
	if leaked > 0 {
		t.Error("the login went to another host")
	}
}
