package rootfs

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
)

// ensureHost makes the tree of "host": this machine's Python with its standard library and the shared libraries it
// needs, copied once. Nothing else of the machine is in it: no site-packages, no home directory beyond the names of
// the directories that lead to the interpreter. A copy and not live mounts, because those would show all of /usr, its
// setuid programs too, and change under a running sandbox.
func ensureHost(ctx context.Context, c *cache) (entry, error) {
	if !canSnapshot {
		return entry{}, fmt.Errorf("cannot make a snapshot of this machine's Python: containers need that of a Linux machine: %w", ErrUnsupportedRef)
	}
	key, err := hostKey()
	if err != nil {
		return entry{}, err
	}
	note := filepath.Join(c.dir, refsDir, "host-"+key)
	if d, ok := readNote(note); ok {
		if e, ok := c.lookup(d); ok {
			return e, nil
		}
	}

	p, err := probeHost(ctx)
	if err != nil {
		return entry{}, err
	}
	s, err := planSnapshot(p)
	if err != nil {
		return entry{}, fmt.Errorf("cannot make a snapshot of %s: %w", p.Executable, err)
	}
	e, err := c.populate(ctx, s.digest(), func(ctx context.Context, st staging) (entry, error) {
		if err := s.copy(ctx, st.root); err != nil {
			return entry{}, err
		}
		return entry{Python: s.python, Env: hostEnv(s.python), Ref: "host"}, nil
	})
	if err != nil {
		return entry{}, fmt.Errorf("cannot make a snapshot of %s: %w", p.Executable, err)
	}
	if err := writeNote(note, s); err != nil {
		c.log.Warn("cannot note what this machine's Python looks like", "error", err)
	}
	return e, nil
}

func hostEnv(python string) []string {
	dirs := usualDirs
	if dir := filepath.Dir(python); !slices.Contains(dirs, dir) {
		dirs = append([]string{dir}, dirs...)
	}
	return []string{"PATH=" + strings.Join(dirs, ":"), "LANG=C.UTF-8"}
}

// hostKey stands for the choice of an interpreter, without running any: the python3 on PATH, and, where that is a
// script (a pyenv, asdf or mise shim), what such scripts look at.
func hostKey() (string, error) {
	h := sha256.New()
	add := func(path string) {
		fi, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(h, "%q -\n", path)
			return
		}
		fmt.Fprintf(h, "%q %d %d\n", path, fi.Size(), fi.ModTime().UnixNano())
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		path = "" // there may still be a python3.x
	}
	fmt.Fprintf(h, "v%d %q %q\n", unpackerVersion, os.Getenv("PATH"), path)
	add(path)
	add(filepath.Join(filepath.Dir(path), "../pyvenv.cfg")) // of a virtual environment: it names the interpreter
	if path == "" || !isELF(path) {
		home, _ := os.UserHomeDir() // without one there are no files in it
		cwd, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("cannot tell which python3 is meant here: %w", err)
		}
		for _, kv := range os.Environ() {
			for _, manager := range []string{"PYENV_", "ASDF_", "MISE_", "RTX_", "CONDA_"} {
				if strings.HasPrefix(kv, manager) {
					fmt.Fprintf(h, "%q\n", kv)
				}
			}
		}
		for _, f := range []string{".pyenv/version", ".tool-versions", ".config/mise/config.toml"} {
			add(filepath.Join(home, f))
		}
		add(filepath.Join(os.Getenv("PYENV_ROOT"), "version"))
		for dir := cwd; ; dir = filepath.Dir(dir) {
			for _, f := range []string{".python-version", ".tool-versions", "mise.toml", ".mise.toml"} {
				add(filepath.Join(dir, f))
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = f.ReadAt(magic[:], 0)
	return err == nil && string(magic[:]) == elf.ELFMAG
}

// A hostNote remembers which snapshot an interpreter became, and what would have to change for another one.
type hostNote struct {
	Digest digest.Digest `json:"digest"`
	Inputs []hostInput   `json:"inputs"`
}

type hostInput struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"`
}

func newInput(path string) (hostInput, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return hostInput{}, err
	}
	in := hostInput{Path: path, Mtime: fi.ModTime().UnixNano()}
	if fi.Mode().IsRegular() {
		in.Size = fi.Size()
	}
	return in, nil
}

// readNote returns the snapshot's digest if nothing changed since.
func readNote(path string) (digest.Digest, bool) {
	b, err := readBounded(path, maxRecord)
	if err != nil {
		return "", false
	}
	var n hostNote
	if json.Unmarshal(b, &n) != nil || n.Digest.Validate() != nil || len(n.Inputs) == 0 {
		return "", false
	}
	for _, in := range n.Inputs {
		if now, err := newInput(in.Path); err != nil || now != in {
			return "", false
		}
	}
	return n.Digest, true
}

func writeNote(path string, s *snapshot) error {
	b, err := json.Marshal(hostNote{Digest: s.digest(), Inputs: s.inputs})
	if err != nil {
		return err
	}
	return atomicfile.Replace(path, atomicfile.Bytes(b))
}
