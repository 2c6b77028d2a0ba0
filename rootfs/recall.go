package rootfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// findings are what references were found to stand for. A server asks the same for every call, and reading and decoding what
// says so takes a tenth of a small script's time; seeing that none of the files has changed does not. The zero value is ready.
type findings struct {
	mu sync.Mutex
	m  map[string]finding
}

// A finding is an entry with the files that led to it.
type finding struct {
	entry entry
	files []stamp
}

// A stamp is a file as it was seen; fi is nil if it was not there.
type stamp struct {
	path string
	fi   fs.FileInfo
}

func stampOf(path string) stamp {
	fi, err := os.Stat(path)
	if err != nil {
		fi = nil
	}
	return stamp{path, fi}
}

func (s stamp) same(o stamp) bool {
	if s.fi == nil || o.fi == nil {
		return s.fi == nil && o.fi == nil
	}
	return os.SameFile(s.fi, o.fi) && s.fi.Size() == o.fi.Size() && s.fi.ModTime().Equal(o.fi.ModTime())
}

// racy is how new a file may be for another write to it to have the same time.
const racy = 2 * time.Second

// settled says that a file which is changed from now on will be seen to have changed.
func (s stamp) settled(now time.Time) bool { return s.fi == nil || now.Sub(s.fi.ModTime()) > racy }

// recall returns what ref stood for, if all of what said so is as it was.
func (f *findings) recall(ref string) (entry, bool) {
	f.mu.Lock()
	found, ok := f.m[ref]
	f.mu.Unlock()
	return found.entry, ok && !slices.ContainsFunc(found.files, func(s stamp) bool { return !s.same(stampOf(s.path)) })
}

// note keeps an entry that was found after files had been looked at.
func (f *findings) note(ref string, e entry, files []stamp) {
	complete := stampOf(filepath.Join(e.dir, completeFn))
	now := time.Now()
	// One that was used long ago is looked up again, which says in the cache that it is used.
	if complete.fi == nil || now.Sub(complete.fi.ModTime()).Abs() > touchEvery || slices.ContainsFunc(files, func(s stamp) bool { return !s.settled(now) }) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[string]finding)
	}
	f.m[ref] = finding{e, append(files, complete)}
}

func (f *findings) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.m)
}

// witnesses looks at the files that say what a reference stands for: those which Ensure reads when it is in the cache. None is
// for what is found out in another way.
func (s *Store) witnesses(c *cache, ref reference) []stamp {
	var files []string
	switch ref.kind {
	case kindRegistry:
		files = []string{filepath.Join(c.dir, refsDir, memoFile(memoKey(ref.name)))}
	case kindLayout:
		files = []string{filepath.Join(ref.path, ispec.ImageIndexFile)}
	default:
		return nil
	}
	var stamps []stamp
	for _, f := range append(files, policyFiles(s.etcDir())...) {
		stamps = append(stamps, stampOf(f))
	}
	return stamps
}
