//go:build linux && cgo

package libct_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/libct"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// The test binary plays three other processes: the init of each container, which TestMain's first line is for; a
// bridge that is killed; and, started by root, the same tests under a user's credential.
const (
	roleEnv = "LIBCT_TEST_ROLE"
	treeEnv = "LIBCT_TEST_TREE" // a rootfs.Tree, made by whoever started this
)

// tree is what every test's containers run from. It is the host's own Python, so no download is needed.
var tree rootfs.Tree

func TestMain(m *testing.M) {
	libct.Init()
	if err := libct.Seal(); err != nil { // so that starts are as in the product
		fmt.Fprintln(os.Stderr, "cannot seal the test binary:", err)
		os.Exit(1)
	}
	os.Exit(play(m))
}

func play(m *testing.M) int {
	if given := os.Getenv(treeEnv); given != "" {
		if err := json.Unmarshal([]byte(given), &tree); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	} else {
		// Not below a private directory: the users of root's containers have to get through (see TestClosedDirectory).
		dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-libct-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o711); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		image := os.Getenv("MCP_BRIDGE_TEST_IMAGE") // for a machine without Python, such as that of hack/test-vm
		if image == "" {
			image = "host"
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if tree, err = (&rootfs.Store{Dir: filepath.Join(dir, "cache")}).Ensure(ctx, image); err != nil {
			fmt.Fprintln(os.Stderr, "cannot make a root directory for the tests:", err)
			return 1
		}
	}
	switch os.Getenv(roleEnv) {
	case "denied":
		return denied()
	case "victim":
		return victim()
	default:
		return m.Run()
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

// self starts the test binary again, in a role.
func selfEnv(role string, more ...string) []string {
	b, err := json.Marshal(tree)
	if err != nil {
		panic(err) // a struct of strings
	}
	env := append(os.Environ(), treeEnv+"="+string(b))
	if role != "" {
		env = append(env, roleEnv+"="+role)
	}
	return append(env, more...)
}
