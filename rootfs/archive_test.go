package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tarred is a layout as an archive would have it, in the order of its names.
func (l *testLayout) tarred() (hdrs []tar.Header) {
	l.t.Helper()
	err := filepath.WalkDir(l.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		hdrs = append(hdrs, file(strings.TrimPrefix(p, l.dir+"/"), string(b)))
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return hdrs
}

func writeArchive(t *testing.T, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// rawArchive is archive for binary contents, which PAX records do not hold.
func rawArchive(t *testing.T, hdrs []tar.Header) []byte {
	t.Helper()
	for i := range hdrs {
		hdrs[i].Format = tar.FormatUSTAR
	}
	return archive(t, hdrs...)
}

func TestEnsureArchive(t *testing.T) {
	l := newLayout(t)
	one := l.image(testImage{compress: "gzip", layers: [][]byte{python(t)}, env: []string{"X=1"}, tag: "r.io/a:1"})
	two := l.image(testImage{compress: "zstd", layers: [][]byte{python(t)}, env: []string{"X=2"}})
	other := l.image(testImage{layers: [][]byte{python(t)}, env: []string{"X=3"}, arch: "s390x"})
	index := l.nested(other, two)
	index.Annotations = map[string]string{ispec.AnnotationRefName: "two"}
	l.index(one, index)
	s := newStore(t)
	good := rawArchive(t, l.tarred())
	file := writeArchive(t, good)
	for tag, want := range map[string]string{":r.io/a:1": "X=1", ":two": "X=2"} {
		for range 2 {
			if tree, err := s.Ensure(t.Context(), "oci-archive:"+file+tag); err != nil || tree.Env[0] != want {
				t.Errorf("%s: %v, %v", tag, tree, err)
			}
		}
	}
	checkClean(t, s, 2)
	_, err := s.Ensure(t.Context(), "oci-archive:"+file)
	wantError(t, err, "name one as oci-archive:FILE:TAG: it has r.io/a:1, two")
	_, err = s.Ensure(t.Context(), "oci-archive:"+file+":x")
	wantError(t, err, `no image has the tag "x": it has`)

	// The same layout as an archive is the same image.
	if a, err := s.Ensure(t.Context(), "oci:"+l.dir+":two"); err != nil || a.Digest != two.Digest.String() {
		t.Errorf("%v, %v", a, err)
	}
	checkClean(t, s, 2)
}

// TestEnsureArchiveDamaged has archives that are not what they should be. Nothing is written but below the cache.
func TestEnsureArchiveDamaged(t *testing.T) {
	sparse := func(t *testing.T, name string) []byte { t.Helper(); return sparseBomb(name, 1<<40)[:3*512+512] }
	outside := filepath.Join(t.TempDir(), "outside")
	for name, tt := range map[string]struct {
		make func(t *testing.T, l *testLayout, hdrs []tar.Header) []byte
		want string
	}{
		"nothing": {func(*testing.T, *testLayout, []tar.Header) []byte { return nil }, "no OCI archive: oci-layout: it is missing"},
		"no tar":  {func(*testing.T, *testLayout, []tar.Header) []byte { return bytes.Repeat([]byte("x"), 2000) }, "no tar archive"},
		"gzip": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return compress(t, "gzip", rawArchive(t, hdrs))
		}, "compressed with gzip: decompress it first"},
		"cut short in a header": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, hdrs)[:700]
		}, "cut short"},
		"cut short in a blob": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			b := rawArchive(t, hdrs[:1])
			return b[:512+int(hdrs[0].Size)/2]
		}, "cut short"},
		"no index": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, slices.DeleteFunc(hdrs, func(h tar.Header) bool { return h.Name == "index.json" }))
		}, "index.json: it is missing"},
		"two indexes": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append(hdrs, file("./index.json", "{}")))
		}, `it has "index.json" twice`},
		"a link and something through it": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append([]tar.Header{link("x", filepath.Dir(outside)), file("x/outside", "pwned")}, hdrs...))
		}, ""},
		"names outside": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append([]tar.Header{file("../../../../../.."+outside, "pwned"), file(outside, "pwned"), file("blobs/../../../x", "pwned")}, hdrs...))
		}, ""},
		"devices that nobody wants": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append([]tar.Header{node("dev", tar.TypeChar), node("fifo", tar.TypeFifo)}, hdrs...))
		}, ""},
		"a blob is a link": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append(hdrs, link("blobs/sha256/x", "/etc/passwd")))
		}, "not a regular file"},
		"the index is a hard link": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append([]tar.Header{hard("index.json", "/etc/passwd")}, hdrs...))
		}, "twice"},
		"a blob is a device": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, append(hdrs, node("blobs/sha256/x", tar.TypeChar)))
		}, "not a regular file"},
		"a sparse blob": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return append(sparse(t, "blobs/sha256/x"), rawArchive(t, hdrs)...)
		}, "is sparse"},
		"a huge index": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			for i, h := range hdrs {
				if h.Name == "index.json" {
					hdrs[i] = file(h.Name, strings.Repeat(" ", maxIndex+1))
				}
			}
			return rawArchive(t, hdrs)
		}, "larger than"},
		"a flipped blob": {func(t *testing.T, l *testLayout, hdrs []tar.Header) []byte {
			b := rawArchive(t, hdrs)
			i := bytes.Index(b, []byte(`"architecture"`))
			b[i+1] = 'A'
			return b
		}, "has the digest"},
		"a missing blob": {func(t *testing.T, _ *testLayout, hdrs []tar.Header) []byte {
			return rawArchive(t, slices.DeleteFunc(hdrs, func(h tar.Header) bool {
				return strings.Contains(h.PAXRecords["TEST.body"], `"architecture":"`+runtime.GOARCH+`","config"`) || strings.Contains(h.PAXRecords["TEST.body"], `"rootfs"`)
			}))
		}, "missing in the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			l.index(l.image(testImage{layers: [][]byte{python(t)}}))
			s := newStore(t)
			_, err := s.Ensure(t.Context(), "oci-archive:"+writeArchive(t, tt.make(t, l, l.tarred())))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				checkClean(t, s, 1)
			} else {
				wantError(t, err, "cannot u", tt.want)
				checkClean(t, s, 0)
			}
			if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
				t.Error("something was written outside")
			}
		})
	}
	t.Run("too many members", func(t *testing.T) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for range maxMembers + 1 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := newStore(t).Ensure(t.Context(), "oci-archive:"+writeArchive(t, b.Bytes()))
		wantError(t, err, "more than 100000 members")
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := openArchive(ctx, writeArchive(t, rawArchive(t, newLayout(t).tarred())), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// dockerSaved makes what docker save makes: names are those of manifest.json's only image.
func dockerSaved(t *testing.T, names []string, edit func(m map[string]any, hdrs []tar.Header) []tar.Header, layers ...[]byte) string {
	t.Helper()
	config := ispec.Image{Platform: ispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	config.Config.Env = []string{"X=saved"}
	var hdrs []tar.Header
	var files []string
	for i, l := range layers {
		name := digest.FromBytes(l).Encoded() + "/layer.tar"
		plain := l
		if i == 0 && compression(l) != "" {
			plain = python(t)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(plain))
		hdrs, files = append(hdrs, file(name, string(l))), append(files, name)
	}
	c, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{"Config": "config.json", "RepoTags": names, "Layers": files}
	hdrs = append(hdrs, file("config.json", string(c)))
	if edit != nil {
		hdrs = edit(m, hdrs)
	}
	b, err := json.Marshal([]any{m})
	if err != nil {
		t.Fatal(err)
	}
	return writeArchive(t, rawArchive(t, append(hdrs, file("manifest.json", string(b)))))
}

func TestEnsureDockerArchive(t *testing.T) {
	etc := archive(t, file("etc/motd", "hello"))
	for name, tt := range map[string]struct {
		ref    string
		layers [][]byte
		edit   func(m map[string]any, hdrs []tar.Header) []tar.Header
		want   string // part of an error
	}{
		"the only one":     {"", [][]byte{python(t), etc}, nil, ""},
		"by name":          {":a:1", [][]byte{python(t), etc}, nil, ""},
		"by its full name": {":docker.io/library/a:1", [][]byte{python(t), etc}, nil, ""},
		"another name":     {":a:2", [][]byte{python(t), etc}, nil, `no image has the name "a:2": it has a:1`},
		"no name":          {":A", [][]byte{python(t), etc}, nil, "is no name of an image"},
		"compressed":       {"", [][]byte{compress(t, "gzip", python(t)), etc}, nil, ""},
		"a layer is a link": {"", [][]byte{python(t), etc}, func(m map[string]any, hdrs []tar.Header) []tar.Header {
			first := hdrs[0].Name
			m["Layers"] = []string{"other/layer.tar", m["Layers"].([]string)[1]}
			return append(hdrs, link("other/layer.tar", "../"+first))
		}, ""},
		"a link outside": {"", [][]byte{python(t)}, func(_ map[string]any, hdrs []tar.Header) []tar.Header {
			hdrs[0] = link(hdrs[0].Name, "../../../../etc/passwd")
			return hdrs
		}, "missing in the archive"},
		"a link to a link": {"", [][]byte{python(t)}, func(_ map[string]any, hdrs []tar.Header) []tar.Header {
			hdrs[0] = link(hdrs[0].Name, "layer.tar")
			return hdrs
		}, "missing in the archive"},
		"no layer": {"", [][]byte{python(t)}, func(_ map[string]any, hdrs []tar.Header) []tar.Header { return hdrs[1:] }, "missing in the archive"},
		"another layer": {"", [][]byte{python(t)}, func(_ map[string]any, hdrs []tar.Header) []tar.Header {
			hdrs[0] = file(hdrs[0].Name, string(etc))
			return hdrs
		}, "digest"},
		"a layer too few": {"", [][]byte{python(t)}, func(m map[string]any, hdrs []tar.Header) []tar.Header {
			m["Layers"] = []string{}
			return hdrs
		}, "lists 0 layers, the config 1"},
		"no config": {"", [][]byte{python(t)}, func(m map[string]any, hdrs []tar.Header) []tar.Header {
			m["Config"] = "../../etc/passwd"
			return hdrs
		}, "missing in the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			ref := "docker-archive:" + dockerSaved(t, []string{"a:1"}, tt.edit, tt.layers...) + tt.ref
			for range 2 {
				tree, err := s.Ensure(t.Context(), ref)
				if tt.want != "" {
					wantError(t, err, tt.want)
				} else if err != nil || tree.Env[0] != "X=saved" {
					t.Errorf("%v, %v", tree, err)
				}
			}
			if tt.want == "" {
				checkClean(t, s, 1)
			} else {
				checkClean(t, s, 0)
			}
		})
	}
	_, err := newStore(t).Ensure(t.Context(), "docker-archive:"+writeArchive(t, archive(t, file("x", "y"))))
	wantError(t, err, "no docker archive: manifest.json: it is missing")
}

func FuzzArchive(f *testing.F) {
	f.Add(archive(f, file("index.json", "{}"), link("blobs/sha256/x", "y"), hard("manifest.json", "z")))
	f.Add(sparseBomb("blobs/sha256/x", 1<<40))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := openArchive(t.Context(), writeArchive(t, b), func(string) bool { return true })
		if err != nil {
			return
		}
		defer a.file.Close()
		for name := range a.members {
			if r, err := a.open(name); err == nil && r.Size() > int64(len(b)) {
				t.Errorf("member %q has %d bytes, the archive %d", name, r.Size(), len(b))
			} else if err == nil {
				if got, err := a.read(name, r.Size()); err != nil || int64(len(got)) != r.Size() {
					t.Errorf("member %q: %d of %d bytes, %v", name, len(got), r.Size(), err)
				}
			}
		}
	})
}
