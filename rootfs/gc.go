package rootfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A CachedImage is an entry of the cache.
type CachedImage struct {
	Ref    string    // by which it was asked for first; empty if it is damaged
	Digest string    // as Tree's
	Bytes  int64     // of the files' content
	Used   time.Time // when it was last used, to about an hour
	InUse  bool      // by a process that runs, this one included
	Name   string    // of its directory below rootfs/ in the cache
}

// Defaults of Prune: a dozen images with a scientific stack in them, and three months.
const (
	DefaultMaxBytes = 20 << 30
	DefaultMaxAge   = 90 * 24 * time.Hour
)

// PruneOptions say what may stay. The zero value means the defaults.
type PruneOptions struct {
	MaxBytes int64         // of all images together; those used longest ago go first. 0: DefaultMaxBytes, below 0: nothing may stay
	MaxAge   time.Duration // since the last use. 0: DefaultMaxAge, below 0: any
}

// A found entry is what is in a directory of the cache; err says why it cannot be used.
type found struct {
	entry
	name string
	used time.Time
	err  error
}

// entries lists all entries, of whatever version of the unpacker, without using them.
func (c *cache) entries() ([]found, error) {
	list, err := os.ReadDir(filepath.Join(c.dir, entriesDir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot list the image cache: %w", err)
	}
	var all []found
	for _, d := range list {
		f := found{name: d.Name()}
		dir := filepath.Join(c.dir, entriesDir, d.Name())
		complete, fi, err := openRegular(filepath.Join(dir, completeFn), maxRecord)
		if err == nil {
			f.used = fi.ModTime()
			f.entry, err = readEntry(complete, fi)
			complete.Close()
		}
		f.dir, f.err = dir, err
		all = append(all, f)
	}
	return all, nil
}

// Images lists what is in the cache, what was used last first.
func (s *Store) Images(ctx context.Context) ([]CachedImage, error) {
	c, err := s.cache()
	if err != nil {
		return nil, err
	}
	return c.images(ctx)
}

func (c *cache) images(ctx context.Context) ([]CachedImage, error) {
	all, err := c.entries()
	if err != nil {
		return nil, err
	}
	var images []CachedImage
	for _, f := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		im := CachedImage{Ref: f.Ref, Digest: f.Digest, Bytes: f.Bytes, Used: f.used, Name: f.name}
		if f.err != nil {
			im.Ref, im.Digest = "", ""
		}
		if im.Bytes == 0 {
			im.Bytes = treeBytes(f.dir)
		}
		if lock, err := c.removable(f.dir); errors.Is(err, unix.EWOULDBLOCK) {
			im.InUse = true
		} else if lock != nil {
			lock.Close()
		}
		images = append(images, im)
	}
	slices.SortFunc(images, func(a, b CachedImage) int {
		return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Name, b.Name))
	})
	return images, nil
}

// removable takes the lock that nobody has while the entry is used. A file is nil if there is nothing to lock, because
// the entry is damaged.
func (c *cache) removable(dir string) (*os.File, error) {
	f, err := lockFile(filepath.Join(dir, completeFn), os.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func treeBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what cannot be read does not count
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}

// Prune removes images that nobody uses: first those that were used longest ago, until all others are within the
// bounds. It returns what it removed. Who needs one of them a moment later unpacks it again.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (removed []CachedImage, err error) {
	c, err := s.cache()
	if err != nil {
		return nil, err
	}
	c.sweep()
	images, err := c.images(ctx)
	if err != nil {
		return nil, err
	}
	o.MaxBytes, o.MaxAge = cmp.Or(o.MaxBytes, DefaultMaxBytes), cmp.Or(o.MaxAge, DefaultMaxAge)
	var total int64
	for _, im := range images {
		total += im.Bytes
	}
	now := time.Now()
	for _, im := range slices.Backward(images) {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		if total <= max(o.MaxBytes, 0) && (o.MaxAge < 0 || now.Sub(im.Used) <= o.MaxAge) && o.MaxBytes >= 0 {
			continue
		}
		gone, err := c.removeEntry(im.Name)
		if err != nil {
			return removed, fmt.Errorf("cannot remove image %s: %w", im.Name, err)
		}
		if gone {
			total -= im.Bytes
			removed = append(removed, im)
		}
	}
	return removed, nil
}

// removeEntry removes an entry unless it is used. It loses its name at once, and then its files; if that is interrupted,
// the next sweep goes on.
func (c *cache) removeEntry(name string) (gone bool, err error) {
	dir := filepath.Join(c.dir, entriesDir, name)
	lock, err := c.removable(dir)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if lock != nil {
		defer lock.Close() // after the rename: who waits for it looks again and finds nothing
	}
	if err := c.mkdirs(); err != nil {
		return false, err
	}
	trash, err := os.MkdirTemp(filepath.Join(c.dir, tmpDir), name+".")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(trash) // the next sweep goes on
	err = os.Rename(dir, filepath.Join(trash, "entry"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // somebody else did it
	}
	return err == nil, err
}
