package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// uses are the entries that this process uses: a shared lock on .complete each, which ends with the process or with
// Store.Close. Who wants to remove an entry needs an exclusive one. It is a fact about the process and not about a Store,
// of which there may be several for one directory.
var uses = useTable{files: map[string]*os.File{}}

type useTable struct {
	mu    sync.Mutex
	files map[string]*os.File
}

// add begins to use the entry whose .complete has been opened as f, and takes over f. It is false if the entry has been
// removed meanwhile.
func (u *useTable) add(path string, f *os.File, fi fs.FileInfo) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.files[path]; old != nil {
		if ofi, err := old.Stat(); err == nil && os.SameFile(ofi, fi) {
			f.Close()
			return true
		}
		old.Close() // it was damaged, and has been made again
		delete(u.files, path)
	}
	err := flock(f, unix.LOCK_SH)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return true // a file system without locks: nobody can remove it either
	}
	if err == nil {
		if now, serr := os.Stat(path); serr == nil && os.SameFile(now, fi) {
			u.files[path] = f
			touch(path, fi)
			return true
		}
	}
	f.Close()
	return false
}

// release ends the use of all entries in a cache.
func (u *useTable) release(dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for path, f := range u.files {
		if strings.HasPrefix(path, dir+string(filepath.Separator)) {
			f.Close()
			delete(u.files, path)
		}
	}
}

// touchEvery is how exactly it is known when an entry was used last, which is the modification time of its .complete.
const touchEvery = time.Hour

func touch(path string, fi fs.FileInfo) {
	// Also if it is to be used last some day that is still to come: the clock was wrong then, and it would never be old.
	if now := time.Now(); now.Sub(fi.ModTime()).Abs() > touchEvery {
		_ = os.Chtimes(path, now, now) // a cache that is read only forgets nothing
	}
}

// flock tries to lock a file.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// lockFile opens a file and tries to lock it for us alone.
func lockFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close ends the use of the cache's images by this process: from here on they may be removed. It waits for what is done
// in the background.
func (s *Store) Close() error {
	c, err := s.cache()
	if err != nil {
		return err
	}
	settling.stop(c.dir)
	s.findings.forget()
	uses.release(c.dir)
	return nil
}
