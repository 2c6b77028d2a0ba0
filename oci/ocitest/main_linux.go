//go:build linux

package ocitest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// A Launcher is what is tested.
type Launcher interface {
	oci.Launcher
	Close() error
}

// A Suite is the tests of one kind of launcher.
type Suite struct {
	// Name is for directories and programs. The tests are those of Test<Name>, which calls [RunAll].
	Name string
	// New makes a launcher, from as much of the options as it has a use for.
	New func(host.Options) Launcher
	// Except says of what this launcher cannot do, by the name of a test or an effect, why that is. It is skipped.
	Except map[string]string
	// UserTests are those that AsUser runs; nil is all.
	UserTests []string
	// Slow says that a container takes so long to start that where others have fifty, some ten have to do.
	Slow bool
}

// A HostSuite is a Suite for launchers that stand on a [host.Host], with stage0 as a container's pid 1.
type HostSuite struct {
	Suite
	// NewHost is New.
	NewHost func(host.Options) host.Launcher
	// ThroughClosed says that root's containers can be of an image below a directory that only root may enter.
	ThroughClosed bool
}

// OnHost makes a HostSuite.
func OnHost(name string, newHost func(host.Options) host.Launcher) HostSuite {
	return HostSuite{Suite: Suite{Name: name, New: func(o host.Options) Launcher { return newHost(o) }}, NewHost: newHost}
}

// The test binary plays other processes: a bridge that is killed, one on a host that denies it something, and, started by
// root, the same tests under a user's credential. (What it may play before, its TestMain sees to.)
const (
	roleEnv  = "OCITEST_ROLE"
	suiteEnv = "OCITEST_SUITE" // the name of the one that plays it
	treeEnv  = "OCITEST_TREE"  // a rootfs.Tree, made by whoever started this
	stateEnv = "OCITEST_STATE"
)

// tree is what every test's containers run from. It is the host's own Python, so no download is needed.
var tree rootfs.Tree

// Main is [Suite.Main] for a package with more than one suite.
func Main(ctx context.Context, m *testing.M, suites ...Suite) int {
	for _, s := range suites {
		if s.Name == os.Getenv(suiteEnv) {
			return s.Main(ctx, m)
		}
	}
	return suites[0].Main(ctx, m)
}

// RunAll runs the tests of a suite as subtests of t.
func RunAll(t *testing.T, suite any) {
	t.Helper()
	v := reflect.ValueOf(suite)
	for _, name := range testsOf(suite) {
		t.Run(name, func(t *testing.T) { v.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t)}) })
	}
}

// exception begins the reason of a test that is skipped because the launcher does not pass it.
const exception = "exception: "

// within is the test whose subtests these are.
func (suite Suite) within() string { return "Test" + strings.ToUpper(suite.Name[:1]) + suite.Name[1:] }

// excepted skips a test that the launcher does not pass, for a reason that it gives.
func (suite Suite) excepted(t *testing.T) {
	t.Helper()
	if why, ok := suite.Except[strings.TrimPrefix(t.Name(), suite.within()+"/")]; ok {
		t.Skip(exception + why)
	}
}

// pattern is a regular expression for some of the tests, as the test binary gets it, and the beginning of their names.
func (suite Suite) pattern(tests []string) (run, prefix string) {
	return "^" + suite.within() + "$/^(" + strings.Join(tests, "|") + ")$", suite.within() + "/"
}

// Main runs the tests, or plays a role of theirs, and returns the exit code.
func (suite Suite) Main(ctx context.Context, m *testing.M) int {
	if given := os.Getenv(treeEnv); given != "" {
		if err := json.Unmarshal([]byte(given), &tree); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	} else {
		// Not below a private directory: the users of root's containers have to get through (see ClosedDirectory).
		dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-"+suite.Name+"-test-")
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
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		store := &rootfs.Store{Dir: filepath.Join(dir, "cache")}
		if tree, err = store.Ensure(ctx, image); err == nil {
			err = store.Settle(ctx) // else it does so meanwhile, with a file and a goroutine that a test could count
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot make a root directory for the tests:", err)
			return 1
		}
	}
	switch os.Getenv(roleEnv) {
	case "denied":
		return suite.denied(ctx)
	case "starved":
		return suite.starved(ctx)
	case "victim":
		return suite.victim(ctx)
	default:
		return m.Run()
	}
}

// testsOf are the names of a suite's tests.
func testsOf(suite any) (names []string) {
	for m := range reflect.TypeOf(suite).Methods() {
		if m.Type.NumIn() == 2 && m.Type.In(1) == reflect.TypeFor[*testing.T]() {
			names = append(names, m.Name)
		}
	}
	return names
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
func (suite Suite) selfEnv(role string, more ...string) []string {
	b, err := json.Marshal(tree)
	if err != nil {
		panic(err) // a struct of strings
	}
	env := append(os.Environ(), treeEnv+"="+string(b), suiteEnv+"="+suite.Name)
	if role != "" {
		env = append(env, roleEnv+"="+role)
	}
	return append(env, more...)
}
