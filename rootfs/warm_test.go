package rootfs

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// said is a stream in the format of WarmScript.
func said(chunks ...string) []byte {
	var b []byte
	for _, c := range chunks {
		b = binary.BigEndian.AppendUint32(b, uint32(len(c)))
		b = append(b, c...)
	}
	return b
}

func warmTree(t *testing.T) Tree {
	t.Helper()
	dir := t.TempDir()
	tree := Tree{Ref: "test", Path: filepath.Join(dir, "rootfs"), Aux: filepath.Join(dir, "aux")}
	for _, d := range []string{"rootfs/lib/pkg/__pycache__", "rootfs/linked", "aux", "outside"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"rootfs/lib/a.py", "rootfs/lib/pkg/b.py", "rootfs/linked/c.py", "outside/d.py"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x = 1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"rootfs/lib/link.py": "a.py", "rootfs/out": dir + "/outside", "rootfs/linked/__pycache__": "../../outside"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestWarm(t *testing.T) {
	tree := warmTree(t)
	there := filepath.Join(tree.Path, "lib/pkg/__pycache__/b.cpython-313.pyc")
	if err := os.WriteFile(there, []byte("the image's own"), 0o644); err != nil {
		t.Fatal(err)
	}
	if tree.Warmed() {
		t.Error("warm before it was warmed")
	}
	stream := said("cpython-313", "/lib/a.py", "code of a", "/lib/pkg/b.py", "code of b", "/lib/link.py", "code of a link", "")
	n, err := new(Store).Warm(t.Context(), tree, bytes.NewReader(stream))
	if n != 1 || err != nil || !tree.Warmed() {
		t.Errorf("%d new files, %v, warmed %t", n, err, tree.Warmed())
	}
	for file, want := range map[string]string{"lib/__pycache__/a.cpython-313.pyc": "code of a", "lib/pkg/__pycache__/b.cpython-313.pyc": "the image's own"} {
		if b, err := os.ReadFile(filepath.Join(tree.Path, file)); err != nil || string(b) != want {
			t.Errorf("%s has %q, %v", file, b, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tree.Path, "lib/__pycache__/*")); len(left) != 1 {
		t.Errorf("besides the one: %v", left)
	}
}

// TestWarmHostile: an image's Python says what it wants; it gets files beside its own sources, and no others.
func TestWarmHostile(t *testing.T) {
	long := said("cpython-313", "/lib/a.py")
	long = binary.BigEndian.AppendUint32(long, maxWarmFile+1)
	for name, stream := range map[string][]byte{
		"nothing":                    nil,
		"half a length":              {0, 0},
		"no tag":                     said("", ""),
		"a tag that is a path":       said("../../x", "/lib/a.py", "code", ""),
		"an endless tag":             said(strings.Repeat("x", 65), ""),
		"dots":                       said("cpython-313", "/lib/../../outside/d.py", "code", ""),
		"a link out of the tree":     said("cpython-313", "/out/d.py", "code", ""),
		"a cache that is a link":     said("cpython-313", "/linked/c.py", "code", ""),
		"no module":                  said("cpython-313", "/lib/a.txt", "code", ""),
		"only a suffix":              said("cpython-313", "/lib/.py", "code", ""),
		"a module that is not there": said("cpython-313", "/lib/none.py", "code", ""),
		"a NUL":                      said("cpython-313", "/lib/a\x00.py", "code", ""),
		"a name that is too long":    said("cpython-313", "/"+strings.Repeat("x", maxPath), "code", ""),
		"code that is too long":      long,
		"an end before the end":      said("cpython-313", "/lib/a.py", "code"),
		"half a module":              said("cpython-313", "/lib/a.py", "code")[:25],
	} {
		t.Run(name, func(t *testing.T) {
			tree := warmTree(t)
			_, err := new(Store).Warm(t.Context(), tree, bytes.NewReader(stream))
			if err == nil || tree.Warmed() {
				t.Errorf("%v, warmed %t", err, tree.Warmed())
			}
			outside, _ := os.ReadDir(filepath.Join(filepath.Dir(tree.Path), "outside"))
			beside, _ := os.ReadDir(filepath.Dir(tree.Path))
			if len(outside) != 1 || len(beside) != 3 {
				t.Errorf("something was written outside of the tree: %v, %v", outside, beside)
			}
		})
	}
}

// TestLockWarm: one process at a time.
func TestLockWarm(t *testing.T) {
	tree := warmTree(t)
	lock, ok := tree.LockWarm()
	if !ok {
		t.Fatal("no lock")
	}
	if _, ok := tree.LockWarm(); ok {
		t.Error("two have the lock")
	}
	lock.Close()
	if lock, ok = tree.LockWarm(); !ok {
		t.Fatal("nobody has the lock, and it cannot be had")
	}
	lock.Close()
}
