//go:build linux && cgo

// Package probes has no code: its tests attack the sandbox from inside, through the real bridge and the real launcher,
// and look from the host at what came of it. testdata/inproc.py tries 205 ways out, testdata/dos to exhaust the host,
// testdata/proto to fool it through the channel; testdata/packages is what must work in spite of all that.
package probes

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/libct"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// The test binary plays others too: the init of each container, a process of the host that nothing may happen to, and,
// started by root, the same tests as a user.
const (
	roleEnv   = "PROBES_ROLE"
	treeEnv   = "PROBES_TREE"   // a rootfs.Tree, made by whoever started this
	scoresEnv = "PROBES_SCORES" // a file for the scores of this process
	// mappingEnv is how this process gets its containers' ids.
	mappingEnv = "PROBES_MAPPING"
	bystander  = "bystander"
	// secretEnv is for the guest to find, should the host's environment get to it.
	secretEnv = "PROBE_HOST_SECRET_TOKEN"
)

var update = flag.Bool("update", false, "write docs/probes.md and the scores in SECURITY.md; with all tests (MCP_BRIDGE_PROBES=all, as root), from what they find")

// tree is what every test's containers run from, but those that need packages.
var tree rootfs.Tree

func TestMain(m *testing.M) {
	libct.Init()
	if os.Getenv(roleEnv) == bystander {
		// It ends when its standard input does, which is when its parent ends, at the latest.
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	// Before Seal, whose exec puts it where /proc/PID/environ shows it.
	os.Setenv(secretEnv, canaryName())
	if err := libct.Seal(); err != nil { // so that starts are as in the product
		fmt.Fprintln(os.Stderr, "cannot seal the test binary:", err)
		os.Exit(1)
	}
	flag.Parse()
	code, err := play(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func play(m *testing.M) (code int, err error) {
	if given := os.Getenv(treeEnv); given != "" {
		if err := json.Unmarshal([]byte(given), &tree); err != nil {
			return 1, err
		}
	} else {
		dir, err := openDir("")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		if tree, err = ensure(dir, imageRef()); err != nil {
			return 1, fmt.Errorf("cannot make a root directory for the tests: %w", err)
		}
	}
	code = m.Run()
	if file := os.Getenv(scoresEnv); file != "" {
		b, err := json.Marshal(scores.all())
		return code, errors.Join(err, os.WriteFile(file, b, 0o600))
	}
	if *update && code == 0 {
		err = writeDoc()
	}
	return code, err
}

// imageRef is the image of hack/setup, whose Python is complete and compiled, or this host's Python.
func imageRef() string {
	if given := os.Getenv("MCP_BRIDGE_TEST_IMAGE"); given != "" {
		return given
	}
	layout, err := filepath.Abs("../../.cache/python-image")
	if err == nil {
		if _, err = os.Stat(filepath.Join(layout, "index.json")); err == nil {
			return "oci:" + layout
		}
	}
	return "host"
}

// openDir makes a directory that the users of root's containers get through, as they do not through /tmp's or a
// test's own.
func openDir(name string) (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-probes-"+name)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

func ensure(dir, ref string) (rootfs.Tree, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return (&rootfs.Store{Dir: filepath.Join(dir, "cache")}).Ensure(ctx, ref)
}

// everything says that all runs in each mapping, which takes minutes.
func everything() bool { return os.Getenv("CI") == "true" || os.Getenv("MCP_BRIDGE_PROBES") == "all" }

// long is for what takes half a minute.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
}

// skip skips a test that needs what this machine has not. On CI, where root on Linux can do it, that is a failure:
// otherwise nobody would notice that it never runs.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
		t.Fatalf("this has to run on CI: %s", reason)
	}
	t.Skip(reason)
}
