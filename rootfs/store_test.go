package rootfs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s := &Store{Dir: filepath.Join(t.TempDir(), "cache")}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkClean fails if anything unfinished is in the cache.
func checkClean(t *testing.T, s *Store, entries int) {
	t.Helper()
	if _, err := os.Stat(s.Dir); entries == 0 && errors.Is(err, fs.ErrNotExist) {
		return // not even begun
	}
	if got := names(t, filepath.Join(s.Dir, tmpDir)); len(got) > 0 {
		t.Errorf("left in tmp: %v", got)
	}
	if got := names(t, filepath.Join(s.Dir, entriesDir)); len(got) != entries {
		t.Errorf("entries: %v, want %d", got, entries)
	}
}

func TestEnsureLayout(t *testing.T) {
	for _, with := range []string{"", "gzip", "zstd"} {
		t.Run("compressed "+with, func(t *testing.T) {
			l := newLayout(t)
			d := l.image(testImage{
				layers: [][]byte{python(t), archive(t, file("etc/motd", strings.Repeat("hello ", 200_000)))}, compress: with,
				env: []string{"PATH=/usr/bin", "junk", "A=1", "=x", "A=2", "B=x=y", "N=a\x00b"},
			})
			s := newStore(t)
			got, err := s.Ensure(t.Context(), l.index(d))
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(s.Dir, "rootfs", "sha256-"+d.Digest.Encoded()+"-v1")
			want := Tree{
				Ref: "oci:" + l.dir, Digest: d.Digest.String(), Path: filepath.Join(dir, "rootfs"), Python: "/usr/bin/python3",
				Env: []string{"PATH=/usr/bin", "A=2", "B=x=y"}, Aux: filepath.Join(dir, "aux"),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff([]string{"dev", "etc", "proc", "run", "sys", "tmp", "usr", "workspace"}, names(t, got.Path)); diff != "" {
				t.Errorf("root: (-want +got)\n%s", diff)
			}
			checkClean(t, s, 1)
			for p, want := range map[string]fs.FileMode{s.Dir: 0o711, filepath.Dir(dir): 0o711, dir: 0o711, got.Path: 0o755, got.Aux: 0o700} {
				if fi, err := os.Stat(p); err != nil || fi.Mode().Perm() != want {
					t.Errorf("%s: %v %v, want %v", p, fi.Mode(), err, want)
				}
			}

			// Again, and by somebody else: the same tree, even when the blobs are gone.
			if err := os.RemoveAll(filepath.Join(l.dir, "blobs")); err != nil {
				t.Fatal(err)
			}
			again, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), "oci:"+l.dir)
			if diff := cmp.Diff(want, again); diff != "" || err != nil {
				t.Errorf("again: %v (-want +got)\n%s", err, diff)
			}
		})
	}
}

func TestEnsureUnsupported(t *testing.T) {
	for _, ref := range []string{"", "oci:", "oci-archive:", "docker-archive::x", "host:", "docker://", "Python", "dir:/x", "docker-daemon:python:3", "a@sha256:12", "https://r.io/x", "x y"} {
		_, err := newStore(t).Ensure(t.Context(), ref)
		if !errors.Is(err, ErrUnsupportedRef) || !strings.Contains(err.Error(), "oci:DIR[:TAG]") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// TestEnsureChoice is about which image of a layout is taken. The image is told by its variable X.
func TestEnsureChoice(t *testing.T) {
	im := func(l *testLayout, x, tag, arch string) ispec.Descriptor {
		return l.image(testImage{layers: [][]byte{python(t)}, env: []string{"X=" + x}, tag: tag, arch: arch})
	}
	untold := func(d ispec.Descriptor) ispec.Descriptor { d.Platform = nil; return d }
	variant := func(d ispec.Descriptor, v string) ispec.Descriptor {
		p := *d.Platform
		p.Variant, d.Platform = v, &p
		return d
	}
	attestation := func(d ispec.Descriptor) ispec.Descriptor {
		d.Platform = &ispec.Platform{OS: "unknown", Architecture: "unknown"}
		return d
	}
	tagged := func(d ispec.Descriptor, tag string) ispec.Descriptor {
		d.Annotations = map[string]string{ispec.AnnotationRefName: tag}
		return d
	}
	tests := map[string]struct {
		make func(l *testLayout) []ispec.Descriptor
		tag  string
		want string // X, or a part of the error
		err  bool
	}{
		"the only one":               {func(l *testLayout) []ispec.Descriptor { return []ispec.Descriptor{im(l, "1", "", "")} }, "", "1", false},
		"the only one, with its tag": {func(l *testLayout) []ispec.Descriptor { return []ispec.Descriptor{im(l, "1", "a", "")} }, ":a", "1", false},
		"a tag with colons":          {func(l *testLayout) []ispec.Descriptor { return []ispec.Descriptor{im(l, "1", "r.io/p:3", "")} }, ":r.io/p:3", "1", false},
		"one of two tags": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{im(l, "1", "a", ""), im(l, "2", "b", "")}
		}, ":b", "2", false},
		"two tags, none given": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{im(l, "1", "a", ""), im(l, "2", "b", "")}
		}, "", "name one as oci:DIR:TAG: it has a, b", true},
		"no such tag": {func(l *testLayout) []ispec.Descriptor { return []ispec.Descriptor{im(l, "1", "a", "")} }, ":c", `no image has the tag "c": it has a`, true},
		"no image":    {func(*testLayout) []ispec.Descriptor { return nil }, "", "lists no image", true},
		"by platform, in an index, beside an attestation": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{tagged(l.nested(attestation(im(l, "0", "", "")), im(l, "1", "", "s390x"), im(l, "2", "", "")), "a")}
		}, ":a", "2", false},
		"by platform, index in index": {func(l *testLayout) []ispec.Descriptor {
			in := l.nested(im(l, "1", "", "s390x"), im(l, "2", "", ""))
			in.Platform = im(l, "2", "", "").Platform
			return []ispec.Descriptor{l.nested(in)}
		}, "", "2", false},
		"by platform, in index.json": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{im(l, "1", "a", "s390x"), im(l, "2", "a", "")}
		}, ":a", "2", false},
		"the plain variant": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{variant(im(l, "1", "", ""), "v99"), im(l, "2", "", "")}
		}, "", "2", false},
		"not for this machine": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{l.nested(im(l, "1", "", "s390x"), im(l, "2", "", "ppc64le"))}
		}, "", "among 2: linux/s390x, linux/ppc64le", true},
		"not for this machine, said by the config only": {func(l *testLayout) []ispec.Descriptor {
			return []ispec.Descriptor{untold(im(l, "1", "", "s390x"))}
		}, "", "the image is for linux/s390x", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			tree, err := newStore(t).Ensure(t.Context(), l.index(tt.make(l)...)+tt.tag)
			switch {
			case tt.err && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			case !tt.err && (err != nil || !slices.Contains(tree.Env, "X="+tt.want)):
				t.Errorf("got %v %v, want X=%s", tree.Env, err, tt.want)
			}
		})
	}
}

// TestEnsureDamaged has images that are not what they say. The error names the blob, and nothing stays.
func TestEnsureDamaged(t *testing.T) {
	zeros := make([]byte, 400<<20)
	overwrite := func(t *testing.T, path string, edit func(b []byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, edit(b), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	type images struct {
		l        *testLayout
		manifest ispec.Manifest
		desc     ispec.Descriptor
	}
	tests := map[string]struct {
		compress string
		layers   [][]byte
		edit     func(*ispec.Manifest, *ispec.Image)
		damage   func(t *testing.T, x images) (blob digest.Digest)
		want     string
	}{
		"manifest flipped": {damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.desc.Digest), flip)
			return x.desc.Digest
		}, want: "has the digest"},
		"manifest missing": {damage: func(t *testing.T, x images) digest.Digest {
			os.Remove(x.l.blobPath(x.desc.Digest))
			return x.desc.Digest
		}, want: "missing"},
		"config flipped": {damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Config.Digest), flip)
			return x.manifest.Config.Digest
		}, want: "has the digest"},
		"config cut": {damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Config.Digest), cut)
			return x.manifest.Config.Digest
		}, want: "its descriptor says"},
		"layer missing": {damage: func(t *testing.T, x images) digest.Digest {
			os.Remove(x.l.blobPath(x.manifest.Layers[1].Digest))
			return x.manifest.Layers[1].Digest
		}, want: "missing"},
		"layer cut": {damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Layers[1].Digest), cut)
			return x.manifest.Layers[1].Digest
		}, want: "its descriptor says"},
		"layer too long": {damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Layers[1].Digest), func(b []byte) []byte { return append(b, 0) })
			return x.manifest.Layers[1].Digest
		}, want: "its descriptor says"},
		"layer is a FIFO": {damage: func(t *testing.T, x images) digest.Digest {
			p := x.l.blobPath(x.manifest.Layers[1].Digest)
			os.Remove(p)
			if err := unix.Mkfifo(p, 0o644); err != nil {
				t.Fatal(err)
			}
			return x.manifest.Layers[1].Digest
		}, want: "not a regular file"},
		"layer flipped, plain": {damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Layers[1].Digest), flip)
			return x.manifest.Layers[1].Digest
		}, want: "has the digest"},
		"layer flipped, gzip": {compress: "gzip", damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Layers[1].Digest), flip)
			return x.manifest.Layers[1].Digest
		}, want: "has the digest"},
		"layer flipped, zstd": {compress: "zstd", damage: func(t *testing.T, x images) digest.Digest {
			overwrite(t, x.l.blobPath(x.manifest.Layers[1].Digest), flip)
			return x.manifest.Layers[1].Digest
		}, want: "has the digest"},
		"wrong diff ID": {
			edit:   func(_ *ispec.Manifest, c *ispec.Image) { c.RootFS.DiffIDs[1] = digest.FromString("x") },
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "uncompressed content",
		},
		"wrong diff ID, gzip": {
			compress: "gzip",
			edit:     func(_ *ispec.Manifest, c *ispec.Image) { c.RootFS.DiffIDs[1] = digest.FromString("x") },
			damage:   func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "uncompressed content",
		},
		"a diff ID too few": {
			edit:   func(_ *ispec.Manifest, c *ispec.Image) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] },
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Config.Digest }, want: "describes 1 layers",
		},
		"an invalid digest": {
			edit:   func(m *ispec.Manifest, _ *ispec.Image) { m.Layers[1].Digest = "sha256:../../x" },
			damage: func(*testing.T, images) digest.Digest { return "sha256:../../x" }, want: "invalid",
		},
		"a negative size": {
			edit:   func(m *ispec.Manifest, _ *ispec.Image) { m.Layers[1].Size = -1 },
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "-1 bytes",
		},
		"not a layer": {
			edit:   func(m *ispec.Manifest, _ *ispec.Image) { m.Layers[1].MediaType = "text/plain" },
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "text/plain",
		},
		"an artifact": {
			edit:   func(m *ispec.Manifest, _ *ispec.Image) { m.Config.MediaType = "application/helm" },
			damage: func(_ *testing.T, x images) digest.Digest { return x.desc.Digest }, want: "not an image",
		},
		"cut in the archive": {
			layers: [][]byte{python(t), archive(t, file("f", strings.Repeat("x", 5000)))[:3000]},
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "cut short",
		},
		"a bomb behind the archive, gzip": {
			compress: "gzip", layers: [][]byte{python(t), append(archive(t, file("f", "x")), zeros...)},
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "over the bounds",
		},
		"a bomb behind the archive, zstd": {
			compress: "zstd", layers: [][]byte{python(t), append(archive(t, file("f", "x")), zeros...)},
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "over the bounds",
		},
		"a bomb of a file, zstd": {
			compress: "zstd", layers: [][]byte{python(t), slices.Concat(rawHeader("f", '0', 400<<20), zeros)},
			damage: func(_ *testing.T, x images) digest.Digest { return x.manifest.Layers[1].Digest }, want: "bytes of content",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.layers == nil {
				noise := bytes.Repeat([]byte("some text that can be compressed, and is long enough "), 400)
				tt.layers = [][]byte{python(t), archive(t, file("f", string(noise)))}
			}
			x := images{l: newLayout(t)}
			x.desc = x.l.image(testImage{layers: tt.layers, compress: tt.compress, edit: func(m *ispec.Manifest, c *ispec.Image) {
				if tt.edit != nil {
					tt.edit(m, c)
				}
			}})
			b, err := os.ReadFile(x.l.blobPath(x.desc.Digest))
			if err != nil {
				t.Fatal(err)
			}
			if x.manifest, err = parseManifest(b); err != nil && tt.edit == nil {
				t.Fatal(err)
			}
			ref := x.l.index(x.desc)
			blob := tt.damage(t, x)
			s := newStore(t)
			_, err = s.Ensure(t.Context(), ref)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), blob.String()) || !strings.Contains(err.Error(), ref) {
				t.Errorf("got %v\nwant an error with %q, the image and %s", err, tt.want, blob)
			}
			checkClean(t, s, 0)
		})
	}
}

func TestEnsureNoLayout(t *testing.T) {
	ok := newLayout(t)
	ref := ok.index(ok.image(testImage{layers: [][]byte{python(t)}}))
	tests := map[string]struct {
		name, content, want string
	}{
		"no index":       {"index.json", "", "no index.json"},
		"no JSON":        {"index.json", "{", "cannot read"},
		"another schema": {"index.json", `{"schemaVersion":1}`, "schema version 1"},
		"large":          {"index.json", strings.Repeat(" ", maxIndex+1), "larger than"},
		"another layout": {"oci-layout", `{"imageLayoutVersion":"9"}`, "version 1.0.0"},
		"no oci-layout":  {"oci-layout", "", "not an OCI image layout"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := &testLayout{t: t, dir: filepath.Join(t.TempDir(), "l")}
			if err := os.CopyFS(l.dir, os.DirFS(strings.TrimPrefix(ref, "oci:"))); err != nil {
				t.Fatal(err)
			}
			if tt.content == "" {
				os.Remove(filepath.Join(l.dir, tt.name))
			} else {
				l.write(tt.name, []byte(tt.content))
			}
			if _, err := newStore(t).Ensure(t.Context(), "oci:"+l.dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestEnsureRoot(t *testing.T) {
	for _, name := range []string{"dev", "proc", "tmp", "workspace"} {
		for how, layer := range map[string][]byte{
			"link": archive(t, link(name, "/etc")), "file": archive(t, file(name, "x")),
		} {
			t.Run(name+" as a "+how, func(t *testing.T) {
				l := newLayout(t)
				s := newStore(t)
				_, err := s.Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t), layer}})))
				if err == nil || !strings.Contains(err.Error(), "/"+name+" ") || !strings.Contains(err.Error(), how) {
					t.Errorf("got %v", err)
				}
				checkClean(t, s, 0)
			})
		}
	}
}

func TestFindPython(t *testing.T) {
	exe := func(name string) []byte { return archive(t, fileMode(name, 0o755)) }
	links := func(kv ...string) []byte {
		b := []byte{}
		for i := 0; i < len(kv); i += 2 {
			one := archive(t, link(kv[i], kv[i+1]))
			b = append(b, one[:512]...)
		}
		return append(b, make([]byte, 1024)...)
	}
	tests := map[string]struct {
		layers [][]byte
		path   string
		want   string
	}{
		"in the usual directories":       {[][]byte{exe("usr/local/bin/python3.14"), links("usr/local/bin/python3", "python3.14")}, "", "/usr/local/bin/python3"},
		"first on PATH":                  {[][]byte{exe("usr/bin/python3"), exe("opt/venv/bin/python3")}, "/opt/venv/bin:/usr/bin", "/opt/venv/bin/python3"},
		"the newest python3.x":           {[][]byte{exe("usr/bin/python3.9"), exe("usr/bin/python3.12"), exe("usr/bin/python3.12-config")}, "", "/usr/bin/python3.12"},
		"not on PATH, but usual":         {[][]byte{exe("usr/bin/python3.9")}, "/nothing", "/usr/bin/python3.9"},
		"a relative PATH":                {[][]byte{exe("usr/bin/python3.9"), exe("x/python3")}, "x::/usr/bin", "/usr/bin/python3.9"},
		"absolute links, in the root":    {[][]byte{exe("opt/py/python3.11"), links("usr/bin/python3", "/etc/alternatives/python3", "etc/alternatives/python3", "/opt/py/python3.11")}, "", "/usr/bin/python3"},
		"a linked directory":             {[][]byte{exe("usr/bin/python3.11"), links("bin", "usr/bin", "usr/bin/python3", "python3.11")}, "/bin", "/bin/python3"},
		"python3 too old, another newer": {[][]byte{exe("usr/bin/python3.6"), links("usr/bin/python3", "python3.6"), exe("usr/bin/python3.11")}, "", "/usr/bin/python3.11"},
		"plain name, new library":        {[][]byte{exe("usr/bin/python3"), archive(t, file("usr/lib/python3.10/os.py", ""))}, "", "/usr/bin/python3"},
		"plain name, old library":        {[][]byte{exe("usr/bin/python3"), archive(t, file("usr/lib/python3.8/os.py", ""))}, "", ""},
		"too old":                        {[][]byte{exe("usr/bin/python3.8")}, "", ""},
		"Python 2":                       {[][]byte{exe("usr/bin/python2.7"), exe("usr/bin/python")}, "", ""},
		"not executable":                 {[][]byte{archive(t, file("usr/bin/python3", "x"))}, "", ""},
		"a directory":                    {[][]byte{archive(t, folder("usr/bin/python3", 0o755))}, "", ""},
		"dangling":                       {[][]byte{links("usr/bin/python3", "/usr/bin/python3.12")}, "", ""},
		"a loop":                         {[][]byte{links("usr/bin/python3", "python3")}, "", ""},
		"out of the root":                {[][]byte{links("usr/bin/python3", strings.Repeat("../", 20)+"bin/sh")}, "", ""},
		"nothing":                        {nil, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			im := testImage{layers: tt.layers}
			if tt.path != "" {
				im.env = []string{"PATH=" + tt.path}
			}
			s := newStore(t)
			tree, err := s.Ensure(t.Context(), l.index(l.image(im)))
			if tt.want == "" {
				if !errors.Is(err, ErrNoPython) {
					t.Errorf("got %q %v, want ErrNoPython", tree.Python, err)
				}
				checkClean(t, s, 0)
				return
			}
			if err != nil || tree.Python != tt.want {
				t.Errorf("got %q %v, want %q", tree.Python, err, tt.want)
			}
		})
	}
}

func TestEnsureBoundsEnv(t *testing.T) {
	l := newLayout(t)
	many := make([]string, maxEnv+1)
	for i := range many {
		many[i] = "K" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + strings.Repeat("y", i/50) + "=1"
	}
	for name, env := range map[string][]string{"bytes": {"A=" + strings.Repeat("x", maxEnvBytes)}, "variables": many} {
		_, err := newStore(t).Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t)}, env: env})))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnsureCancelled(t *testing.T) {
	l := newLayout(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newStore(t).Ensure(ctx, l.index(l.image(testImage{layers: [][]byte{python(t)}}))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestEnsureDamagedEntry: an entry whose record cannot be read is made again.
func TestEnsureDamagedEntry(t *testing.T) {
	l := newLayout(t)
	ref := l.index(l.image(testImage{layers: [][]byte{python(t)}}))
	s := newStore(t)
	tree, err := s.Ensure(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(tree.Path), completeFn), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := s.Ensure(t.Context(), ref)
	if diff := cmp.Diff(tree, again); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	checkClean(t, s, 1)
}

func TestEnsureOpenCache(t *testing.T) {
	l := newLayout(t)
	s := newStore(t)
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := s.Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t)}})))
	if err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkEnsureWarm(b *testing.B) {
	l := newLayout(b)
	refs := map[string]string{"oci": l.index(l.image(testImage{layers: [][]byte{archive(b, fileMode("usr/bin/python3.12", 0o755))}})), "host": "host"}
	for name, ref := range refs {
		b.Run(name, func(b *testing.B) {
			s := newStore(b)
			if _, err := s.Ensure(b.Context(), ref); err != nil {
				b.Skip(err)
			}
			for b.Loop() {
				if _, err := s.Ensure(b.Context(), ref); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
