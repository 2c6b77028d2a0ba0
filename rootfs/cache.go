package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The cache directory:
//
//	rootfs/<alg>-<hex>-v1/{rootfs,aux,.complete}   entries; they appear by rename and are then immutable; who uses one
//	                                               holds a shared flock on its .complete (use.go)
//	rootfs/<entry>/{.durable,.files}               it is on the disk; what it consists of (durable.go, verify.go)
//	refs/host-<hex>                                what the host's Python looked like when it was copied
//	refs/image-<hex>                               what a tag, or an index, stood for when it was pulled (remember.go)
//	tmp/<entry>.<random>/                          entries that are being made
//	locks/<entry>                                  one flock per entry, held while it is made; never removed,
//	                                               because a removed lock file can be locked by nobody and by two
//
// Directories on the way to a root are 0711: a container of real root runs as an unprivileged uid that has to pass
// them, and nobody has to list them.
const (
	entriesDir = "rootfs"
	refsDir    = "refs"
	tmpDir     = "tmp"
	locksDir   = "locks"
	completeFn = ".complete"
)

type cache struct {
	dir string
	log *slog.Logger
}

// An entry is what .complete records. dir is where it was found.
type entry struct {
	Version int      `json:"unpacker"`
	Digest  string   `json:"digest"`
	Python  string   `json:"python"`
	Env     []string `json:"env"`

	Ref   string `json:"ref,omitempty"`   // by which it was asked for first
	Bytes int64  `json:"bytes,omitempty"` // of content, as the layers have it; 0: not known
	Made  int64  `json:"made,omitempty"`  // Unix time
	Boot  string `json:"boot,omitempty"`  // the kernel's boot_id then: see durable.go

	dir string
}

// entryName is the name of a digest's entry, its lock and the first part of its staging directories.
func entryName(d digest.Digest) string {
	return fmt.Sprintf("%s-%s-v%d", d.Algorithm(), d.Encoded(), unpackerVersion)
}

// lookup finds a finished entry, which is then in use by this process. It is on the path of every start: one open, one
// stat, one read, and the first time a lock.
func (c *cache) lookup(d digest.Digest) (entry, bool) {
	for range 3 { // tries; somebody removes entries all the time
		e, again, err := c.open(filepath.Join(c.dir, entriesDir, entryName(d)))
		if again {
			continue
		}
		if err != nil || e.Version != unpackerVersion || e.Digest != d.String() || e.Python == "" || !c.durable(e) {
			return entry{}, false
		}
		return e, true
	}
	return entry{}, false
}

// open reads an entry and begins to use it. again says that it was being removed.
func (c *cache) open(dir string) (e entry, again bool, err error) {
	path := filepath.Join(dir, completeFn)
	f, fi, err := openRegular(path, maxRecord)
	if err != nil {
		return e, false, err
	}
	if e, err = readEntry(f, fi); err != nil {
		f.Close()
		return e, false, err
	}
	e.dir = dir
	return e, !uses.add(path, f, fi), nil
}

// readEntry reads a .complete that has been opened.
func readEntry(f *os.File, fi fs.FileInfo) (e entry, err error) {
	b := make([]byte, fi.Size())
	if _, err = io.ReadFull(f, b); err == nil {
		err = json.Unmarshal(b, &e)
	}
	return e, err
}

// A staging is an entry that is being made.
type staging struct {
	dir  string   // tmp/<entry>.<random>
	root string   // the empty directory in it that is to become the root
	lock *os.File // whoever else writes to it has to hold this too
}

// populate returns the entry of d. When it is not there, fill makes its root in an empty directory and says what to
// record; the entry appears only when fill succeeded.
func (c *cache) populate(ctx context.Context, d digest.Digest, fill func(ctx context.Context, st staging) (entry, error)) (entry, error) {
	if e, ok := c.lookup(d); ok {
		return e, nil
	}
	if err := c.mkdirs(); err != nil {
		return entry{}, err
	}
	name := entryName(d)
	lock, err := c.lock(ctx, name)
	if err != nil {
		return entry{}, err
	}
	defer lock.Close()
	if e, ok := c.lookup(d); ok { // somebody else made it meanwhile
		return e, nil
	}
	c.sweep()
	c.removeStaging(name) // ours: we hold the lock

	stage, err := os.MkdirTemp(filepath.Join(c.dir, tmpDir), name+".")
	if err != nil {
		return entry{}, cannotWrite(err)
	}
	e, err := c.stage(ctx, d, staging{stage, filepath.Join(stage, "rootfs"), lock}, fill)
	if err != nil {
		if rerr := os.RemoveAll(stage); rerr != nil {
			c.log.Warn("cannot remove an unfinished image", "path", stage, "error", rerr)
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return entry{}, fmt.Errorf("%w: the image cache %s is full", err, c.dir)
		}
		return entry{}, err
	}
	return e, nil
}

func (c *cache) stage(ctx context.Context, d digest.Digest, st staging, fill func(ctx context.Context, st staging) (entry, error)) (entry, error) {
	for dir, mode := range map[string]fs.FileMode{st.root: 0o755, filepath.Join(st.dir, "aux"): 0o700} {
		if err := mkdirMode(dir, mode); err != nil {
			return entry{}, err
		}
	}
	e, err := fill(ctx, st)
	if err != nil {
		return entry{}, err
	}
	e.Version, e.Digest, e.Made, e.Boot = unpackerVersion, d.String(), time.Now().Unix(), bootID()
	b, err := json.Marshal(e)
	if err != nil {
		return entry{}, fmt.Errorf("internal error: cannot record an image: %w", err)
	}
	complete := filepath.Join(st.dir, completeFn)
	if err := writeNew(complete, b); err != nil {
		return entry{}, err
	}
	if err := os.Chmod(complete, 0o644); err != nil { // a cache may be another user's, to be read only
		return entry{}, err
	}
	if err := os.Chmod(st.dir, 0o711); err != nil { // the container's user passes it, see above
		return entry{}, err
	}
	e.dir = filepath.Join(c.dir, entriesDir, entryName(d))
	err = os.Rename(st.dir, e.dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		// Something that lookup does not accept is in the way (a damaged record). It gets a staging name first, so
		// that the entry is at no moment half there.
		trash := st.dir + ".trash"
		if err := os.Rename(e.dir, trash); err != nil {
			return entry{}, fmt.Errorf("cannot replace a damaged image: %w", err)
		}
		defer os.RemoveAll(trash) // the next sweep gets it
		err = os.Rename(st.dir, e.dir)
	}
	if err != nil {
		return entry{}, fmt.Errorf("cannot publish an image: %w", err)
	}
	if got, ok := c.lookup(d); ok { // it is in use now
		return got, nil
	}
	return entry{}, errors.New("cannot keep an image: somebody removed it at once")
}

// sweep removes what processes that died left in tmp. Whoever works on an entry holds its lock, so a staging directory
// whose lock is free belongs to nobody.
func (c *cache) sweep() {
	left, err := os.ReadDir(filepath.Join(c.dir, tmpDir))
	if err != nil {
		return
	}
	for _, l := range left {
		name, _, ok := strings.Cut(l.Name(), ".")
		if !ok {
			continue
		}
		f, err := c.tryLock(name)
		if err != nil {
			continue
		}
		c.removeStaging(name)
		f.Close()
	}
}

func (c *cache) removeStaging(name string) {
	left, err := filepath.Glob(filepath.Join(c.dir, tmpDir, name+".*"))
	if err != nil {
		return
	}
	for _, p := range left {
		if err := os.RemoveAll(p); err != nil {
			c.log.Warn("cannot remove what a dead process left", "path", p, "error", err)
			continue
		}
		c.log.Info("removed what a dead process left", "path", p)
	}
}

// lock waits for an entry's lock. A blocked flock(2) could not be cancelled, so it is tried again and again.
func (c *cache) lock(ctx context.Context, name string) (*os.File, error) {
	wait := 2 * time.Millisecond
	for {
		f, err := c.tryLock(name)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, cannotWrite(err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot wait any longer for another process that makes the same image: %w", ctx.Err())
		case <-time.After(wait):
			wait = min(2*wait, 100*time.Millisecond)
		}
	}
}

func (c *cache) tryLock(name string) (*os.File, error) {
	return lockFile(filepath.Join(c.dir, locksDir, name), os.O_CREATE|os.O_RDWR)
}

func cannotWrite(err error) error {
	return fmt.Errorf("cannot write to the image cache: %w; set MCP_BRIDGE_CACHE_DIR to a writable place", err)
}

func (c *cache) mkdirs() error {
	if fi, err := os.Stat(c.dir); err == nil && fi.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("cannot use the image cache %s: everybody may write to it", c.dir)
	} else if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil { // the usual mode of ~/.cache's parents
			return cannotWrite(err)
		}
	}
	for _, d := range []struct {
		name string
		mode fs.FileMode
	}{{"", 0o711}, {entriesDir, 0o711}, {refsDir, 0o700}, {tmpDir, 0o700}, {locksDir, 0o700}} {
		if err := mkdirMode(filepath.Join(c.dir, d.name), d.mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return cannotWrite(err)
		}
	}
	return nil
}

// mkdirMode makes a directory with exactly this mode, whatever the umask.
func mkdirMode(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, fi, err := openRegular(path, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, fi.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// openRegular opens a regular file of at most limit bytes. O_NONBLOCK keeps a FIFO from blocking us for ever.
func openRegular(path string, limit int64) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	switch {
	case err != nil:
	case !fi.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", path)
	case fi.Size() > limit:
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	default:
		return f, fi, nil
	}
	f.Close()
	return nil, nil, err
}
