package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A snapshot is the list of what to copy: every path is the same in the tree as on the machine, because an interpreter
// finds its library by its own prefix. All paths are real ones; links on the way are items of their own.
type snapshot struct {
	python string
	items  map[string]hostItem
	inputs []hostInput // what tells that the machine's Python changed
	link   linker
	bytes  int64
}

type hostItem struct {
	mode    fs.FileMode // type, and 0755 or 0644: modes are not taken over, a home directory may be 0700
	size    int64
	mtime   int64
	target  string // of a link
	content string // of a file that is not copied but made
}

// planSnapshot decides what is in the snapshot. It only looks.
func planSnapshot(p hostPython) (*snapshot, error) {
	s := &snapshot{items: map[string]hostItem{}, link: linker{dirs: loaderDirs(p.Libs)}}
	exe, err := s.add(p.Executable)
	if err != nil {
		return nil, err
	}
	elves := []string{exe}

	// The names that people use. The plain one is what a sandbox runs.
	s.python = p.Executable
	for _, name := range []string{fmt.Sprintf("python3.%d", p.Version[1]), "python", "python3"} {
		path := filepath.Join(p.Prefix, "bin", name)
		if real, err := filepath.EvalSymlinks(path); err == nil && real == exe {
			if _, err := s.add(path); err != nil {
				return nil, err
			}
			s.python = path
		}
	}

	for _, dir := range p.Stdlib {
		found, err := s.addLibrary(dir, p)
		if err != nil {
			return nil, err
		}
		elves = append(elves, found...)
	}
	for _, zip := range p.Zip {
		if fi, err := os.Stat(zip); err == nil && fi.Mode().IsRegular() {
			if _, err := s.add(zip); err != nil {
				return nil, err
			}
		}
	}
	// A shell for subprocess(shell=True). Small where it is dash or busybox.
	if real, err := filepath.EvalSymlinks("/bin/sh"); err == nil && isELF(real) {
		if _, err := s.add("/bin/sh"); err == nil {
			elves = append(elves, real)
		}
	}
	if err := s.addLibs(elves); err != nil {
		return nil, err
	}
	// A locale of UTF-8, and what zoneinfo reads.
	for _, dir := range []string{"/usr/lib/locale/C.utf8", "/usr/share/zoneinfo"} {
		if _, err := s.addLibrary(dir, p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	s.made("/etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
	s.made("/etc/group", "root:x:0:\nnobody:x:65534:\n")
	s.made("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")

	if len(s.items) > maxHostFiles || s.bytes > maxHostBytes {
		return nil, fmt.Errorf("%w: %d files, %d bytes", errBound, len(s.items), s.bytes)
	}
	return s, s.addInputs(p, exe)
}

// addInputs notes what would change with a new version: packages replace files, which changes their directory's time.
func (s *snapshot) addInputs(p hostPython, exe string) error {
	paths := append(slices.Clone(p.Stdlib), p.Dynload...)
	for path, it := range s.items {
		if it.mode.IsRegular() && it.content == "" && (path == exe || strings.Contains(filepath.Base(path), ".so") && !strings.Contains(path, "lib-dynload")) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		in, err := newInput(path)
		if err != nil {
			return err
		}
		s.inputs = append(s.inputs, in)
	}
	return nil
}

// digest identifies the snapshot without reading what is in it.
func (s *snapshot) digest() digest.Digest {
	d := digest.SHA256.Digester()
	fmt.Fprintf(d.Hash(), "host v%d %q\n", unpackerVersion, s.python)
	for _, path := range slices.Sorted(maps.Keys(s.items)) {
		it := s.items[path]
		fmt.Fprintf(d.Hash(), "%q %o %d %d %q %q\n", path, it.mode, it.size, it.mtime, it.target, it.content)
	}
	return d.Digest()
}

func (s *snapshot) made(path, content string) {
	s.dirs(filepath.Dir(path))
	s.items[path] = hostItem{mode: 0o644, content: content}
}

func (s *snapshot) dirs(path string) {
	for ; path != "/"; path = filepath.Dir(path) {
		if _, ok := s.items[path]; ok {
			return
		}
		s.items[path] = hostItem{mode: fs.ModeDir | 0o755}
	}
}

// add plans a file (or an empty directory) and every link and directory on the way to it; it returns its real path.
func (s *snapshot) add(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("cannot copy %q: it is not an absolute path", path)
	}
	rest := strings.Split(filepath.Clean(path)[1:], "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		p := filepath.Join(at, rest[0])
		rest = rest[1:]
		fi, err := os.Lstat(p)
		if err != nil {
			return "", err
		}
		switch {
		case fi.Mode().Type() == fs.ModeSymlink:
			if links++; links > 40 {
				return "", fmt.Errorf("cannot copy %s: too many links", path)
			}
			target, err := os.Readlink(p)
			if err != nil {
				return "", err
			}
			s.dirs(at)
			s.items[p] = hostItem{mode: fs.ModeSymlink, target: target}
			// Not cleaned as a whole: "a/.." is not "." where a is a link. at is real, so its parent is.
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.FieldsFunc(target, func(r rune) bool { return r == '/' }), rest...)
		case fi.IsDir():
			at = p
		case fi.Mode().IsRegular() && len(rest) == 0:
			return p, s.addFile(p, fi)
		default:
			return "", fmt.Errorf("cannot copy %s: %s is not a file", path, p)
		}
	}
	s.dirs(at)
	return at, nil
}

func (s *snapshot) addFile(path string, fi fs.FileInfo) error {
	for _, hidden := range []string{"/dev/", "/proc/", "/tmp/", "/workspace/", "/sys/"} {
		if strings.HasPrefix(path, hidden) {
			return fmt.Errorf("%s cannot be seen inside a sandbox, which has a %s of its own", path, filepath.Clean(hidden))
		}
	}
	if _, ok := s.items[path]; ok {
		return nil
	}
	mode := fs.FileMode(0o644)
	if fi.Mode().Perm()&0o111 != 0 {
		mode = 0o755
	}
	s.dirs(filepath.Dir(path))
	s.items[path] = hostItem{mode: mode, size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	s.bytes += fi.Size()
	return nil
}

// addLibrary plans a directory of the standard library and returns the extension modules in it.
func (s *snapshot) addLibrary(dir string, p hostPython) (modules []string, err error) {
	dir, err = s.add(dir)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case path == dir:
		case leftOut(d, p.CacheTag):
			if d.IsDir() {
				return filepath.SkipDir
			}
		case d.Type() == fs.ModeSymlink:
			return s.addLibraryLink(dir, path)
		case d.Type().IsRegular():
			fi, err := d.Info()
			if err != nil {
				return err
			}
			if strings.HasSuffix(path, ".so") {
				modules = append(modules, path)
			}
			return s.addFile(path, fi)
		}
		return nil
	})
	return modules, err
}

// addLibraryLink follows a link out of the library only to where distributions put a part of it; whatever else
// somebody linked there (their own project, say) stays outside.
func (s *snapshot) addLibraryLink(dir, path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil // it leads nowhere on the machine either
	}
	for _, ok := range []string{dir + "/", "/etc/python3", "/usr/lib/python3", "/usr/share/python"} {
		if fi, err := os.Stat(real); strings.HasPrefix(real, ok) && err == nil && fi.Mode().IsRegular() {
			_, err := s.add(path)
			return err
		}
	}
	return nil
}

// leftOut says what of a standard library is not copied: what pip put there, tests, what needs a display, installers,
// what only a C compiler needs, and byte code of other versions or levels.
func leftOut(d fs.DirEntry, cacheTag string) bool {
	name := d.Name()
	if d.IsDir() {
		return slices.Contains([]string{
			"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "tkinter", "turtledemo", "ensurepip",
		}, name) || strings.HasPrefix(name, "config-")
	}
	switch filepath.Ext(name) {
	case ".pyc":
		return !strings.HasSuffix(name, "."+cacheTag+".pyc")
	case ".so":
		for _, prefix := range []string{"_test", "_tkinter", "_xx", "xx", "_ctypes_test"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	case ".a", ".o", ".exe":
		return true
	}
	return false
}

// addLibs plans the loader and the shared libraries that elves need, and those need, and so on. The first of elves is
// the interpreter: what that needs has to be there, while a machine may have modules whose library is missing.
func (s *snapshot) addLibs(elves []string) error {
	exe := elves[0]
	seen := map[string]bool{}
	required := map[string]bool{exe: true}
	for len(elves) > 0 {
		path := elves[0]
		elves = elves[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		interp, libs, rpath, err := s.link.needs(path)
		if err != nil {
			if required[path] {
				return fmt.Errorf("cannot read %s: %w", path, err)
			}
			continue
		}
		if path == exe {
			s.link.rpath = rpath
			libs = append(libs, "libgcc_s.so.1") // glibc loads it by name when a thread ends early
		}
		if interp != "" {
			libs = append(libs, interp)
		}
		for _, name := range libs {
			found, ok := s.link.find(name, rpath)
			if !ok {
				if required[path] && name != "libgcc_s.so.1" {
					return fmt.Errorf("cannot find the shared library %s that %s needs", name, path)
				}
				continue
			}
			real, err := s.add(found)
			if err != nil {
				return err
			}
			required[real] = required[real] || required[path]
			elves = append(elves, real)
		}
	}
	return nil
}
