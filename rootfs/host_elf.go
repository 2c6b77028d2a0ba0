package rootfs

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A linker finds shared libraries as the dynamic loader would.
type linker struct {
	machine elf.Machine
	class   elf.Class
	dirs    []string // searched after a file's own RPATH and RUNPATH
	rpath   []string // of the program: RPATH holds for what it loads too
}

// needs says what an ELF file wants: its interpreter (a path), and its libraries by name and by where it looks first.
// A file that is no ELF file of this linker's kind wants nothing.
func (l *linker) needs(path string) (interp string, libs, rpath []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", nil, nil, err
	}
	defer f.Close()
	if l.machine == 0 {
		l.machine, l.class = f.Machine, f.Class
	}
	if f.Machine != l.machine || f.Class != l.class {
		return "", nil, nil, fmt.Errorf("it is for %s, not %s", f.Machine, l.machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < maxPath {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return "", nil, nil, err
			}
			interp = strings.TrimRight(string(b), "\x00")
		}
	}
	if libs, err = f.ImportedLibraries(); err != nil {
		return "", nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return "", nil, nil, err
		}
		origin := strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path))
		for _, p := range paths {
			for _, dir := range filepath.SplitList(p) {
				rpath = append(rpath, filepath.Clean(origin.Replace(dir)))
			}
		}
	}
	return interp, libs, rpath, nil
}

// find returns where the library name is.
func (l *linker) find(name string, rpath []string) (string, bool) {
	if filepath.IsAbs(name) {
		return name, l.fits(name)
	}
	for _, dir := range slices.Concat(rpath, l.rpath, l.dirs) {
		if p := filepath.Join(dir, name); filepath.IsAbs(dir) && l.fits(p) {
			return p, true
		}
	}
	return "", false
}

func (l *linker) fits(path string) bool {
	if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() {
		return false
	}
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Machine == l.machine && f.Class == l.class
}

// loaderDirs are where this machine's loader looks: where it found what the interpreter has loaded, what ld.so.conf
// names (that is what the loader's cache is made from), and its built-in directories.
func loaderDirs(loaded []string) []string {
	var dirs []string
	for _, p := range loaded {
		dirs = append(dirs, filepath.Dir(p))
	}
	dirs = append(dirs, loaderConf("/etc/ld.so.conf", 0)...)
	for _, pattern := range []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*"} {
		if m, err := filepath.Glob(pattern); err == nil {
			dirs = append(dirs, m...)
		}
	}
	dirs = append(dirs, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
	seen := map[string]bool{}
	return slices.DeleteFunc(dirs, func(d string) bool {
		was := seen[d] || strings.Contains(d, "lib-dynload")
		seen[d] = true
		return was
	})
}

func loaderConf(path string, depth int) []string {
	b, err := readBounded(path, maxRecord)
	if err != nil || depth > 4 {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include "); ok {
			pattern = strings.TrimSpace(pattern)
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(path), pattern)
			}
			files, err := filepath.Glob(pattern)
			if err != nil {
				continue
			}
			for _, f := range files {
				dirs = append(dirs, loaderConf(f, depth+1)...)
			}
		} else if filepath.IsAbs(line) {
			dirs = append(dirs, filepath.Clean(line))
		}
	}
	return dirs
}
