package rootfs

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var testTime = time.Unix(1_700_000_000, 0)

func file(name, body string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), PAXRecords: map[string]string{"TEST.body": body}}
}

func fileMode(name string, mode int64) tar.Header {
	h := file(name, "x")
	h.Mode = mode
	return h
}

func folder(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}
}

func node(name string, typ byte) tar.Header {
	return tar.Header{Typeflag: typ, Name: name, Mode: 0o666, Devmajor: 1, Devminor: 3}
}

// archive makes a tar archive; a file's body stands in its header, see file.
func archive(t testing.TB, hdrs ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hdrs {
		body := h.PAXRecords["TEST.body"]
		h.PAXRecords = nil
		if h.ModTime.IsZero() {
			h.ModTime = testTime
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("header %q: %v", h.Name, err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rawHeader is for what archive/tar does not write.
func rawHeader(name string, typ byte, size int64) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        ", size, 0))
	b[156] = typ
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// sparseBomb declares a file of size bytes that consists of one hole.
func sparseBomb(name string, size int64) []byte {
	var records string
	for _, kv := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=" + name, fmt.Sprintf("GNU.sparse.realsize=%d", size)} {
		n := len(kv) + 3
		for len(fmt.Sprintf("%d %s\n", n, kv)) != n {
			n++
		}
		records += fmt.Sprintf("%d %s\n", n, kv)
	}
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&511) }
	holes := fmt.Sprintf("1\n%d\n0\n", size)
	out := rawHeader("pax", 'x', int64(len(records)))
	out = append(out, pad(records)...)
	out = append(out, rawHeader("sparse", '0', 512)...)
	out = append(out, pad(holes)...)
	return append(out, make([]byte, 1024)...)
}

func compress(t testing.TB, with string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	switch with {
	case "":
		return b
	case "gzip":
		w := gzip.NewWriter(&out)
		w.Write(b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	case "zstd":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// A testLayout is an OCI layout on disk that a test fills.
type testLayout struct {
	t   testing.TB
	dir string
}

func newLayout(t testing.TB) *testLayout {
	t.Helper()
	l := &testLayout{t: t, dir: filepath.Join(t.TempDir(), "layout")}
	l.write(ispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return l
}

func (l *testLayout) write(name string, b []byte) {
	l.t.Helper()
	p := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLayout) blobPath(d digest.Digest) string { return layoutBlob(l.dir, d) }

// manifest reads one that image has made.
func (l *testLayout) manifest(t testing.TB, d ispec.Descriptor) ispec.Manifest {
	t.Helper()
	b, err := os.ReadFile(l.blobPath(d.Digest))
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (l *testLayout) blob(mediaType string, b []byte) ispec.Descriptor {
	l.t.Helper()
	d := digest.FromBytes(b)
	l.write(filepath.Join("blobs/sha256", d.Encoded()), b)
	return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (l *testLayout) json(mediaType string, v any) ispec.Descriptor {
	l.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, b)
}

// A testImage is what an image of a testLayout is made from.
type testImage struct {
	layers   [][]byte // uncompressed
	compress string
	env      []string
	arch     string
	tag      string
	edit     func(*ispec.Manifest, *ispec.Image)
}

func (l *testLayout) image(im testImage) ispec.Descriptor {
	l.t.Helper()
	var m ispec.Manifest
	var c ispec.Image
	suffix := ""
	if im.compress != "" {
		suffix = "+" + im.compress
	}
	if im.arch == "" {
		im.arch = runtime.GOARCH
	}
	c.Architecture, c.OS, c.Config.Env, c.RootFS.Type = im.arch, "linux", im.env, "layers"
	for _, b := range im.layers {
		m.Layers = append(m.Layers, l.blob(ispec.MediaTypeImageLayer+suffix, compress(l.t, im.compress, b)))
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(b))
	}
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ispec.MediaTypeImageManifest
	if im.edit != nil {
		im.edit(&m, &c)
	}
	if m.Config.MediaType == "" {
		m.Config.MediaType = ispec.MediaTypeImageConfig
	}
	m.Config = l.json(m.Config.MediaType, c)
	d := l.json(m.MediaType, m)
	if im.tag != "" {
		d.Annotations = map[string]string{ispec.AnnotationRefName: im.tag}
	}
	d.Platform = &ispec.Platform{OS: "linux", Architecture: im.arch}
	return d
}

func (l *testLayout) nested(ds ...ispec.Descriptor) ispec.Descriptor {
	l.t.Helper()
	return l.json(ispec.MediaTypeImageIndex, ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: ds})
}

// index writes index.json and returns the reference to the layout.
func (l *testLayout) index(ds ...ispec.Descriptor) string {
	l.t.Helper()
	b, err := json.Marshal(ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: ds})
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(ispec.ImageIndexFile, b)
	return "oci:" + l.dir
}

// python is a layer with what findPython wants.
func python(t testing.TB) []byte {
	t.Helper()
	exe := fileMode("usr/bin/python3.12", 0o755)
	return archive(t, folder("usr/bin", 0o755), exe, link("usr/bin/python3", "python3.12"))
}

// listing describes a tree: type, mode, content, and which names are one file.
func listing(t testing.TB, root string) map[string]string {
	t.Helper()
	first := map[uint64]string{}
	got := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(p, root+"/")
		s := fi.Mode().String()
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			s = "-> " + target
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %.40q %d", b, fi.ModTime().Unix())
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && !d.IsDir() && st.Nlink > 1 {
			if f, ok := first[st.Ino]; ok {
				s += " = " + f
			} else {
				first[st.Ino] = rel
			}
		}
		got[rel] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func writeTestFile(path, body string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(body), 0o644)
}
