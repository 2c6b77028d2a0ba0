package rootfs

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// umoci unpacks the image with the tag "x" of a layout, and returns its root.
func umoci(t *testing.T, layout string) (root string, err error) {
	t.Helper()
	exe, err := exec.LookPath("umoci")
	if err != nil {
		skip(t, "needs umoci (hack/setup test)")
	}
	root = newRoot(t)
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	args := []string{"raw", "unpack", "--image", layout + ":x", root}
	if os.Geteuid() != 0 {
		args = append([]string{"raw", "unpack", "--rootless"}, args[2:]...)
	}
	out, err := exec.CommandContext(t.Context(), exe, args...).CombinedOutput()
	if err != nil {
		t.Logf("umoci: %v: %s", err, out)
	}
	return root, err
}

// asOurs takes from an image's tree what ours do without: devices and FIFOs, setuid and setgid, and modes that keep the
// owner from removing it.
func asOurs(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mode := fi.Mode() &^ (fs.ModeSetuid | fs.ModeSetgid)
		switch {
		case mode.IsDir():
			return os.Chmod(p, mode|0o700)
		case mode.IsRegular():
			if err := os.Chmod(p, mode&^fs.ModeSticky|0o600); err != nil {
				return err
			}
			return os.Chtimes(p, fi.ModTime(), fi.ModTime())
		case mode.Type() == fs.ModeSymlink:
			return nil
		}
		return os.Remove(p)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnpackAsUmoci makes random images, and compares the trees with those of umoci, a program of others.
func TestUnpackAsUmoci(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a user's umoci cannot enter directories of modes that it has set")
	}
	compared := 0
	for seed := range seeds() {
		layers, said := randomLayers(t, 2000+seed, true)
		if layers == nil {
			continue
		}
		l := newLayout(t)
		l.index(l.image(testImage{layers: layers, tag: "x", compress: "gzip"}))
		theirs, err := umoci(t, l.dir)
		if err != nil {
			continue // it refuses more: files below what is none of its directories
		}
		compared++
		asOurs(t, theirs)
		j := newJob(t, layers)
		if _, err := j.run(t.Context(), feedLayers(t, layers, 2), false); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		if diff := cmp.Diff(listing(t, theirs), listing(t, j.Root)); diff != "" {
			t.Errorf("(-umoci +ours)\n%s\n%s", diff, said)
		}
	}
	t.Logf("%d images were compared", compared)
	if compared < int(seeds())/2 {
		t.Errorf("only %d images were compared", compared)
	}
}

// TestUnpackAsUmociReal compares the trees of a real image: Debian's Python.
func TestUnpackAsUmociReal(t *testing.T) {
	dir := "../.cache/python-image" // hack/python-image
	desc, err := resolveLayout(dir, "")
	if err != nil {
		skip(t, "needs the image of hack/setup test: "+err.Error())
	}
	b, err := readBounded(layoutBlob(dir, desc.Digest), maxManifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	var plain, packed [][]byte
	for _, d := range m.Layers {
		b, err := readBounded(layoutBlob(dir, d.Digest), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		packed = append(packed, b)
		r, err := newLayerReader(bytes.NewReader(b), jobLayer{Algorithm: digest.SHA256}, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		r.close()
		plain = append(plain, b) // Debian's umoci knows no zstd
	}
	l := newLayout(t)
	l.index(l.image(testImage{layers: plain, tag: "x"}))
	theirs, err := umoci(t, l.dir)
	if err != nil {
		t.Fatal(err)
	}
	asOurs(t, theirs)
	j := newJob(t, packed)
	if _, err := j.run(t.Context(), feedLayers(t, packed, 1), false); err != nil {
		t.Fatal(err)
	}
	want, got := listing(t, theirs), listing(t, j.Root)
	if len(want) < 1000 {
		t.Errorf("umoci made %d files", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-umoci +ours)\n%s", diff)
	}
}
