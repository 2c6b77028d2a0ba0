package rootfs

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// isolate keeps the logins and policies of whoever runs the tests out of them, and returns an empty home directory.
func isolate(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("NO_PROXY", "*")
	return home
}

// registryStore is a cache of somebody who is in a hurry, on a machine without any configuration.
func registryStore(t *testing.T) *Store {
	t.Helper()
	s := newStore(t)
	s.etc = t.TempDir()
	s.patience = patience{silence: 20 * time.Second, backoff: time.Millisecond}
	if err := writeTestFile(filepath.Join(s.etc, "containers/registries.conf"), ""); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantError wants an error of one line with all these parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, p := range append(parts, "cannot ") {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got %v\nwant an error with %q", err, p)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("more than a line: %q", err)
	}
}

// A fakeRegistry serves the blobs of a layout, and whatever a test wants instead.
type fakeRegistry struct {
	*testLayout
	*httptest.Server
	host string
	tags map[string]ispec.Descriptor
	// instead answers a request, if it returns true. n counts the requests for the same path, from 1.
	instead func(w http.ResponseWriter, r *http.Request, n int) bool

	mu    sync.Mutex
	asked map[string]int
}

func newFake(t *testing.T) *fakeRegistry {
	t.Helper()
	return serveFake(t, "127.0.0.1", false)
}

func serveFake(t *testing.T, ip string, withTLS bool) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{testLayout: newLayout(t), tags: make(map[string]ispec.Descriptor), asked: make(map[string]int)}
	f.Server = httptest.NewUnstartedServer(f)
	f.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if ip != "127.0.0.1" {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		f.Server.Listener.Close()
		f.Server.Listener = l
	}
	if withTLS {
		f.StartTLS()
	} else {
		f.Start()
	}
	t.Cleanup(f.Close)
	f.host = f.Listener.Addr().String()
	return f
}

// ref is a small image under the tag 1.
func (f *fakeRegistry) ref() string {
	if _, ok := f.tags["1"]; !ok {
		f.tags["1"] = f.image(testImage{compress: "gzip", layers: [][]byte{python(f.t), f.bigLayer()}, env: []string{"X=1"}})
	}
	return f.host + "/x:1"
}

// bigLayer does not compress: a connection can break in it.
func (f *fakeRegistry) bigLayer() []byte {
	b := make([]byte, 3<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b) // never fails
	return archive(f.t, file("big", string(b)))
}

func (f *fakeRegistry) count(part string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, times := range f.asked {
		if strings.Contains(path, part) {
			n += times
		}
	}
	return n
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked[r.URL.Path]++
	n := f.asked[r.URL.Path]
	f.mu.Unlock()
	if f.instead != nil && f.instead(w, r, n) {
		return
	}
	switch kind, last := path.Base(path.Dir(r.URL.Path)), path.Base(r.URL.Path); {
	case r.URL.Path == "/v2/":
	case kind == "manifests":
		desc, ok := f.tags[last]
		if !ok {
			desc = ispec.Descriptor{Digest: digest.Digest(last)}
		}
		err := desc.Digest.Validate()
		var b []byte
		if err == nil {
			b, err = os.ReadFile(f.blobPath(desc.Digest))
		}
		if err != nil {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, http.StatusNotFound)
			return
		}
		var says struct{ MediaType string }
		if json.Unmarshal(b, &says) != nil || says.MediaType == "" {
			says.MediaType = ispec.MediaTypeImageIndex
		}
		w.Header().Set("Content-Type", says.MediaType)
		w.Write(b) // the client may be gone
	case kind == "blobs":
		b, err := os.ReadFile(f.blobPath(digest.Digest(last)))
		if err != nil {
			http.Error(w, "no such blob", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	default:
		http.NotFound(w, r)
	}
}

// breakOff sends half of a blob and closes the connection.
func (f *fakeRegistry) breakOff(w http.ResponseWriter, r *http.Request) {
	b, err := os.ReadFile(f.blobPath(digest.Digest(path.Base(r.URL.Path))))
	if err != nil {
		f.t.Error(err)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b[:len(b)/2]) // we hang up anyway
	panic(http.ErrAbortHandler)
}

// bigBlob says whether a request is for the large layer.
func (f *fakeRegistry) bigBlob(r *http.Request) bool {
	if !strings.Contains(r.URL.Path, "/blobs/") {
		return false
	}
	fi, err := os.Stat(f.blobPath(digest.Digest(path.Base(r.URL.Path))))
	return err == nil && fi.Size() > 1<<20
}

func TestRegistryCached(t *testing.T) {
	isolate(t)
	f := newFake(t)
	ref := f.ref()
	s := registryStore(t)
	first, err := s.Ensure(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	before := f.count("")
	// A second process, and another name for the same bytes.
	for _, name := range []string{ref, "docker://" + ref, f.host + "/x@" + first.Digest, f.host + "/x:old@" + first.Digest} {
		got, err := (&Store{Dir: s.Dir, etc: s.etc}).Ensure(t.Context(), name)
		if err != nil || got.Path != first.Path || got.Ref != name {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if n := f.count(""); n != before {
		t.Errorf("the registry was asked %d times more", n-before)
	}

	// The tag moves; only Refresh sees it.
	f.tags["1"] = f.image(testImage{layers: [][]byte{python(t)}, env: []string{"X=2"}})
	if got, err := s.Ensure(t.Context(), ref); err != nil || got.Digest != first.Digest {
		t.Errorf("%v, %v", got, err)
	}
	for range 2 {
		if got, err := s.Refresh(t.Context(), ref); err != nil || got.Digest != f.tags["1"].Digest.String() {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got, err := s.Ensure(t.Context(), ref); err != nil || got.Env[0] != "X=2" {
		t.Errorf("%v, %v", got, err)
	}
	checkClean(t, s, 2)

	f.Close()
	if got, err := s.Ensure(t.Context(), ref); err != nil || got.Env[0] != "X=2" {
		t.Errorf("without a registry: %v, %v", got, err)
	}
	_, err = s.Refresh(t.Context(), ref)
	wantError(t, err, "cannot pull image "+ref, "nothing listens at "+f.host)

	// Notes that are damaged, or made on another machine, are not believed.
	for _, memo := range names(t, filepath.Join(s.Dir, refsDir)) {
		if err := os.WriteFile(filepath.Join(s.Dir, refsDir, memo), []byte(`{"ref":"other","digest":"`+first.Digest+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Ensure(t.Context(), ref)
	wantError(t, err, "nothing listens")
}

// TestRegistryIndexDigest: an index is known by its digest too, without the registry.
func TestRegistryIndexDigest(t *testing.T) {
	isolate(t)
	f := newFake(t)
	mine := f.image(testImage{layers: [][]byte{python(t)}})
	f.tags["1"] = f.nested(f.image(testImage{layers: [][]byte{python(t)}, arch: "s390x"}), mine)
	s := registryStore(t)
	got, err := s.Ensure(t.Context(), f.host+"/x:1")
	if err != nil || got.Digest != mine.Digest.String() {
		t.Fatalf("%v, %v", got, err)
	}
	f.Close()
	again, err := s.Ensure(t.Context(), "elsewhere.invalid/y@"+f.tags["1"].Digest.String())
	if err != nil || again.Path != got.Path {
		t.Errorf("%v, %v", again, err)
	}
}
