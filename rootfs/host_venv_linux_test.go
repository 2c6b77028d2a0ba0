package rootfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// outsideTmp is a directory that may be seen in a sandbox, which has a /tmp of its own.
func outsideTmp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// makeVenv makes a virtual environment of the interpreter in bin, with a module of its own.
func makeVenv(t *testing.T, bin, dir string, command ...string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], dir)...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":/usr/bin:/bin", "UV_CACHE_DIR="+t.TempDir(), "UV_OFFLINE=1", "UV_PYTHON_DOWNLOADS=never")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	site, err := filepath.Glob(filepath.Join(dir, "lib/python3.*/site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatalf("the virtual environment has %v", site)
	}
	if err := os.WriteFile(filepath.Join(site[0], "leaked.py"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// venvTools are the ways to make a virtual environment here. uv is there where somebody has put it (`pip install uv`).
func venvTools(t *testing.T) map[string]func(bin string) []string {
	t.Helper()
	tools := map[string]func(bin string) []string{
		"venv": func(bin string) []string { return []string{bin + "/python3", "-m", "venv", "--without-pip"} },
		"venv --copies": func(bin string) []string {
			return []string{bin + "/python3", "-m", "venv", "--without-pip", "--copies"}
		},
	}
	uv := os.Getenv("UV")
	if uv == "" {
		uv, _ = exec.LookPath("uv")
	}
	if uv == "" {
		t.Log("uv is not on PATH: its virtual environments are not tried")
		return tools
	}
	tools["uv venv"] = func(bin string) []string {
		return []string{uv, "venv", "--quiet", "--no-project", "--no-config", "--python", bin + "/python3"}
	}
	return tools
}

// TestEnsureHostVenv: behind a virtual environment stands the interpreter that it was made of, and that is what is copied,
// without what is installed in either. Another interpreter behind the same path is seen.
func TestEnsureHostVenv(t *testing.T) {
	all := interpreters(t)
	if len(all) == 0 {
		skip(t, "no python3 on this machine")
	}
	if len(all) > 2 {
		delete(all, "pyenv 3.12") // the others are older and newer, and each takes seconds
	}
	for tool, command := range venvTools(t) {
		t.Run(tool, func(t *testing.T) {
			s, venv := newStore(t), filepath.Join(outsideTmp(t), "env")
			t.Setenv("PATH", venv+"/bin:/usr/bin:/bin")
			trees := map[string]string{}
			for name, bin := range all {
				makeVenv(t, bin, venv, command(bin)...)
				tree, err := s.Ensure(t.Context(), "host")
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if other := trees[tree.Digest]; other != "" {
					t.Errorf("%s is the same tree as %s", name, other)
				}
				trees[tree.Digest] = name
				checkHostTree(t, tree, bin)
				checkNothingOf(t, tree, "leaked.py", "pyvenv.cfg")
				if os.Geteuid() == 0 {
					runHost(t, tree)
				}
				// Up to Python 3.10 a copy does not know without site what it is a copy of.
				copied := strings.HasSuffix(tool, "--copies") && (strings.Contains(name, "3.9") || strings.Contains(name, "3.10"))
				if want := filepath.Join(bin, "python3"); tree.Python != want && !copied {
					t.Errorf("%s: the interpreter is %s, want %s", name, tree.Python, want)
				}
				again, err := s.Ensure(t.Context(), "host")
				if err != nil || again.Digest != tree.Digest {
					t.Errorf("%s, again: %s and not %s, %v", name, again.Digest, tree.Digest, err)
				}
			}
			checkClean(t, s, len(all))
		})
	}
}

func checkNothingOf(t *testing.T, tree Tree, names ...string) {
	t.Helper()
	err := filepath.WalkDir(tree.Path, func(path string, d fs.DirEntry, err error) error {
		for _, name := range names {
			if d != nil && d.Name() == name {
				t.Errorf("%s is there", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestEnsureHostStandalone: an interpreter as python-build-standalone makes them, and uv and mise install them: it finds
// its libpython by its own place and its library by a landmark, was built for a prefix that is not here, and is called by
// a link in ~/.local/bin. It is made of one of pyenv's.
func TestEnsureHostStandalone(t *testing.T) {
	real, all := "", interpreters(t)
	for _, name := range []string{"pyenv 3.9", "pyenv 3.12", "pyenv 3.13"} {
		if libs, _ := filepath.Glob(filepath.Join(all[name], "../lib/libpython3.*.so.1.0")); len(libs) == 1 {
			real = filepath.Dir(all[name])
		}
	}
	if real == "" {
		t.Skip("no interpreter with a libpython of its own under ~/.pyenv, which this could be made of")
	}
	lib, _ := filepath.Glob(filepath.Join(real, "lib/python3.*"))
	version := filepath.Base(lib[0])

	home := outsideTmp(t)
	prefix := filepath.Join(home, ".local/share/uv/python", "cpython-"+version+"-linux-x86_64-gnu")
	for _, dir := range []string{"bin", "lib"} {
		if err := os.MkdirAll(filepath.Join(prefix, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.ReadFile(filepath.Join(real, "bin", version))
	if err != nil {
		t.Fatal(err)
	}
	runpath := append([]byte(real+"/lib"), 0)
	if bytes.Count(exe, runpath) == 0 {
		t.Skipf("%s finds its libpython otherwise", real)
	}
	origin := append([]byte("$ORIGIN/../lib"), make([]byte, len(runpath)-len("$ORIGIN/../lib"))...)
	exe = bytes.ReplaceAll(exe, runpath, origin)
	if err := os.WriteFile(filepath.Join(prefix, "bin", version), exe, 0o755); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(real, "lib"), filepath.Join(prefix, "lib"), "site-packages", "test", "pkgconfig", "idlelib", "tkinter")
	if err := os.MkdirAll(filepath.Join(home, ".local/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range [][2]string{
		{version, filepath.Join(prefix, "bin/python3")},
		{"python3", filepath.Join(prefix, "bin/python")},
		{filepath.Join(prefix, "bin", version), filepath.Join(home, ".local/bin/python3")},
	} {
		if err := os.Symlink(l[0], l[1]); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(home, ".local/bin")+":/usr/bin:/bin")
	t.Setenv("HOME", home)
	tree, err := newStore(t).Ensure(t.Context(), "host")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(prefix, "bin/python3"); tree.Python != want {
		t.Errorf("the interpreter is %s, want %s", tree.Python, want)
	}
	checkHostTree(t, tree, filepath.Join(prefix, "bin"))
	if _, err := os.Lstat(filepath.Join(tree.Path, real)); err == nil {
		t.Errorf("%s is there, which it was built for", real)
	}
	if _, err := os.Stat(filepath.Join(tree.Path, prefix, "lib", fmt.Sprintf("lib%s.so.1.0", version))); err != nil {
		t.Error(err)
	}
	if os.Geteuid() == 0 {
		tree.Env = append(tree.Env, "LD_ORIGIN_PATH="+filepath.Join(prefix, "bin")) // a sandbox has /proc, which says so
		runHost(t, tree)
	}
}

// copyTree copies directories, files and links, but for those of some names.
func copyTree(t *testing.T, from, to string, without ...string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, name := range without {
			if d.IsDir() && d.Name() == name {
				return fs.SkipDir
			}
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch dest := filepath.Join(to, rel); {
		case d.IsDir():
			return os.MkdirAll(dest, 0o755)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, dest)
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(dest, b, 0o755); err != nil {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			return os.Chtimes(dest, fi.ModTime(), fi.ModTime()) // a .pyc is valid for its source's
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
