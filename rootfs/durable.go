package rootfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An entry is published before it is on the disk: waiting for that takes longer than unpacking (0.8 s for 160 MB). After a
// power failure files may then be empty that were full. So .complete has the kernel's boot_id, and an entry of another boot
// counts only if it has been marked as durable, which is done
//   - some seconds later in the background, after syncfs(2): by servers. A process that ends before does not wait;
//   - without it when the entry is so old that the kernel has written all of it long ago: by the next process;
//   - at once by Settle, for who is about to copy the cache somewhere else.
const (
	durableFn   = ".durable"
	settleAfter = 5 * time.Second
	settledAge  = 10 * time.Minute // the kernel writes what is older than half a minute
)

// durable says if an entry can be relied upon, and sees to it that this stays so.
func (c *cache) durable(e entry) bool {
	mark := filepath.Join(e.dir, durableFn)
	if _, err := os.Lstat(mark); err == nil {
		return true
	}
	if e.Boot == "" || e.Boot != bootID() {
		return e.Boot == "" // a system that has no such thing
	}
	if age := time.Since(time.Unix(e.Made, 0)); age > settledAge {
		markDurable(mark)
	} else {
		settling.later(c, e)
	}
	return true
}

func markDurable(mark string) {
	// Best effort: without it the image is unpacked again one day.
	if err := writeNew(mark, nil); err == nil {
		_ = os.Chmod(mark, 0o644) // as .complete
	}
}

// settle records what an entry consists of, brings it to the disk and marks it.
func (c *cache) settle(ctx context.Context, e entry) error {
	mark := filepath.Join(e.dir, durableFn)
	_, markErr := os.Lstat(mark)
	_, filesErr := os.Lstat(filepath.Join(e.dir, filesFn))
	if markErr == nil && filesErr == nil {
		return nil
	}
	if errors.Is(filesErr, fs.ErrNotExist) {
		if err := c.recordFiles(ctx, e); err != nil {
			return err
		}
	}
	if err := syncFS(e.dir); err != nil {
		return err
	}
	markDurable(mark)
	return nil
}

// settling are the entries of this process that are to be settled.
var settling = settleTable{timers: map[string]*time.Timer{}}

type settleTable struct {
	mu      sync.Mutex
	timers  map[string]*time.Timer // by directory of the entry; nil: done, or tried
	running sync.WaitGroup
}

func (t *settleTable) later(c *cache, e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.timers[e.dir]; ok {
		return
	}
	t.timers[e.dir] = time.AfterFunc(settleAfter, func() {
		t.mu.Lock()
		if t.timers[e.dir] == nil { // stopped meanwhile
			t.mu.Unlock()
			return
		}
		t.timers[e.dir] = nil
		t.running.Add(1)
		t.mu.Unlock()
		defer t.running.Done()
		if err := syncFS(e.dir); err != nil {
			c.log.Debug("cannot bring an image to the disk", "error", err)
			return
		}
		markDurable(filepath.Join(e.dir, durableFn))
	})
}

// stop forgets the entries of a cache, and waits for those that are being settled.
func (t *settleTable) stop(dir string) {
	t.mu.Lock()
	for d, timer := range t.timers {
		if strings.HasPrefix(d, dir+string(filepath.Separator)) {
			if timer != nil {
				timer.Stop()
			}
			delete(t.timers, d)
		}
	}
	t.mu.Unlock()
	t.running.Wait()
}

// Settle waits until all images in the cache are on the disk, and records what they consist of. It is for a command that
// downloads images, and for who saves the cache directory: an image that was not settled is unpacked again after the
// machine has been started anew, or on another one. Of a cache that this process may only read it settles nothing.
func (s *Store) Settle(ctx context.Context) error {
	c, err := s.cache()
	if err != nil {
		return err
	}
	all, err := c.entries()
	if isOthers(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.err == nil && (e.Boot == "" || e.Boot == bootID()) { // another boot's may have lost something
			if err := c.settle(ctx, e.entry); err != nil && !isOthers(err) {
				return err
			}
		}
	}
	return nil
}

// isOthers says that a cache may be used, but is not this process's to write to: who fills it settles it.
func isOthers(err error) bool { return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) }
