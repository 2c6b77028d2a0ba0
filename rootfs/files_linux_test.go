package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

// TestFileWriter: files whose content is written behind are whole after a flush, whatever has been done to their names
// meanwhile; the first that cannot be written is the one that is named; and no descriptor is left.
func TestFileWriter(t *testing.T) {
	root := t.TempDir()
	d, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	before := opened(t)
	mtime := time.Unix(1_600_000_000, 0)
	put := func(w *fileWriter, name string, content []byte) error {
		it := item{path: "in/" + name, size: int64(len(content)), mode: 0o640, mtime: mtime}
		return w.whole(whole{it, content}, func(e tarEntry) error { return w.create(d.root, name, e.item) })
	}
	content := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d,", i), i*i*20) } // 0 to 400 KB
	const n = 90

	w := newFileWriter(false)
	for i := range n {
		name := fmt.Sprint(i)
		if err := put(w, name, content(i)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := unix.Renameat(d.root.fd, name, d.root.fd, "moved"+name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	w.close()
	for i := range n {
		name := fmt.Sprint(i)
		if i%3 == 0 {
			name = "moved" + name
		}
		got, err := os.ReadFile(filepath.Join(root, name))
		st, serr := os.Stat(filepath.Join(root, name))
		if err != nil || serr != nil || !bytes.Equal(got, content(i)) || !st.ModTime().Equal(mtime) || st.Mode() != 0o640 {
			t.Errorf("%s: %d bytes of %d, %v, %v", name, len(got), len(content(i)), st, errors.Join(err, serr))
		}
	}

	// A file that is longer than this process may write.
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 300 << 10, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &was)
	w = newFileWriter(false)
	for i := range n {
		if err := put(w, fmt.Sprintf("second%d", i), content(i)); err != nil {
			break // it may be told of it already, or not
		}
	}
	if err := w.flush(); !errors.Is(err, unix.EFBIG) || !strings.Contains(err.Error(), `"in/second72"`) {
		t.Errorf("got %v, want EFBIG of the first that is too long", err)
	}
	if err := put(w, "later", nil); !errors.Is(err, unix.EFBIG) {
		t.Errorf("a file after it: %v", err)
	}
	w.close()
	if after := opened(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// opened counts the descriptors of this process.
func opened(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestEachItemEnds: however an archive ends, while a file that needs more than one batch is on its way, the writer has all of
// its batches again and no file open.
func TestEachItemEnds(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 5*chunkSize/16)
	all := archive(t, folder("d", 0o755), file("d/long", long), file("d/last", "x"))
	broken := errors.New("it breaks")
	for name, tt := range map[string]struct {
		r    io.Reader
		add  func(it item) error
		want error
	}{
		"well":             {r: bytes.NewReader(all)},
		"cut":              {r: bytes.NewReader(all[:3*chunkSize]), want: io.ErrUnexpectedEOF},
		"a reader's error": {r: io.MultiReader(bytes.NewReader(all[:3*chunkSize]), iotest.ErrReader(broken)), want: broken},
		"first entry":      {r: bytes.NewReader(all), add: func(item) error { return broken }, want: broken},
		"last entry": {r: bytes.NewReader(all), want: broken, add: func(it item) error {
			if it.path == "d/last" {
				return broken
			}
			return nil
		}},
		"cancelled": {r: bytes.NewReader(all), want: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			before := opened(t)
			root, err := openTree(newRoot(t))
			if err != nil {
				t.Fatal(err)
			}
			w := newFileWriter(false)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err = eachItem(ctx, tt.r, newQuota(&budget{}, 0), w, func(it item) error {
				if name == "cancelled" && it.path == "d/long" {
					cancel()
				}
				if tt.add != nil {
					if err := tt.add(it); err != nil {
						return err
					}
				}
				return root.add(it, func(parent *dir, name string) error { return w.create(parent, name, it) })
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err := w.flush(); err != nil {
				t.Error(err)
			}
			if tt.want == nil {
				if got, err := os.ReadFile(filepath.Join(root.path, "d/long")); err != nil || string(got) != long {
					t.Errorf("the file has %d bytes of %d, %v", len(got), len(long), err)
				}
			}
			root.close()
			if after := opened(t); after != before {
				t.Errorf("%d descriptors are open, %d were", after, before)
			}
			w.close()
		})
	}
}
