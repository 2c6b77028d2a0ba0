package rootfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzApply feeds archives of two layers to the unpacker (run it with -fuzzminimizetime 5x: minimizing costs more than
// it is worth here). Whatever they are, nothing appears beside the root or where links lead to, no special file or setuid
// bit is in it, and it can be removed; and staged layers make the same tree as one after the other.
func FuzzApply(f *testing.F) {
	outside, alive := newOutside(f)
	for _, h := range hostiles(f, outside) {
		if total := len(bytes.Join(h.layers, nil)); len(h.layers) <= 2 && total < 20_000 {
			layers := append(h.layers, nil, nil)
			f.Add(layers[0], layers[1])
			f.Add(archive(f, folder("l", 0o755)), layers[0])
		}
	}
	f.Add(archive(f, file("a", "1"), hard("b", "a")), archive(f, file(".wh.a", "")))
	f.Add(archive(f, link("l", "/"), file("l/x", "1")), archive(f, folder("l", 0o7777), file("l/.wh..wh..opq", "")))
	f.Add(sparseBomb("s", 1<<30), paxName("a/../b"))
	f.Add(archive(f, node("n", '3'), fileMode("s", 0o6755)), []byte("junk"))
	f.Add(archive(f, folder("usr/lib", 0o755), link("lib", "usr/lib")), archive(f, folder("lib/d", 0o755), file("lib/d/x", "1"), hard("lib/d/y", "lib/d/x")))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		if len(lower)+len(upper) > 1<<20 {
			return
		}
		layers := [][]byte{lower, upper}
		var first map[string]string
		firstErr := error(nil)
		for _, how := range []string{"openat2", "securejoin", "staged"} {
			j := newJob(t, layers)
			j.bytes = 1 << 20 // the fuzzer loves sparse files
			var err error
			if how == "staged" {
				_, err = j.run(t.Context(), feedLayers(t, layers, 1), false)
			} else {
				err = applySome(t, j, how == "securejoin", layers)
			}
			for _, dir := range []string{j.Root, j.Scratch} {
				if diff := cmp.Diff([]string{"root"}, names(t, filepath.Dir(dir))); diff != "" {
					t.Errorf("%s: beside the root: %s", how, diff)
				}
			}
			alive(t)
			got := listing(t, j.Root)
			for name, s := range got {
				if !strings.HasPrefix(s, "-> ") && (strings.ContainsAny(s[:1], "ugpSDc") || s[0] == 'L') {
					t.Errorf("%q: %s", name, s)
				}
			}
			if err == nil {
				if left := names(t, j.Scratch); len(left) > 0 {
					t.Errorf("%s: left beside the tree: %v", how, left)
				}
			}
			switch how {
			case "openat2":
				first, firstErr = got, err
			case "staged":
				// Bytes that are no archive are a plain one for a layer reader, or another compression's.
				if firstErr == nil && err == nil {
					if diff := cmp.Diff(first, got); diff != "" {
						t.Errorf("%s: (-one after the other +staged)\n%s", how, diff)
					}
				}
				if firstErr == nil && err != nil && !compressed(lower) && !compressed(upper) {
					t.Errorf("staged layers fail, and one after the other do not: %v", err)
				}
			}
			for _, dir := range []string{j.Root, j.Scratch} {
				if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func compressed(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) || bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// applySome is applyAll with the bounds of a job.
func applySome(t *testing.T, j job, noOpenat2 bool, layers [][]byte) error {
	t.Helper()
	tr, err := openTree(j.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	tr.noOpenat2 = noOpenat2
	var b budget
	for i, l := range layers {
		tr.begin(&quota{budget: &b, left: j.bytes}, i > 0)
		if err := tr.apply(t.Context(), bytes.NewReader(l)); err != nil {
			return err
		}
	}
	return nil
}
