package rootfs

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoopback(t *testing.T) {
	for domain, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "LOCALHOST:1": true, "127.0.0.1": true, "127.8.9.1:80": true, "[::1]:5000": true, "[::1]": true,
		"localhost.example.com": false, "127.0.0.1.example.com": false, "example.com:127": false, "10.0.0.1:5000": false, "docker.io": false,
		"[::ffff:10.0.0.1]:5000": false, "0.0.0.0:5000": false,
	} {
		if got := loopback(domain); got != want {
			t.Errorf("%s: %v", domain, got)
		}
	}
}

// elsewhere is an address of this machine that a stranger could have too.
func elsewhere(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

func configure(t *testing.T, s *Store, registries string) {
	t.Helper()
	if err := writeTestFile(filepath.Join(s.etc, "containers/registries.conf"), registries); err != nil {
		t.Fatal(err)
	}
}

func TestPlainHTTP(t *testing.T) {
	isolate(t)
	f := serveFake(t, elsewhere(t), false)
	ref := f.ref()
	s := registryStore(t)
	_, err := s.Ensure(t.Context(), ref)
	wantError(t, err, "cannot pull image "+ref, f.host+" speaks plain HTTP", "insecure = true")
	if n := f.count("/"); n > 0 {
		t.Errorf("it was asked %d times without TLS", n)
	}
	configure(t, s, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", f.host))
	if _, err := s.Ensure(t.Context(), ref); err != nil { // the same Store: the file is read again
		t.Error(err)
	}
}

func TestUnknownCertificate(t *testing.T) {
	isolate(t)
	f := serveFake(t, elsewhere(t), true)
	ref := f.ref()
	s := registryStore(t)
	_, err := s.Ensure(t.Context(), ref)
	wantError(t, err, "the certificate of "+f.host+" is not trusted", "certs.d/"+f.host+"/ca.crt")
	configure(t, s, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", f.host))
	if _, err := s.Ensure(t.Context(), ref); err != nil {
		t.Error(err)
	}
	onLoopback := serveFake(t, "127.0.0.1", true)
	if _, err := registryStore(t).Ensure(t.Context(), onLoopback.ref()); err != nil {
		t.Error(err)
	}
}

func TestMirrors(t *testing.T) {
	isolate(t)
	mirror := newFake(t)
	mirror.ref()
	primary := newFake(t)
	primary.ref()
	conf := func(mirrors ...string) string {
		c := "[[registry]]\nprefix = \"r.example/ns\"\nlocation = \"" + primary.host + "\"\n"
		for _, m := range mirrors {
			c += fmt.Sprintf("[[registry.mirror]]\nlocation = %q\n", m)
		}
		return c
	}
	const ref = "r.example/ns/x:1"

	t.Run("first", func(t *testing.T) {
		s := registryStore(t)
		configure(t, s, conf(mirror.host))
		if _, err := s.Ensure(t.Context(), ref); err != nil {
			t.Error(err)
		}
		if mirror.count("/blobs/") == 0 || primary.count("/") > 0 {
			t.Errorf("mirror asked %d times, registry %d times", mirror.count("/"), primary.count("/"))
		}
	})
	t.Run("that fail", func(t *testing.T) {
		s := registryStore(t)
		configure(t, s, conf("127.0.0.1:1", newFake(t).host))
		if _, err := s.Ensure(t.Context(), ref); err != nil {
			t.Error(err)
		}
		if primary.count("/blobs/") == 0 {
			t.Error("the registry was not asked")
		}
	})
	t.Run("all", func(t *testing.T) {
		s := registryStore(t)
		configure(t, s, conf("127.0.0.1:1"))
		_, err := s.Ensure(t.Context(), "r.example/ns/x:2")
		wantError(t, err, primary.host+" has no", "(404)", "mirror 127.0.0.1:1/x:2: nothing listens at 127.0.0.1:1")
	})
	t.Run("their insecure is theirs alone", func(t *testing.T) {
		far := serveFake(t, elsewhere(t), false)
		s := registryStore(t)
		configure(t, s, conf(far.host)+"")
		if _, err := s.Ensure(t.Context(), ref); err != nil || far.count("/") > 0 {
			t.Errorf("%v; the mirror was asked %d times without TLS", err, far.count("/"))
		}
		s = registryStore(t)
		configure(t, s, conf(far.host)+"insecure = true\n")
		far.ref()
		if _, err := s.Ensure(t.Context(), ref); err != nil || far.count("/blobs/") == 0 {
			t.Errorf("%v; the mirror was asked %d times", err, far.count("/"))
		}
	})
	t.Run("blocked", func(t *testing.T) {
		s := registryStore(t)
		configure(t, s, "[[registry]]\nlocation = \"r.example\"\nblocked = true\n")
		_, err := s.Ensure(t.Context(), ref)
		wantError(t, err, "r.example is blocked in "+s.etc)
	})
	t.Run("damaged file", func(t *testing.T) {
		s := registryStore(t)
		configure(t, s, "[[registry\n")
		_, err := s.Ensure(t.Context(), ref)
		wantError(t, err, "registries.conf")
	})
}

func TestUnreachable(t *testing.T) {
	isolate(t)
	s := registryStore(t)
	_, err := s.Ensure(t.Context(), "registry.invalid/x:1")
	wantError(t, err, "the host registry.invalid cannot be found (DNS: ")
	_, err = s.Ensure(t.Context(), "127.0.0.1:1/x:1")
	wantError(t, err, "nothing listens at 127.0.0.1:1")
	checkClean(t, s, 0)
}

// TestToken: registries such as Docker Hub send their clients to a server of tokens.
func TestToken(t *testing.T) {
	home := isolate(t)
	const problem = `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`
	f := newFake(t)
	ref := f.ref()
	f.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == "/token" {
			user, password, ok := r.BasicAuth()
			if ok && (user != "u" || password != "p") {
				http.Error(w, problem, http.StatusUnauthorized)
				return true
			}
			if scope := r.URL.Query().Get("scope"); scope != "repository:x:pull" {
				t.Errorf("scope %q", scope)
			}
			fmt.Fprintf(w, `{"token":"of-%s"}`, user)
			return true
		}
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer of-u") {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="s"`)
		http.Error(w, problem, http.StatusUnauthorized)
		return true
	}
	_, err := registryStore(t).Ensure(t.Context(), ref)
	wantError(t, err, "asks for a login", "(401)")
	config := filepath.Join(home, ".docker/config.json")
	for auth, works := range map[string]bool{"dTpw": true, "dTpx": false} {
		if err := writeTestFile(config, `{"auths":{"`+f.host+`":{"auth":"`+auth+`"}}}`); err != nil {
			t.Fatal(err)
		}
		_, err := registryStore(t).Ensure(t.Context(), ref)
		if works && err != nil {
			t.Error(err)
		} else if !works {
			wantError(t, err, "does not accept the login from "+config)
		}
	}
}
