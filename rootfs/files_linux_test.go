package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFileWriter: files whose content is written behind are whole after a flush, whatever has been done to their names
// meanwhile; the first that cannot be written is the one that is named; and no descriptor is left.
func TestFileWriter(t *testing.T) {
	opened := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	root := t.TempDir()
	d, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	before := opened()
	mtime := time.Unix(1_600_000_000, 0)
	put := func(w *fileWriter, name string, content []byte) error {
		it := item{path: "in/" + name, size: int64(len(content)), mode: 0o640, mtime: mtime}
		return w.write(context.Background(), d.root, name, it, bytes.NewReader(content))
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
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &was) //nolint:errcheck // it was so
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
	if after := opened(); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}
