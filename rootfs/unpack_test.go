package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpackers are the two ways a path is resolved.
var unpackers = map[string]bool{"openat2": false, "securejoin": true}

// apply unpacks the tar stream r as the layer that has begun.
func (t *tree) apply(ctx context.Context, r io.Reader) error {
	w := newFileWriter(false)
	defer w.close()
	err := eachItem(ctx, r, t.quota, w, func(it item) error {
		return t.add(it, func(parent *dir, name string) error {
			return t.put(parent, name, func() error { return w.create(parent, name, it) })
		})
	})
	if werr := w.flush(); werr != nil {
		err = werr
	}
	return err
}

// applyAll applies layers one after the other.
func applyAll(t testing.TB, root string, noOpenat2 bool, layers ...[]byte) error {
	t.Helper()
	tr, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	tr.noOpenat2 = noOpenat2
	var b budget
	for i, l := range layers {
		tr.begin(newQuota(&b, int64(len(l))), i > 0)
		if err := tr.apply(context.Background(), bytes.NewReader(l)); err != nil {
			return err
		}
	}
	return nil
}

// newRoot makes an empty directory "root" that is alone in its parent; in memory, where there is such a place, because
// there are many.
func newRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rootfs-test-")
	if err != nil {
		dir = t.TempDir()
	} else {
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestApply has what the random layers leave to chance, and what differs from umoci on purpose.
func TestApply(t *testing.T) {
	tests := map[string]struct {
		layers [][]tar.Header
		want   map[string]string
	}{
		"modes lose setuid, setgid and sticky; the owner can always write": {
			[][]tar.Header{{fileMode("suid", 0o6755), fileMode("secret", 0o600), fileMode("none", 0), folder("closed", 0o555), folder("sgid", 0o3777)}},
			map[string]string{
				"suid": "-rwxr-xr-x", "secret": "-rw-------", "none": "-rw-------",
				"closed": "drwxr-xr-x", "sgid": "dtrwxrwxrwx",
			},
		},
		"devices and FIFOs are left out, and hide what was there": {
			[][]tar.Header{{file("a", "1"), file("keep", "2")}, {node("a", tar.TypeChar), node("dev/sda", tar.TypeBlock), node("p", tar.TypeFifo)}},
			map[string]string{"dev": "drwxr-xr-x", "keep": "-rw-r--r--"},
		},
		"the root's own mode is not taken": {
			[][]tar.Header{{folder("./", 0), file("./a", "1")}},
			map[string]string{"a": "-rw-r--r--"},
		},
		"a whiteout after the entry of its own layer": {
			[][]tar.Header{{file("d/low", "1"), file("f", "1")}, {file("d/up", "2"), file(".wh.d", ""), file("f", "2"), file(".wh.f", "")}},
			map[string]string{"d": "drwxr-xr-x", "d/up": "-rw-r--r--", "f": "-rw-r--r--"},
		},
		"an opaque directory after its entries": {
			[][]tar.Header{{file("d/low", "1"), file("d/s/low", "1")}, {file("d/s/up", "2"), file("d/.wh..wh..opq", "")}},
			map[string]string{"d": "drwxr-xr-x", "d/s": "drwxr-xr-x", "d/s/up": "-rw-r--r--"},
		},
		"a whiteout through a link": {
			[][]tar.Header{{file("usr/lib/x", "1"), link("lib", "/usr/lib")}, {file("lib/.wh.x", "")}},
			map[string]string{"usr": "drwxr-xr-x", "usr/lib": "drwxr-xr-x", "lib": "-> /usr/lib"},
		},
		"AUFS's bookkeeping": {
			[][]tar.Header{{folder(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/1.2", ""), file(".wh..wh.aufs", ""), file("a", "1")}},
			map[string]string{"a": "-rw-r--r--"},
		},
		"a dangling link on the way is followed inside": {
			[][]tar.Header{{link("run", "/var/run")}, {file("run/x", "1")}},
			map[string]string{"run": "-> /var/run", "var": "drwxr-xr-x", "var/run": "drwxr-xr-x", "var/run/x": "-rw-r--r--"},
		},
		"a link to itself changes nothing": {
			[][]tar.Header{{file("a", "1"), hard("a", "a"), hard("./a", "/a")}},
			map[string]string{"a": "-rw-r--r--"},
		},
	}
	for name, tt := range tests {
		for how, slow := range unpackers {
			t.Run(name+"/"+how, func(t *testing.T) {
				root := newRoot(t)
				var layers [][]byte
				for _, l := range tt.layers {
					layers = append(layers, archive(t, l...))
				}
				if err := applyAll(t, root, slow, layers...); err != nil {
					t.Fatal(err)
				}
				got := listing(t, root)
				for k, v := range got {
					if !strings.HasPrefix(v, "->") {
						got[k], _, _ = strings.Cut(v, " ")
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

// A hostile image wants out, or wants too much.
type hostile struct {
	layers  [][]byte
	entries int    // already there
	err     string // "": the tree is made, and nothing is outside
}

// hostiles are such images; outside is where they want to.
func hostiles(t testing.TB, outside string) map[string]hostile {
	t.Helper()
	up := strings.Repeat("../", 30)
	out := strings.TrimPrefix(outside, "/")
	many := make([]tar.Header, 30)
	for i := range many {
		many[i] = file(fmt.Sprint("f", i), "")
	}
	var chain []tar.Header // every link makes the next directory deeper than its own name is
	for i := range 5 {
		deep := strings.Repeat("d/", maxDepth/2)
		prefix := ""
		if i > 0 {
			prefix = fmt.Sprintf("l%d/", i-1)
		}
		chain = append(chain, folder(prefix+deep, 0o755), link(fmt.Sprint("l", i), prefix+deep))
	}

	return map[string]hostile{
		"a name with ..":                       {[][]byte{archive(t, file(up+out+"/pwn", "x"))}, 0, `".."`},
		"a name with .. inside":                {[][]byte{archive(t, folder("a", 0o755), file("a/../../pwn", "x"))}, 0, `".."`},
		"an absolute name":                     {[][]byte{archive(t, file(outside+"/pwn", "x"))}, 0, ""},
		"a file through an absolute link":      {[][]byte{archive(t, link("l", outside), file("l/pwn", "x"))}, 0, ""},
		"a file through a relative link":       {[][]byte{archive(t, link("l", up+out), file("l/pwn", "x"))}, 0, ""},
		"a file over an absolute link":         {[][]byte{archive(t, link("l", outside+"/canary"), file("l", "x"))}, 0, ""},
		"a link chain":                         {[][]byte{archive(t, link("a", "/"), link("b", "a/.."), link("c", "b/../"+up+out), file("c/pwn", "x"))}, 0, ""},
		"across layers":                        {[][]byte{archive(t, link("l", outside)), archive(t, file("l/pwn", "x"), file("l/.wh.canary", ""))}, 0, ""},
		"a directory through a link":           {[][]byte{archive(t, link("l", outside), folder("l/d", 0o777))}, 0, ""},
		"a directory over a link":              {[][]byte{archive(t, link("l", outside), folder("l", 0o777), file("l/pwn", "x"))}, 0, ""},
		"a link through proc":                  {[][]byte{archive(t, link("l", "/proc/self/root"+outside), file("l/pwn", "x"))}, 0, ""},
		"a link loop":                          {[][]byte{archive(t, link("a", "b"), link("b", "a"), file("a/pwn", "x"))}, 0, "symbolic links"},
		"a hard link out, absolute":            {[][]byte{archive(t, hard("h", outside+"/canary"))}, 0, "no such file"},
		"a hard link out, relative":            {[][]byte{archive(t, hard("h", up+out+"/canary"))}, 0, `".."`},
		"a hard link out through a link":       {[][]byte{archive(t, link("l", outside), hard("h", "l/canary"))}, 0, "no such file"},
		"a hard link to a link, then a file":   {[][]byte{archive(t, link("l", outside+"/canary"), hard("h", "l"), file("h", "x"))}, 0, ""},
		"a hard link to a directory":           {[][]byte{archive(t, folder("d", 0o755), hard("h", "d"))}, 0, "is a directory"},
		"a hard link to the root":              {[][]byte{archive(t, hard("h", "/"))}, 0, "root directory"},
		"a hard link to nothing":               {[][]byte{archive(t, hard("h", "nothing"))}, 0, `"nothing"`},
		"a whiteout of its directory":          {[][]byte{nil, archive(t, file("a/.wh..", ""))}, 0, "whiteout"},
		"a whiteout of its parent":             {[][]byte{nil, archive(t, file("a/.wh...", ""))}, 0, "whiteout"},
		"a whiteout of nothing":                {[][]byte{nil, archive(t, file("a/.wh.", ""))}, 0, "whiteout"},
		"a whiteout of the first layer's root": {[][]byte{archive(t, file(".wh...", ""))}, 0, "whiteout"},
		"a whiteout through a link":            {[][]byte{archive(t, link("l", outside)), archive(t, file("l/.wh.canary", ""))}, 0, ""},
		"an opaque link":                       {[][]byte{archive(t, link("l", outside)), archive(t, file("l/.wh..wh..opq", ""))}, 0, ""},
		"a whiteout of a link":                 {[][]byte{archive(t, link("l", outside)), archive(t, file(".wh.l", ""))}, 0, ""},
		"a file below a whiteout":              {[][]byte{archive(t, file(".wh.d/f", "x"))}, 0, "is a whiteout"},
		"a link as the root":                   {[][]byte{archive(t, link("./", outside), file("pwn", "x"))}, 0, "root directory"},
		"a file as the root":                   {[][]byte{archive(t, file(".", "x"))}, 0, "root directory"},
		"an unknown type":                      {[][]byte{archive(t, node("x", 'Z'))}, 0, "unknown"},
		"a link to nothing at all":             {[][]byte{append(rawHeader("l", tar.TypeSymlink, 0), make([]byte, 1024)...)}, 0, "symbolic link"},
		"a long name":                          {[][]byte{archive(t, file(strings.Repeat("n", 256), "x"))}, 0, "255"},
		"a long path":                          {[][]byte{archive(t, file(strings.Repeat("a/", 2100)+"x", "x"))}, 0, "4095"},
		"a deep path":                          {[][]byte{archive(t, file(strings.Repeat("a/", maxDepth+5)+"x", "x"))}, 0, "deep"},
		"a path that links make deep":          {[][]byte{archive(t, chain...)}, 0, "deep"},
		"the same name a hundred times":        {[][]byte{archive(t, file("f", "1"), folder("f", 0o755), file("f/x", "1"), link("f", outside), file("f", "2"), folder("f", 0o755), link("f/x", outside), file("f/x/pwn", "3"))}, 0, ""},
		"a million entries":                    {[][]byte{archive(t, many...)}, maxEntries - 10, "1000000 entries"},
		"implied directories count":            {[][]byte{archive(t, file("a/b/c/d/e/f/g/h/i/j/k/l", "x"))}, maxEntries - 10, "1000000 entries"},
		"a terabyte declared":                  {[][]byte{append(rawHeader("f", '0', 1<<32), make([]byte, 1024)...)}, 0, "bytes of content"},
		"a sparse terabyte":                    {[][]byte{sparseBomb("f", 1<<40)}, 0, "bytes of content"},
		"a sparse gigabyte":                    {[][]byte{sparseBomb("f", 1<<30)}, 0, "bytes of content"},
		"cut in a file":                        {[][]byte{archive(t, file("f", strings.Repeat("x", 5000)))[:2000]}, 0, "unexpected EOF"},
		"cut in a header":                      {[][]byte{archive(t, file("f", "x"))[:300]}, 0, "unexpected EOF"},
		"no archive":                           {[][]byte{bytes.Repeat([]byte("no tar "), 500)}, 0, "invalid tar header"},
		"a NUL in a PAX name":                  {[][]byte{paxName("a\x00b")}, 0, "invalid tar header"},
	}
}

// newOutside makes a directory with a canary, and alive says if it is as it was.
func newOutside(t testing.TB) (dir string, alive func(t testing.TB)) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "canary"), []byte("alive"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, func(t testing.TB) {
		t.Helper()
		if diff := cmp.Diff([]string{"canary"}, names(t, dir)); diff != "" {
			t.Errorf("outside: %s", diff)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "canary")); string(b) != "alive" {
			t.Errorf("the canary: %q %v", b, err)
		}
	}
}

// TestApplyHostile has them one layer after the other, and with all but the first staged.
func TestApplyHostile(t *testing.T) {
	outside, alive := newOutside(t)
	for name, tt := range hostiles(t, outside) {
		check := func(t *testing.T, root string, err error) {
			t.Helper()
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("got the error %q", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got the error %v, want one with %q", err, tt.err)
			}
			if diff := cmp.Diff([]string{"root"}, names(t, filepath.Dir(root))); diff != "" {
				t.Errorf("beside the root: %s", diff)
			}
			alive(t)
			if err := os.RemoveAll(root); err != nil {
				t.Errorf("the tree cannot be removed: %v", err)
			}
		}
		for how, slow := range unpackers {
			t.Run(name+"/"+how, func(t *testing.T) {
				root := newRoot(t)
				tr, err := openTree(root)
				if err != nil {
					t.Fatal(err)
				}
				defer tr.close()
				tr.noOpenat2 = slow
				var b budget
				b.entries.Store(int64(tt.entries))
				for i, l := range tt.layers {
					tr.begin(newQuota(&b, int64(len(l))), i > 0)
					if err = tr.apply(context.Background(), bytes.NewReader(l)); err != nil {
						break
					}
				}
				check(t, root, err)
			})
		}
		if tt.entries > 0 {
			continue
		}
		t.Run(name+"/staged", func(t *testing.T) {
			layers := append([][]byte{archive(t, folder("first", 0o755))}, tt.layers...)
			if tt.layers[0] == nil {
				layers = tt.layers
			}
			j := newJob(t, layers)
			_, err := j.run(t.Context(), feedLayers(t, layers, 1), false)
			check(t, j.Root, err)
			if err := os.RemoveAll(j.Scratch); err != nil {
				t.Error(err)
			}
		})
	}
}

// paxName is a file whose name stands in a PAX record, with whatever bytes.
func paxName(name string) []byte {
	record := " path=" + name + "\n"
	record = fmt.Sprint(len(record)+2) + record
	b := append(rawHeader("pax", 'x', int64(len(record))), record...)
	b = append(b, make([]byte, -len(record)&511)...)
	b = append(b, rawHeader("f", '0', 0)...)
	return append(b, make([]byte, 1024)...)
}

func TestCleanPath(t *testing.T) {
	for name, want := range map[string]string{
		"": "", ".": "", "/": "", "./": "", "a": "a", "/a//b/./c/": "a/b/c", "..a": "..a", "a..": "a..", "...": "...",
	} {
		if got, err := cleanPath(name); got != want || err != nil {
			t.Errorf("cleanPath(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"..", "a/..", "../a", "a\x00b"} {
		if got, err := cleanPath(name); err == nil {
			t.Errorf("cleanPath(%q) = %q, want an error", name, got)
		}
	}
}

func TestApplyCancelled(t *testing.T) {
	tr, err := openTree(newRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tr.apply(ctx, bytes.NewReader(archive(t, file("a", "1")))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	ds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ns := []string{}
	for _, d := range ds {
		ns = append(ns, d.Name())
	}
	return ns
}
