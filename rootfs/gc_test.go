package rootfs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// filled makes a cache with n images that nobody uses, the first used last, and their references.
func filled(t *testing.T, n int) (s *Store, refs []string) {
	t.Helper()
	s = newStore(t)
	for i := range n {
		l := newLayout(t)
		refs = append(refs, l.index(l.image(testImage{layers: [][]byte{python(t), archive(t, file("f", strings.Repeat("x", 1000)))}, env: []string{fmt.Sprint("I=", i)}})))
		tree, err := s.Ensure(t.Context(), refs[i])
		if err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(-time.Duration(i) * 24 * time.Hour)
		if err := os.Chtimes(filepath.Join(filepath.Dir(tree.Path), completeFn), used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s, refs
}

// TestClockSetBack: what was used while the clock was ahead is used now when it is used again.
func TestClockSetBack(t *testing.T) {
	s, refs := filled(t, 1)
	list, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().Add(30 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(s.Dir, entriesDir, list[0].Name, completeFn), ahead, ahead); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ensure(t.Context(), refs[0]); err != nil {
		t.Fatal(err)
	}
	if list, err = s.Images(t.Context()); err != nil || list[0].Used.After(ahead.Add(-time.Hour)) {
		t.Errorf("used at %v, %v", list[0].Used, err)
	}
}

func images(t *testing.T, s *Store) (refs []string) {
	t.Helper()
	list, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range list {
		refs = append(refs, im.Ref)
	}
	return refs
}

func TestImages(t *testing.T) {
	if list, err := newStore(t).Images(t.Context()); len(list) > 0 || err != nil {
		t.Errorf("no cache: %v %v", list, err)
	}
	s, refs := filled(t, 3)
	tree, err := s.Ensure(t.Context(), refs[1])
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Images(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%v %v", list, err)
	}
	for i, im := range list {
		if age := time.Since(im.Used); im.Ref != refs[[]int{1, 0, 2}[i]] && im.Ref != refs[[]int{0, 1, 2}[i]] || im.Bytes < 1000 || im.Bytes > 2000 || im.InUse != (im.Ref == refs[1]) || im.InUse && age > touchEvery {
			t.Errorf("%d: %+v", i, im)
		}
		if im.InUse && im.Digest != tree.Digest {
			t.Errorf("digest %s, want %s", im.Digest, tree.Digest)
		}
	}
}

func TestPrune(t *testing.T) {
	tests := map[string]struct {
		o    PruneOptions
		used int   // the image that is in use; -1: none
		want []int // what stays
	}{
		"the defaults":           {PruneOptions{}, -1, []int{0, 1, 2, 3}},
		"by age":                 {PruneOptions{MaxAge: 36 * time.Hour}, -1, []int{0, 1}},
		"by size":                {PruneOptions{MaxBytes: 2500}, -1, []int{0, 1}},
		"not what is used":       {PruneOptions{MaxBytes: 2500}, 3, []int{0, 3}},
		"everything":             {PruneOptions{MaxBytes: -1}, -1, nil},
		"everything not in use":  {PruneOptions{MaxBytes: -1}, 0, []int{0}},
		"by size, of any age":    {PruneOptions{MaxAge: -1, MaxBytes: 1 << 20}, -1, []int{0, 1, 2, 3}},
		"by age, used a moment ": {PruneOptions{MaxAge: time.Hour}, 2, []int{0, 2}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, refs := filled(t, 4)
			if tt.used >= 0 {
				if _, err := s.Ensure(t.Context(), refs[tt.used]); err != nil {
					t.Fatal(err)
				}
			}
			removed, err := s.Prune(t.Context(), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, i := range tt.want {
				want = append(want, refs[i])
			}
			got := images(t, s)
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" || len(removed) != 4-len(want) {
				t.Errorf("%d removed; left (-want +got)\n%s", len(removed), diff)
			}
			checkClean(t, s, len(want))
			for _, ref := range refs { // what was removed is made again
				if _, err := s.Ensure(t.Context(), ref); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPruneDamaged: what has no record, and what another version of the unpacker made, goes like all else.
func TestPruneDamaged(t *testing.T) {
	s, refs := filled(t, 2)
	for _, name := range []string{"sha256-" + strings.Repeat("ab", 32) + "-v1/rootfs", "sha256-" + strings.Repeat("ab", 32) + "-v99/rootfs"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, entriesDir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	got := images(t, s)
	slices.Sort(got)
	slices.Sort(refs)
	if diff := cmp.Diff(refs, got); diff != "" {
		t.Error(diff)
	}
}

// TestBoot: an entry of another boot counts if it had been settled, and is made again if not.
func TestBoot(t *testing.T) {
	if bootID() == "" {
		t.Skip("this system does not say when it was started")
	}
	for _, settled := range []bool{true, false} {
		t.Run(fmt.Sprint("settled ", settled), func(t *testing.T) {
			l := newLayout(t)
			ref := l.index(l.image(testImage{layers: [][]byte{python(t), archive(t, file("f", "content"))}}))
			s := newStore(t)
			tree, err := s.Ensure(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if settled {
				if err := s.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			editRecord(t, tree, func(e *entry) { e.Boot = "another" })
			if err := os.WriteFile(filepath.Join(tree.Path, "f"), nil, 0o644); err != nil { // as a power failure leaves it
				t.Fatal(err)
			}
			again, err := s.Ensure(t.Context(), ref)
			if diff := cmp.Diff(tree, again); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
			want := "content"
			if settled {
				want = "" // nobody looks again
			}
			if b, err := os.ReadFile(filepath.Join(tree.Path, "f")); string(b) != want || err != nil {
				t.Errorf("f is %q, %v; want %q", b, err, want)
			}
			checkClean(t, s, 1)
		})
	}
	t.Run("old enough", func(t *testing.T) {
		s, refs := filled(t, 1)
		dir := filepath.Join(s.Dir, entriesDir, names(t, filepath.Join(s.Dir, entriesDir))[0])
		editRecord(t, Tree{Path: filepath.Join(dir, "rootfs")}, func(e *entry) { e.Made = time.Now().Add(-2 * settledAge).Unix() })
		if _, err := s.Ensure(t.Context(), refs[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, durableFn)); err != nil {
			t.Error(err)
		}
	})
}

func editRecord(t *testing.T, tree Tree, edit func(e *entry)) {
	t.Helper()
	path := filepath.Join(filepath.Dir(tree.Path), completeFn)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var e entry
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	edit(&e)
	if b, err = json.Marshal(e); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestVerifySaysWhenItRecords(t *testing.T) {
	var said bytes.Buffer
	l, s := newLayout(t), newStore(t)
	s.Logger = slog.New(slog.NewTextHandler(&said, nil))
	tree, err := s.Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t)}})))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if damages, err := s.Verify(t.Context(), true); len(damages) > 0 || err != nil {
			t.Errorf("%v %v", damages, err)
		}
		if strings.Contains(said.String(), "it is recorded now") != want {
			t.Errorf("the log of verify %d is %q", i, said.String())
		}
		said.Reset()
	}
	// What a server has brought to the disk has no record either, until a pull.
	entry := filepath.Dir(tree.Path)
	if err := os.Remove(filepath.Join(entry, filesFn)); err != nil {
		t.Fatal(err)
	}
	markDurable(filepath.Join(entry, durableFn))
	if err := s.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(entry, filesFn)); err != nil {
		t.Errorf("nothing is recorded: %v", err)
	}
}

func TestVerify(t *testing.T) {
	tests := map[string]struct {
		damage      func(t *testing.T, root string) error
		quick, full []string
	}{
		"nothing": {func(*testing.T, string) error { return nil }, nil, nil},
		"modules compiled later": {func(t *testing.T, root string) error {
			t.Helper()
			if err := os.Mkdir(root+"/d/__pycache__", 0o755); err != nil {
				return err
			}
			return os.WriteFile(root+"/d/__pycache__/m.pyc", nil, 0o644)
		}, nil, nil},
		"a file cut":     {func(_ *testing.T, root string) error { return os.Truncate(root+"/d/f", 1) }, []string{"d/f: it was changed"}, []string{"d/f: it was changed"}},
		"a file removed": {func(_ *testing.T, root string) error { return os.Remove(root + "/d/f") }, []string{"d/f: it is missing"}, []string{"d/f: it is missing"}},
		"a file added":   {func(_ *testing.T, root string) error { return os.WriteFile(root+"/d/g", nil, 0o644) }, []string{"d/g: it was added"}, []string{"d/g: it was added"}},
		"a mode":         {func(_ *testing.T, root string) error { return os.Chmod(root+"/d", 0o777) }, []string{"d: it was changed"}, []string{"d: it was changed"}},
		"a link": {func(_ *testing.T, root string) error {
			os.Remove(root + "/l")
			return os.Symlink("/elsewhere", root+"/l")
		}, []string{"l: it was changed"}, []string{"l: it was changed"}},
		"a byte, as a disk does it": {func(_ *testing.T, root string) error {
			if err := os.WriteFile(root+"/d/f", []byte("bontent"), 0o644); err != nil {
				return err
			}
			return os.Chtimes(root+"/d/f", testTime, testTime)
		}, nil, []string{"d/f: its content is another one"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			s := newStore(t)
			tree, err := s.Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t), archive(t, folder("d", 0o755), file("d/f", "content"), link("l", "d"))}})))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Verify(t.Context(), true); len(got) > 0 || err != nil { // records
				t.Fatalf("%v %v", got, err)
			}
			if err := tt.damage(t, tree.Path); err != nil {
				t.Fatal(err)
			}
			for full, want := range map[bool][]string{false: tt.quick, true: tt.full} {
				list, err := s.Verify(t.Context(), full)
				var got []string
				for _, d := range list {
					got = append(got, d.Path+": "+d.What)
					if d.Image != tree.Digest {
						t.Errorf("%v is said of %s", d, tree.Digest)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("full %v: %v (-want +got)\n%s", full, err, diff)
				}
			}
		})
	}
}

// tree of a cache: names, times and modes, to see that nothing is written.
func snapshotOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		got[p] = fmt.Sprint(fi.Mode(), fi.ModTime().UnixNano(), fi.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
