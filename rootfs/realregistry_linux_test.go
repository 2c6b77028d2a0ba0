package rootfs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What skopeo and podman push to Debian's docker-registry, and what they save.

// needTools skips where a program is missing; hack/setup test installs them.
func needTools(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			skip(t, p+" is not installed (hack/setup test)")
		}
	}
}

// run runs a program and returns what it wrote.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

const (
	testUser, testPassword = "reader", "geheim"
	// htpasswd -Bbn -C 5 reader geheim
	testHtpasswd = testUser + ":$2y$05$t0.sgGrKdUIcbowX771XGeX3ssCBSJQLY9oLDeagNylqASEf6/txy\n"
)

// startRegistry runs Debian's registry on a port of its own, and returns HOST:PORT.
func startRegistry(t *testing.T, withLogin bool) string {
	t.Helper()
	needTools(t, "docker-registry", "skopeo")
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: \"127.0.0.1:0\"}\n", dir)
	if withLogin {
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", dir)
	}
	for name, body := range map[string]string{"config.yml": config, "htpasswd": testHtpasswd} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "docker-registry", "serve", filepath.Join(dir, "config.yml"))
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "REGISTRY_") }) // it takes them for its own
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It says which port it got; what it says afterwards has to be read too.
	found := make(chan string)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		port := regexp.MustCompile(`listening on ([0-9.:]+)`)
		said := ""
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := port.FindStringSubmatch(lines.Text()); m != nil && said == "" {
				said = m[1]
				found <- said
			}
		}
		if said == "" {
			close(found)
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() // it may have ended
		<-ended
		cmd.Wait()
	})
	host, ok := <-found
	if !ok {
		t.Fatal("docker-registry does not listen")
	}
	return host
}

// pushable is a small image with a tag, in a layout.
func pushable(t *testing.T, compress string) (l *testLayout, ref string) {
	t.Helper()
	l = newLayout(t)
	d := l.image(testImage{
		compress: compress, tag: "t", env: []string{"X=real"},
		layers: [][]byte{python(t), archive(t, file("etc/motd", strings.Repeat("hello ", 50_000)), link("etc/l", "/etc/motd"))},
	})
	return l, l.index(d) + ":t"
}

// wantSameTree compares what ref becomes with what the layout it came from becomes.
func wantSameTree(t *testing.T, s *Store, ref, layout string) Tree {
	t.Helper()
	want, err := newStore(t).Ensure(t.Context(), layout)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Ensure(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listing(t, want.Path), listing(t, got.Path)); diff != "" {
		t.Errorf("the tree of %s differs (-want +got)\n%s", ref, diff)
	}
	if diff := cmp.Diff([]any{want.Env, want.Python, ref}, []any{got.Env, got.Python, got.Ref}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	return got
}

func TestRealRegistry(t *testing.T) {
	isolate(t)
	host := startRegistry(t, false)
	_, gz := pushable(t, "gzip")
	_, plain := pushable(t, "")
	_, zst := pushable(t, "zstd")
	for name, tt := range map[string]struct {
		layout string
		flags  []string
		media  string // of the manifest in the registry
	}{
		"oci gzip":       {gz, nil, ispec.MediaTypeImageManifest},
		"oci compressed": {plain, nil, ispec.MediaTypeImageManifest},
		"oci zstd":       {zst, nil, ispec.MediaTypeImageManifest},
		"recompressed":   {gz, []string{"--dest-compress-format", "zstd", "--dest-compress"}, ispec.MediaTypeImageManifest},
		"schema 2":       {gz, []string{"--format", "v2s2"}, dockerManifest},
	} {
		t.Run(name, func(t *testing.T) {
			image := host + "/some/" + strings.ReplaceAll(name, " ", "-") + ":1"
			run(t, "skopeo", append(append([]string{"copy", "--insecure-policy", "--dest-tls-verify=false"}, tt.flags...), tt.layout, "docker://"+image)...)
			if got := run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+image); !strings.Contains(got, tt.media) {
				t.Errorf("the registry has %s", got)
			}
			s := registryStore(t)
			tree := wantSameTree(t, s, image, tt.layout)
			checkClean(t, s, 1)

			// By its digest, from a registry and then from the cache.
			byDigest := "docker://" + host + "/some/" + strings.ReplaceAll(name, " ", "-") + "@" + tree.Digest
			if got, err := registryStore(t).Ensure(t.Context(), byDigest); err != nil || got.Digest != tree.Digest {
				t.Errorf("by digest: %v, %v", got, err)
			}
			if got, err := s.Ensure(t.Context(), "gone.invalid/x@"+tree.Digest); err != nil || got.Path != tree.Path {
				t.Errorf("by digest, cached: %v, %v", got, err)
			}
		})
	}
}

func TestRealRegistryIndex(t *testing.T) {
	isolate(t)
	host := startRegistry(t, false)
	l := newLayout(t)
	mine := l.image(testImage{compress: "gzip", layers: [][]byte{python(t)}, env: []string{"X=mine"}})
	other := l.image(testImage{compress: "gzip", layers: [][]byte{python(t)}, env: []string{"X=other"}, arch: "s390x"})
	tagged := func(d ispec.Descriptor, tag string) ispec.Descriptor {
		d.Annotations = map[string]string{ispec.AnnotationRefName: tag}
		return d
	}
	ref := l.index(tagged(l.nested(other, mine), "both"), tagged(l.nested(other), "other"))
	for name, flags := range map[string][]string{"oci": nil, "schema2": {"--format", "v2s2"}} {
		t.Run(name, func(t *testing.T) {
			for _, tag := range []string{"both", "other"} {
				run(t, "skopeo", append(append([]string{"copy", "--all", "--insecure-policy", "--dest-tls-verify=false"}, flags...),
					ref+":"+tag, "docker://"+host+"/"+name+":"+tag)...)
			}
			s := registryStore(t)
			tree, err := s.Ensure(t.Context(), host+"/"+name+":both")
			if err != nil || len(tree.Env) != 1 || tree.Env[0] != "X=mine" {
				t.Errorf("%v, %v", tree, err)
			}
			_, err = s.Ensure(t.Context(), host+"/"+name+":other")
			if err == nil || !strings.Contains(err.Error(), "linux/s390x") {
				t.Errorf("an index without this machine: %v", err)
			}

			// The index's own digest, once from the registry and then without it.
			index := strings.TrimSpace(run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+host+"/"+name+":both"))
			if name == "schema2" && !strings.Contains(index, dockerIndex) {
				t.Errorf("not a manifest list: %s", index)
			}
			memos := names(t, filepath.Join(s.Dir, refsDir))
			if len(memos) != 2 { // of the tag, and of the index's digest
				t.Errorf("refs: %v", memos)
			}
		})
	}
}

func TestRealRegistryLogin(t *testing.T) {
	home := isolate(t)
	host := startRegistry(t, true)
	_, layout := pushable(t, "gzip")
	run(t, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", testUser+":"+testPassword, layout, "docker://"+host+"/private/x:1")
	image := host + "/private/x:1"

	_, err := registryStore(t).Ensure(t.Context(), image)
	wantError(t, err, "asks for a login for "+image+" (401)", "`podman login "+host+"`")

	authFile := filepath.Join(home, ".config/containers/auth.json")
	if err := os.MkdirAll(filepath.Dir(authFile), 0o700); err != nil {
		t.Fatal(err)
	}
	// As podman login writes it.
	run(t, "skopeo", "login", "--tls-verify=false", "--authfile", authFile, "-u", testUser, "-p", testPassword, host)
	wantSameTree(t, registryStore(t), image, layout)

	_, err = registryStore(t).Ensure(t.Context(), host+"/private/y:1")
	wantError(t, err, host+" has no "+host+"/private/y:1 (404)")
	_, err = registryStore(t).Ensure(t.Context(), host+"/private/x:2")
	wantError(t, err, "/private/x:2 (404): check the name and the tag")

	b, err := os.ReadFile(authFile)
	if err != nil {
		t.Fatal(err)
	}
	wrong := regexp.MustCompile(`"auth": *"[^"]*"`).ReplaceAllString(string(b), `"auth": "cmVhZGVyOmZhbHNjaA=="`)
	if err := os.WriteFile(authFile, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = registryStore(t).Ensure(t.Context(), image)
	wantError(t, err, "does not accept the login from "+authFile, "(401)")
	if strings.Contains(err.Error(), "falsch") || strings.Contains(err.Error(), "cmVh") {
		t.Errorf("a secret in %v", err)
	}
}

// TestRealTools: what podman pushes and what both save.
func TestRealTools(t *testing.T) {
	isolate(t)
	host := startRegistry(t, false)
	_, layout := pushable(t, "gzip")
	dir := t.TempDir()
	const name = "example.com/saved:1"

	t.Run("skopeo", func(t *testing.T) {
		for _, transport := range []string{"oci-archive", "docker-archive"} {
			file := transport + ":" + filepath.Join(dir, transport+".tar")
			run(t, "skopeo", "copy", "--insecure-policy", layout, file+":"+name)
			wantSameTree(t, registryStore(t), file, layout)
			wantSameTree(t, registryStore(t), file+":"+name, layout)
			_, err := registryStore(t).Ensure(t.Context(), file+":example.com/saved:2")
			wantError(t, err, `"example.com/saved:2": it has example.com/saved:1`)
		}
	})
	t.Run("podman", func(t *testing.T) {
		needTools(t, "podman")
		podman := func(args ...string) {
			run(t, "podman", append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)...)
		}
		if out, err := exec.CommandContext(t.Context(), "podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
			"--storage-driver", "vfs", "pull", "oci-archive:"+filepath.Join(dir, "oci-archive.tar")).CombinedOutput(); err != nil {
			skip(t, fmt.Sprintf("podman cannot hold images here: %v: %s", err, out))
		}
		image := host + "/by/podman:1"
		podman("push", "--tls-verify=false", name, image)
		wantSameTree(t, registryStore(t), image, layout)
		for _, format := range []string{"oci-archive", "docker-archive"} {
			file := filepath.Join(dir, "podman-"+format+".tar")
			podman("save", "--format", format, "-o", file, name)
			wantSameTree(t, registryStore(t), format+":"+file, layout)
		}
	})
}

// TestRealPython pulls an image of a size that people use.
func TestRealPython(t *testing.T) {
	isolate(t)
	dir, err := filepath.Abs("../.cache/python-image")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		skip(t, "no image in .cache/python-image (hack/setup test)")
	}
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	host := startRegistry(t, false)
	run(t, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+dir, "docker://"+host+"/python:3")
	s := registryStore(t)
	var seen []Progress
	ctx := WithProgress(t.Context(), func(p Progress) { seen = append(seen, p) })
	tree, err := s.Ensure(ctx, host+"/python:3")
	if err != nil {
		t.Fatal(err)
	}
	if last := seen[len(seen)-1]; last.Phase != Unpacking || last.Done != last.Total || last.Total < 1<<20 {
		t.Errorf("progress ended with %+v", last)
	}
	if _, err := os.Lstat(filepath.Join(tree.Path, tree.Python)); err != nil {
		t.Error(err)
	}
}
