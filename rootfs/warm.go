package rootfs

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Official images come without .pyc files, and a root that cannot be written keeps none: each run would compile every
// module it imports, which takes longer than all else in it (asyncio and what it needs: 409 ms against 83).

// WarmScript is the Python that compiles an image's modules. Run it in a sandbox of that image which has seen nothing
// else, with PYTHONHASHSEED=0, and hand its output to [Store.Warm].
//
//go:embed warm.py
var WarmScript string

// Bounds of what a sandbox may say: PyTorch, the largest that people install, has 15,000 modules and 200 MB of them.
const (
	maxWarmFiles = 100_000
	maxWarmFile  = 16 << 20
	maxWarmBytes = 1 << 30
)

// warmVersion is raised when WarmScript makes something else.
const warmVersion = "1"

// Warm reads the output of [WarmScript] and keeps each .pyc beside its source, for all later runs. Every one belongs to a
// regular file of the tree and appears whole or not at all, also for containers that are running. It says how many were
// new. What the stream says is bounded, and can do no more than what the image could have brought along itself: it
// must come from image content only, never from a sandbox in which a script has run.
func (s *Store) Warm(ctx context.Context, t Tree, r io.Reader) (int, error) {
	root, err := os.OpenRoot(t.Path)
	if err != nil {
		return 0, fmt.Errorf("cannot open the image: %w", err)
	}
	defer root.Close()
	w := warmer{root: root, r: bufio.NewReaderSize(r, 64<<10), made: make(map[string]bool)}
	err = w.all(ctx)
	if err == nil {
		err = os.WriteFile(warmFile(t), fmt.Appendf(nil, "%d\n", w.files), 0o600)
	}
	if err != nil {
		return w.files, fmt.Errorf("cannot keep the compiled modules of %s: %w", t.Ref, err)
	}
	return w.files, nil
}

// Warmed says whether Warm has been through for this tree.
func (t Tree) Warmed() bool {
	st, err := os.Lstat(warmFile(t))
	return err == nil && st.Mode().IsRegular()
}

// LockWarm takes the right to warm a tree, for as long as the file is open; ok is false if another process has it.
func (t Tree) LockWarm() (lock *os.File, ok bool) {
	lock, err := lockFile(filepath.Join(t.Aux, "warm.lock"), os.O_CREATE|os.O_RDWR)
	return lock, err == nil
}

func warmFile(t Tree) string { return filepath.Join(t.Aux, "warm-v"+warmVersion) }

type warmer struct {
	root  *os.Root
	r     *bufio.Reader
	tag   string
	made  map[string]bool // __pycache__ directories that are there
	files int
	bytes int64
}

var errWarm = errors.New("the sandbox did not say what it was to say")

func (w *warmer) all(ctx context.Context) error {
	tag, err := w.chunk(64)
	if err != nil {
		return err
	}
	w.tag = string(tag)
	if w.tag == "" || strings.Trim(w.tag, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("%w: a cache tag %q", errWarm, w.tag)
	}
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		name, err := w.chunk(maxPath)
		if err != nil || len(name) == 0 {
			return err
		}
		code, err := w.chunk(maxWarmFile)
		if err != nil {
			return err
		}
		if w.bytes += int64(len(code)); n >= maxWarmFiles || w.bytes > maxWarmBytes {
			return fmt.Errorf("%w: more than %d files or %d bytes", errBound, maxWarmFiles, int64(maxWarmBytes))
		}
		if err := w.keep(string(name), code); err != nil {
			return err
		}
	}
}

func (w *warmer) chunk(limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errWarm, noEOF(err))
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(limit) {
		return nil, fmt.Errorf("%w: %w: a chunk of %d bytes", errWarm, errBound, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(w.r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errWarm, noEOF(err))
	}
	return b, nil
}

// keep writes one .pyc, unless there is one.
func (w *warmer) keep(source string, code []byte) error {
	name := strings.TrimPrefix(source, "/")
	stem, ok := strings.CutSuffix(path.Base(name), ".py")
	if !ok || stem == "" || !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: a module at %.300q", errWarm, source)
	}
	st, err := w.root.Lstat(name)
	if err != nil {
		return fmt.Errorf("%w: a module at %.300q: %w", errWarm, source, err)
	}
	if !st.Mode().IsRegular() {
		return nil // a link: its target has its own
	}
	dir := path.Join(path.Dir(name), "__pycache__")
	if !w.made[dir] {
		if err := w.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if st, err := w.root.Lstat(dir); err != nil || !st.IsDir() {
			return fmt.Errorf("%.300q is no directory", dir)
		}
		w.made[dir] = true
	}
	to := path.Join(dir, stem+"."+w.tag+".pyc")
	if _, err := w.root.Lstat(to); err == nil {
		return nil
	}
	tmp := path.Join(dir, ".warm."+w.tag)
	if err := w.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := w.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(code)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = w.root.Rename(tmp, to)
	}
	if err != nil {
		_ = w.root.Remove(tmp)
		return err
	}
	w.files++
	return nil
}
