package main

import (
	"crypto/sha256"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// TestWarm: an image without .pyc files, as official ones are, gets the same ones each time, and runs use them.
func TestWarm(t *testing.T) {
	needSandbox(t)
	images := newerPythons(t)
	images["usual"] = testImage()
	for name, image := range images {
		t.Run(name, func(t *testing.T) { testWarm(t, image) })
	}
}

func testWarm(t *testing.T, image string) {
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-warm-")
	if err != nil {
		t.Fatal(err)
	}
	defer removeAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	store := &rootfs.Store{Dir: filepath.Join(dir, "cache")}
	tree, err := store.Ensure(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	compiled := func(remove bool) map[string][32]byte {
		found := make(map[string][32]byte)
		err := filepath.WalkDir(tree.Path, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(p, ".pyc") {
				return err
			}
			b, err := os.ReadFile(p)
			found[p] = sha256.Sum256(b)
			if remove && err == nil {
				err = os.Remove(p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	compiled(true)
	launcher, err := launcherFor(config.Config{Runtime: os.Getenv(config.EnvRuntime)})
	if err != nil {
		t.Fatal(err)
	}
	l := launcher(host.Options{StateDir: filepath.Join(dir, "state"), AllowWeakLimits: true})
	defer l.Close()
	user := oci.User{UID: 65534, GID: 65534}
	var first map[string][32]byte
	for range 2 {
		n, err := warm(t.Context(), l, store, tree, user, slog.New(slog.DiscardHandler))
		if n < 300 || err != nil {
			t.Fatalf("%d modules, %v", n, err)
		}
		if n, err := warm(t.Context(), l, store, tree, user, slog.New(slog.DiscardHandler)); n != 0 || err != nil {
			t.Errorf("once more: %d modules, %v", n, err)
		}
		if first == nil {
			first = compiled(true)
			if err := os.RemoveAll(tree.Aux); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(tree.Aux, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	if second := compiled(false); !maps.Equal(first, second) {
		differ := 0
		for p := range first {
			if first[p] != second[p] {
				differ++
				t.Logf("%s differs", p)
			}
		}
		t.Errorf("%d and %d modules, %d of them differ", len(first), len(second), differ)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	script := "import json\nd = open(json.__spec__.cached, 'rb').read()\nprint(d[4:8].hex())"
	exit, err := l.Run(t.Context(), oci.Container{
		ID: "warm-test", Rootfs: tree.Path, User: user, Args: []string{tree.Python, "-I", "-c", script},
		Limits: oci.Limits{Memory: 256 << 20, Pids: 32},
	}, oci.Streams{Stdout: w})
	w.Close()
	b := make([]byte, 100)
	n, _ := out.Read(b)
	// Flags of PEP 552: by hash, and not checked.
	if err != nil || exit.Code != 0 || string(b[:n]) != "01000000\n" {
		t.Errorf("%v, exit %+v, %q", err, exit, b[:n])
	}
}
