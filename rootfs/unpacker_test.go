package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// randomLayers makes layers of few names, so that they meet often: files, directories, links (absolute, relative, out of
// the root, through those of lower layers), hard links within and across layers, whiteouts before and after what they
// could hide, opaque directories, devices, files in place of directories and the other way round. Entries that the
// sequential unpacker refuses (a link loop on the way, a hard link to nothing) are left out, and so are the few sets of
// layers that cannot be unpacked without them (what is refused may have removed something before): those are nil. If
// strict, so are entries below something that is no directory.
func randomLayers(t testing.TB, seed uint64, strict bool) (layers [][]byte, said string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 2))
	scratch, err := openTree(newRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.close()
	var all []string
	for n := range 2 + rnd.IntN(4) {
		var hdrs []tar.Header
		scratch.begin(newQuota(&budget{}, 0), n > 0)
		var some []tar.Header
		for range 3 + rnd.IntN(25) {
			h := randomEntry(rnd)
			if rnd.IntN(30) == 0 {
				h = node(h.Name, tar.TypeFifo)
			}
			some = append(some, h)
		}
		if rnd.IntN(3) > 0 { // as tar makes them: each directory before what is in it
			some = some[:rnd.IntN(4)]
			for range 1 + rnd.IntN(2) {
				some = randomDir(rnd, some, randomName(rnd), 0)
			}
		}
		for _, h := range some {
			h.ModTime = testTime.Add(time.Duration(rnd.IntN(1000)) * time.Hour)
			if parent, _ := split(h.Name); strict {
				if _, err := scratch.dir(parent, false); err != nil && !errors.Is(err, unix.ENOENT) {
					continue
				}
			}
			if scratch.apply(t.Context(), bytes.NewReader(archive(t, h))) != nil {
				continue
			}
			hdrs = append(hdrs, h)
			all = append(all, fmt.Sprintf("%d: %c %s -> %s", n, h.Typeflag, h.Name, h.Linkname))
		}
		layers = append(layers, archive(t, hdrs...))
	}
	if err := applyAll(t, newRoot(t), false, layers...); err != nil {
		layers = nil
	}
	return layers, fmt.Sprintf("seed %d:\n%s", seed, strings.Join(all, "\n"))
}

func randomName(rnd *rand.Rand) string {
	parts := make([]string, 1+rnd.IntN(3))
	for i := range parts {
		parts[i] = string(rune('a' + rnd.IntN(4)))
	}
	return strings.Join(parts, "/")
}

// randomDir adds a directory and what is in it to the entries of a layer.
func randomDir(rnd *rand.Rand, to []tar.Header, path string, depth int) []tar.Header {
	to = append(to, folder(path, []int64{0o755, 0o711, 0o700}[rnd.IntN(3)]))
	for range rnd.IntN(5) {
		name := string(rune('a' + rnd.IntN(4)))
		switch h := randomEntry(rnd); rnd.IntN(12) {
		case 0, 1, 2, 3:
			to = append(to, file(path+"/"+name, path))
		case 4:
			to = append(to, link(path+"/"+name, []string{"", "/", "../"}[rnd.IntN(3)]+randomName(rnd)))
		case 5:
			to = append(to, hard(path+"/"+name, path+"/"+string(rune('a'+rnd.IntN(4)))))
		case 6:
			if rnd.IntN(3) == 0 {
				to = append(to, h)
			}
		default:
			if depth < 3 {
				to = randomDir(rnd, to, path+"/"+name, depth+1)
			}
		}
	}
	return to
}

func randomEntry(rnd *rand.Rand) tar.Header {
	name := func() string { return randomName(rnd) }
	switch rnd.IntN(10) {
	case 0, 1, 2:
		return file(name(), name())
	case 3, 4:
		return folder(name(), []int64{0o755, 0o711, 0o700}[rnd.IntN(3)])
	case 5:
		return link(name(), []string{"", "/", "../"}[rnd.IntN(3)]+name())
	case 6:
		return hard(name(), name())
	case 7:
		return file(name()+"/"+whOpaque, "")
	default:
		dir, base := split(name())
		return file(strings.TrimPrefix(dir+"/"+whPrefix+base, "/"), "")
	}
}

// seeds are enough to see what goes wrong in one of some hundred images.
func seeds() uint64 {
	if testing.Short() {
		return 30
	}
	return 150
}

// TestUnpackerAsSequential takes random layers apart and gives their entries to the unpacker in random turns; each
// layer's own order is kept. The tree has to be that of one layer after the other.
func TestUnpackerAsSequential(t *testing.T) {
	staged, switched, moves := 0, 0, 0
	for seed := range seeds() {
		layers, said := randomLayers(t, seed, false)
		if layers == nil {
			continue
		}
		rnd := rand.New(rand.NewPCG(seed, 3))
		want := newRoot(t)
		if err := applyAll(t, want, false, layers...); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		for how, slow := range unpackers {
			root, scratch := newRoot(t), newRoot(t)
			tree, err := openTree(root)
			if err != nil {
				t.Fatal(err)
			}
			tree.noOpenat2 = slow
			u := &unpacker{tree: tree, waits: map[int]*layerWriter{}, job: job{Scratch: scratch}}
			left := make([][]whole, len(layers))
			writers := make([]*layerWriter, len(layers))
			for i, l := range layers {
				q := newQuota(&u.budget, int64(len(l)))
				writers[i] = &layerWriter{u: u, n: i, quota: q, files: newFileWriter(false)}
				defer writers[i].files.close()
				left[i] = entriesOf(t, l)
			}
			// Higher layers are often quicker here.
			finished := make([]bool, len(layers))
			for slices.Contains(finished, false) {
				i := rnd.IntN(len(layers))
				if rnd.IntN(2) == 0 {
					i = max(i, rnd.IntN(len(layers)))
				}
				l := writers[i]
				switch {
				case len(left[i]) > 0:
					p := left[i][0]
					left[i] = left[i][1:]
					if l.staged != nil && int(u.turn.Load()) == i {
						switched++
					}
					if err := l.files.whole(p, func(e tarEntry) error { return l.add(t.Context(), e.item) }); err != nil {
						t.Fatalf("%s: layer %d, %q: %v\n%s", how, i, p.path, err, said)
					}
				case !finished[i]:
					finished[i] = true
					if l.staged != nil {
						staged++
					}
					if err := u.finished(t.Context(), l); err != nil {
						t.Fatalf("%s: layer %d: %v\n%s", how, i, err, said)
					}
				}
			}
			if n := int(u.turn.Load()); n != len(layers) {
				t.Fatalf("%s: %d layers of %d are in the tree", how, n, len(layers))
			}
			for i, l := range writers {
				if err := l.files.flush(); err != nil {
					t.Fatalf("%s: layer %d: %v", how, i, err)
				}
			}
			tree.close()
			moves += tree.moves
			if diff := cmp.Diff(listing(t, want), listing(t, root)); diff != "" {
				t.Errorf("%s: (-sequential +parallel)\n%s\n%s", how, diff, said)
			}
			if left := names(t, scratch); len(left) > 0 {
				t.Errorf("%s: left beside the tree: %v", how, left)
			}
		}
	}
	t.Logf("%d layers were staged to their end, %d until their turn came; %d directories moved as a whole", staged, switched, moves)
	if staged < 30 || switched < 30 || moves < 30 {
		t.Error("this tests too little")
	}
}

// TestDiffIDs: of a layer that is not compressed the blob's digest is the diff ID, unless that is of another algorithm.
func TestDiffIDs(t *testing.T) {
	layers := [][]byte{python(t), archive(t, file("f", "x"))}
	for _, with := range []string{"", "gzip"} {
		for content, want := range map[string]string{string(layers[1]): "", "x": "has the digest sha512:"} {
			l := newLayout(t)
			d := l.image(testImage{layers: layers, compress: with, edit: func(_ *ispec.Manifest, c *ispec.Image) {
				c.RootFS.DiffIDs[1] = digest.SHA512.FromString(content)
			}})
			_, err := newStore(t).Ensure(t.Context(), l.index(d))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("compressed %q: got %v, want %q", with, err, want)
			}
		}
	}
}

// A whole is an entry with all of its content.
type whole struct {
	item
	content []byte
}

func entriesOf(t testing.TB, layer []byte) (all []whole) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		it, err := newItem(hdr)
		b, rerr := io.ReadAll(r)
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		all = append(all, whole{it, b})
	}
}

// whole gives the writer a batch of a single entry.
func (w *fileWriter) whole(e whole, add func(tarEntry) error) error {
	b := <-w.empty
	b.b = append(b.b, e.content...)
	b.parts = append(b.parts, part{tarEntry: tarEntry{item: e.item, name: e.path}, first: true, last: true, size: len(e.content)})
	return w.apply(b, add)
}

// feedLayers writes layers to streams as a bridge would, layer i to stream i modulo their number; each stream has its
// layers backwards.
func feedLayers(t testing.TB, layers [][]byte, streams int) []io.ReadCloser {
	t.Helper()
	content := make([]bytes.Buffer, streams)
	for i := len(layers) - 1; i >= 0; i-- {
		b := &content[i%streams]
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
		b.Write(layers[i])
	}
	var rs []io.ReadCloser
	for i := range content {
		rs = append(rs, io.NopCloser(&content[i]))
	}
	return rs
}

func newJob(t testing.TB, layers [][]byte) job {
	t.Helper()
	j := job{Root: newRoot(t), Scratch: newRoot(t)}
	for _, l := range layers {
		j.Layers = append(j.Layers, jobLayer{Size: int64(len(l)), Blob: digest.SHA512, Algorithm: digest.SHA256})
	}
	return j
}

// TestUnpackerStreams has whole streams, compressed, in goroutines: also for the race detector.
func TestUnpackerStreams(t *testing.T) {
	for seed := range seeds() / 3 {
		plain, said := randomLayers(t, 1000+seed, false)
		if plain == nil {
			continue
		}
		want := newRoot(t)
		if err := applyAll(t, want, false, plain...); err != nil {
			t.Fatal(err)
		}
		with := []string{"", "gzip", "zstd"}[seed%3]
		layers, digests := make([][]byte, len(plain)), make([]digest.Digest, len(plain))
		for i, l := range plain {
			layers[i], digests[i] = compress(t, with, l), digest.FromBytes(l)
		}
		for _, streams := range []int{1, 2, len(layers)} {
			j := newJob(t, layers)
			got, err := j.run(t.Context(), feedLayers(t, layers, streams), false)
			if err != nil {
				t.Fatalf("%d streams: %v\n%s", streams, err, said)
			}
			if diff := cmp.Diff(digests, got.DiffIDs); diff != "" {
				t.Errorf("%d streams: diff IDs: %s", streams, diff)
			}
			if diff := cmp.Diff(listing(t, want), listing(t, j.Root)); diff != "" {
				t.Errorf("%d streams: (-sequential +parallel)\n%s\n%s", streams, diff, said)
			}
			if left := names(t, j.Scratch); len(left) > 0 {
				t.Errorf("left beside the tree: %v", left)
			}
		}
	}
}

// TestUnpackerThroughLower has the cases that go wrong when a layer is made by itself and moved over the others: what a
// path means depends on what lower layers have, and on when in the layer it is asked.
func TestUnpackerThroughLower(t *testing.T) {
	tests := map[string]struct {
		layers [][]tar.Header
		want   map[string]string
	}{
		"a file through a lower link": {
			[][]tar.Header{{folder("usr/lib", 0o755), link("lib", "usr/lib")}, {file("lib/x", "1")}},
			map[string]string{"usr": "d", "usr/lib": "d", "usr/lib/x": "-", "lib": "-> usr/lib"},
		},
		"through an absolute one, a directory named first": {
			[][]tar.Header{{folder("usr/lib", 0o755), link("lib", "/usr/lib")}, {folder("lib/d", 0o755), file("lib/d/x", "1")}},
			map[string]string{"usr": "d", "usr/lib": "d", "usr/lib/d": "d", "usr/lib/d/x": "-", "lib": "-> /usr/lib"},
		},
		"first through the link, then a directory in its place": {
			[][]tar.Header{{folder("usr/lib", 0o755), link("lib", "usr/lib")}, {file("lib/x", "1"), folder("lib", 0o755), file("lib/y", "1")}},
			map[string]string{"usr": "d", "usr/lib": "d", "usr/lib/x": "-", "lib": "d", "lib/y": "-"},
		},
		"a link of the layer itself, and .. behind a lower link": {
			[][]tar.Header{{folder("deep/er/still", 0o755), link("c", "deep/er/still")}, {link("a", "c/.."), file("a/x", "1")}},
			map[string]string{"deep": "d", "deep/er": "d", "deep/er/still": "d", "deep/er/x": "-", "c": "-> deep/er/still", "a": "-> c/.."},
		},
		"a whiteout of the link that it goes through": {
			[][]tar.Header{{folder("usr/lib", 0o755), file("usr/lib/a", "1"), link("lib", "usr/lib")}, {file("lib/.wh.a", ""), file(".wh.lib", ""), file("lib/b", "1")}},
			map[string]string{"usr": "d", "usr/lib": "d", "lib": "d", "lib/b": "-"},
		},
		"a dangling link, its target later": {
			[][]tar.Header{{link("run", "/var/run")}, {file("run/x", "1")}, {folder("var/run", 0o700), file("var/run/y", "1")}},
			map[string]string{"var": "d", "var/run": "d", "var/run/x": "-", "var/run/y": "-", "run": "-> /var/run"},
		},
		"hard links across layers and through links": {
			[][]tar.Header{{file("usr/lib/a", "1"), link("lib", "usr/lib")}, {hard("b", "lib/a"), file("lib/a", "2"), hard("c", "lib/a")}, {hard("d", "b"), file(".wh.b", "")}},
			map[string]string{"usr": "d", "usr/lib": "d", "usr/lib/a": "-", "lib": "-> usr/lib", "c": "- = usr/lib/a", "d": "-"},
		},
		"whiteout and again, in both orders": {
			[][]tar.Header{{file("a", "1"), file("b", "1"), file("d/low", "1")}, {file(".wh.a", ""), file("a", "2"), file("b", "2"), file(".wh.b", ""), file("d/up", "2"), file("d/.wh..wh..opq", "")}},
			map[string]string{"a": "-", "b": "-", "d": "d", "d/up": "-"},
		},
		"a file for a directory, a directory for a file": {
			[][]tar.Header{{file("d/x", "1"), file("f", "1")}, {file("d", "2"), file("f/x", "2")}},
			map[string]string{"d": "-", "f": "d", "f/x": "-"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var layers [][]byte
			for _, l := range tt.layers {
				layers = append(layers, archive(t, l...))
			}
			j := newJob(t, layers)
			if _, err := j.run(t.Context(), feedLayers(t, layers, 1), false); err != nil {
				t.Fatal(err)
			}
			sequential := newRoot(t)
			if err := applyAll(t, sequential, false, layers...); err != nil {
				t.Fatal(err)
			}
			got := listing(t, j.Root)
			if diff := cmp.Diff(listing(t, sequential), got); diff != "" {
				t.Errorf("(-sequential +parallel)\n%s", diff)
			}
			for k, v := range got {
				if !strings.HasPrefix(v, "->") {
					_, same, _ := strings.Cut(v, " = ")
					got[k] = v[:1]
					if same != "" {
						got[k] += " = " + same
					}
				}
			}
			// Which name of a file comes first is a matter of the alphabet.
			if v, ok := got["usr/lib/a"]; ok && v != "-" {
				got["usr/lib/a"], got["c"] = "-", "- = usr/lib/a"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestUnpackerStops: when one layer fails, streams that would wait for ever are ended.
func TestUnpackerStops(t *testing.T) {
	bad := archive(t, file("../x", "1"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte{0, 0, 0, 0, 0x1f, 0x8b}); err != nil { // the beginning of layer 0, and no more
		t.Fatal(err)
	}
	j := newJob(t, [][]byte{make([]byte, 1<<20), bad})
	_, err = j.run(t.Context(), []io.ReadCloser{r, io.NopCloser(bytes.NewReader(append([]byte{0, 0, 0, 1}, bad...)))}, false)
	if err == nil || !strings.Contains(err.Error(), `layer 1: cannot unpack entry "../x"`) {
		t.Errorf("got %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w2.Close()
	go cancel()
	if _, err := newJob(t, [][]byte{bad}).run(ctx, []io.ReadCloser{r2}, false); err == nil {
		t.Error("a cancelled unpacker ends well")
	}
}

// TestUnpackerRefuses streams that no bridge writes.
func TestUnpackerRefuses(t *testing.T) {
	l := archive(t, file("a", "1"))
	one := append([]byte{0, 0, 0, 0}, l...)
	for name, stream := range map[string][]byte{
		"a layer too many": append(slices.Clone(one), 0, 0, 0, 1),
		"the same twice":   append(slices.Clone(one), one...),
		"none":             nil,
		"half a number":    {0, 0},
	} {
		j := newJob(t, [][]byte{l})
		if _, err := j.run(t.Context(), []io.ReadCloser{io.NopCloser(bytes.NewReader(stream))}, false); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLinkOfNoLink: what a header says of a link is nothing to an entry that is none, in its turn or before.
func TestLinkOfNoLink(t *testing.T) {
	h := file("f", "x")
	h.Linkname = strings.Repeat("a", 2*maxPath)
	layers := [][]byte{archive(t, file("a", "x")), archive(t, h)}
	for _, streams := range []int{1, 2} { // in one they come backwards
		j := newJob(t, layers)
		if _, err := j.run(t.Context(), feedLayers(t, layers, streams), false); err != nil {
			t.Errorf("%d streams: %v", streams, err)
		}
	}
}
