package rootfs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// minMinor: the runner inside the sandbox is written for Python 3.9.
const minMinor = 9

// usualDirs are searched after the image's PATH, and are the PATH of an image that sets none.
var usualDirs = []string{"/usr/local/bin", "/usr/bin", "/bin"}

// findPython finds the interpreter of an unpacked tree: python3 in the directories of PATH, as a shell would, else the
// newest python3.x. It is not run. A version that cannot be told from names (a wrapper script) is accepted: the runner
// looks again.
func findPython(root string, env []string) (string, error) {
	dirs := usualDirs
	for _, kv := range env {
		if p, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = append(filepath.SplitList(p), usualDirs...)
		}
	}
	var old string
	for _, dir := range dirs {
		if !path.IsAbs(dir) {
			continue // relative to a working directory that is not the image's business
		}
		dir = path.Clean(dir)
		for _, name := range pythonNames(root, dir) {
			p := path.Join(dir, name)
			minor, ok := checkPython(root, p)
			if !ok {
				continue
			}
			if minor >= 0 && minor < minMinor {
				old = fmt.Sprintf(" (%s is 3.%d)", p, minor)
				continue
			}
			return p, nil
		}
	}
	return "", fmt.Errorf("%w in %s%s", ErrNoPython, strings.Join(dirs, ":"), old)
}

// pythonNames are the interpreters in a directory, in the order to try them.
func pythonNames(root, dir string) []string {
	real, err := securejoin.SecureJoin(root, dir)
	if err != nil {
		return nil
	}
	all, err := filepath.Glob(filepath.Join(escapeGlob(real), "python3*"))
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range all {
		if name := filepath.Base(p); name == "python3" || minorOf(name) >= 0 {
			names = append(names, name)
		}
	}
	rank := func(name string) int {
		if name == "python3" {
			return -1000
		}
		return -minorOf(name)
	}
	slices.SortFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

func escapeGlob(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}

// minorOf is the 12 of python3.12, or -1.
func minorOf(name string) int {
	digits, ok := strings.CutPrefix(name, "python3.")
	if !ok || len(digits) > 3 || strings.Trim(digits, "0123456789") != "" {
		return -1 // python3.12-config, for one
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}

// checkPython says whether p is an executable file in the end, and its minor version, -1 if that cannot be told. All
// links are resolved inside the root.
func checkPython(root, p string) (minor int, ok bool) {
	real, err := securejoin.SecureJoin(root, p)
	if err != nil {
		return 0, false
	}
	fi, err := os.Lstat(real)
	if err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0 {
		return 0, false
	}
	for _, name := range []string{filepath.Base(real), path.Base(p)} {
		if n := minorOf(name); n >= 0 {
			return n, true
		}
	}
	// Called plain python3: its library tells, in ../lib/python3.x.
	minor = -1
	rel := strings.TrimPrefix(real, filepath.Clean(root))
	for _, lib := range []string{"lib", "lib64"} {
		dir, err := securejoin.SecureJoin(root, path.Join(path.Dir(path.Dir(rel)), lib))
		if err != nil {
			continue
		}
		libs, err := filepath.Glob(filepath.Join(escapeGlob(dir), "python3.*", "os.py"))
		if err != nil {
			continue
		}
		for _, l := range libs {
			minor = max(minor, minorOf(filepath.Base(filepath.Dir(l))))
		}
	}
	return minor, true
}
