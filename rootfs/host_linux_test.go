package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const ispecLayout = ispec.ImageLayoutFile

// hostProgram imports what people import, in the tree of a snapshot, and uses what needs more than the interpreter.
const hostProgram = `
import sys, os
assert os.getuid() == 65534
import json, asyncio, ctypes, ssl, sqlite3, decimal, hashlib, lzma, bz2, zlib, subprocess, socket, uuid, csv, re
import multiprocessing, threading, concurrent.futures, urllib.request, email, http.server, unittest, xml.etree.ElementTree
import random, datetime, statistics, fractions, itertools, functools, tempfile, shutil, zipfile, tarfile, logging, pickle
ctypes.CDLL(None).getpid()
assert subprocess.check_output("echo hi", shell=True) == b"hi\n"
asyncio.run(asyncio.sleep(0))
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
assert hashlib.sha256(b"").hexdigest().startswith("e3b0")
with concurrent.futures.ThreadPoolExecutor() as pool: assert list(pool.map(abs, [-1])) == [1]
import importlib.util
c = importlib.util.cache_from_source(json.__file__)
assert os.path.exists(c), c
assert not any("site-packages" in f or "dist-packages" in f for f in os.listdir(os.path.dirname(os.__file__)))
print("%d.%d" % sys.version_info[:2], sys.executable)
`

// runHost runs the interpreter of a snapshot inside it, as nobody.
func runHost(t *testing.T, tree Tree) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
	cmd := exec.CommandContext(t.Context(), tree.Python, "-I", "-c", hostProgram)
	cmd.Dir = "/"
	cmd.Env = tree.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: tree.Path, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s", tree.Python, tree.Path, err, out)
	}
	if !strings.HasSuffix(strings.TrimSpace(string(out)), tree.Python) {
		t.Errorf("it says %q, want %s", out, tree.Python)
	}
}

func interpreters(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		found["system"] = "/usr/bin"
	}
	home, _ := os.UserHomeDir()
	for _, v := range []string{"3.9", "3.12", "3.13"} {
		if m, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions", v+".*/bin")); len(m) > 0 {
			found["pyenv "+v] = m[len(m)-1]
		}
	}
	return found
}

func TestEnsureHost(t *testing.T) {
	all := interpreters(t)
	if len(all) == 0 {
		skip(t, "no python3 on this machine")
	}
	for name, bin := range all {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", bin+":/usr/bin:/bin")
			s := newStore(t)
			tree, err := s.Ensure(t.Context(), "host")
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(bin, "python3"); tree.Python != want {
				t.Errorf("the interpreter is %s, want %s", tree.Python, want)
			}
			checkClean(t, s, 1)
			checkHostTree(t, tree, bin)
			if os.Geteuid() == 0 {
				runHost(t, tree)
			}
			again, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), "host")
			if diff := cmp.Diff(tree, again); diff != "" || err != nil {
				t.Errorf("again: %v\n%s", err, diff)
			}
		})
	}
}

// checkHostTree looks for what may not be in a snapshot.
func checkHostTree(t *testing.T, tree Tree, bin string) {
	t.Helper()
	prefix := filepath.Dir(bin)
	err := filepath.WalkDir(tree.Path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		in := "/" + strings.TrimPrefix(strings.TrimPrefix(p, tree.Path), "/")
		switch name := d.Name(); {
		case name == "site-packages", name == "dist-packages", name == "ensurepip", strings.HasPrefix(name, "_tkinter."):
			t.Errorf("%s is there", in)
		case !d.IsDir() && d.Type() != 0 && d.Type() != fs.ModeSymlink, fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
			t.Errorf("%s is %v", in, fi.Mode())
		case d.Type() == 0 && fi.Mode().Perm()&0o444 != 0o444, d.IsDir() && fi.Mode().Perm() != 0o755:
			t.Errorf("%s is %v", in, fi.Mode())
		case strings.HasPrefix(in, "/root/") || strings.HasPrefix(in, "/home/"):
			if !strings.HasPrefix(in, prefix+"/") && !strings.HasPrefix(prefix+"/", in+"/") {
				t.Errorf("%s is private", in)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestEnsureHostRefresh: the interpreter is run when something that decides about it changed, and only then.
func TestEnsureHostRefresh(t *testing.T) {
	real, err := exec.LookPath("/usr/bin/python3")
	if err != nil {
		t.Skip("no /usr/bin/python3")
	}
	// A shim, as pyenv has them: a script that decides by a file. It counts how often it is run.
	dir := t.TempDir()
	t.Chdir(dir)
	log := filepath.Join(dir, "runs")
	script := "#!/bin/sh\necho run >>" + log + "\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	t.Setenv("PYENV_VERSION", "")
	s := newStore(t)
	runs := 0
	for i, step := range []struct {
		change func()
		runs   int
	}{
		{func() {}, 1},
		{func() {}, 0},
		{func() { t.Setenv("PYENV_VERSION", "3.12.1") }, 1},
		{func() {}, 0},
		{func() { os.WriteFile(filepath.Join(dir, ".python-version"), []byte("3.12\n"), 0o644) }, 1},
		{func() { os.WriteFile(filepath.Join(dir, "python3"), []byte(script+"#\n"), 0o755) }, 1},
		{func() {}, 0},
	} {
		step.change()
		if _, err := s.Ensure(t.Context(), "host"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "run"); n-runs != step.runs {
			t.Errorf("step %d: the interpreter was run %d times, want %d", i, n-runs, step.runs)
		} else {
			runs = n
		}
	}
	checkClean(t, s, 1) // the same interpreter in the end
}

func TestHostNote(t *testing.T) {
	dir := t.TempDir()
	input := filepath.Join(dir, "python3")
	if err := os.WriteFile(input, []byte("1"), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := newInput(input)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot{inputs: []hostInput{in}}
	note := filepath.Join(dir, "n")
	if err := writeNote(note, s); err != nil {
		t.Fatal(err)
	}
	if d, ok := readNote(note); !ok || d != s.digest() {
		t.Errorf("got %s %v", d, ok)
	}
	if err := os.Chtimes(input, testTime, testTime); err != nil {
		t.Fatal(err)
	}
	if _, ok := readNote(note); ok {
		t.Error("a changed interpreter is not seen")
	}
}

func TestEnsureHostNone(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	if _, err := newStore(t).Ensure(t.Context(), "host"); !errors.Is(err, ErrNoPython) {
		t.Errorf("got %v", err)
	}
	// Something that is called python3 and is not.
	for name, script := range map[string]string{"fails": "#!/bin/sh\nexit 3\n", "babbles": "#!/bin/sh\necho hello\n", "floods": "#!/bin/sh\nexec /usr/bin/yes\n"} {
		if err := os.WriteFile(filepath.Join(empty, "python3"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := newStore(t).Ensure(t.Context(), "host"); !errors.Is(err, ErrNoPython) || !strings.Contains(err.Error(), empty) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSnapshotLinks(t *testing.T) {
	dir := t.TempDir()
	s := &snapshot{items: map[string]hostItem{}}
	for _, l := range [][2]string{{"a", "b"}, {"b", "a"}} {
		if err := os.Symlink(l[1], filepath.Join(dir, l[0])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.add(filepath.Join(dir, "a")); err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Errorf("got %v", err)
	}
	if _, err := s.add("relative"); err == nil {
		t.Error("a relative path is taken")
	}
	if got := loaderConf(filepath.Join(dir, "none"), 0); got != nil {
		t.Errorf("got %v", got)
	}
	conf := filepath.Join(dir, "ld.so.conf")
	os.WriteFile(conf, []byte("# x\ninclude d/*.conf\n/opt/lib/ # y\nrelative\ninclude ld.so.conf\n"), 0o644)
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	os.WriteFile(filepath.Join(dir, "d/1.conf"), []byte("/usr/local/lib\n"), 0o644)
	if got := loaderConf(conf, 0); !slices.Equal(got[:2], []string{"/usr/local/lib", "/opt/lib"}) {
		t.Errorf("got %v", got)
	}
}
