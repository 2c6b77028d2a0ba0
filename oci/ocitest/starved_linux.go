//go:build linux

package ocitest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

const aboveEnv = "OCITEST_ABOVE" // a cgroup, of memory where it is of version 1

// The scripts are larger than the bridge, so that it is one of them that the kernel kills, and together than the cgroup.
const (
	starvedOnes     = 8
	starvedTakes    = 96 << 20 // each
	starvedLimit    = 384 << 20
	starvedOfItself = 512 << 20 // the limit of a sandbox
)

// starved is a bridge in a cgroup that has not enough memory for its sandboxes. It says how they have ended.
func (suite Suite) starved(ctx context.Context) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	above := os.Getenv(aboveEnv)
	if err := os.WriteFile(filepath.Join(above, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fail(err)
	}
	l := suite.New(host.Options{StateDir: os.Getenv(stateEnv)})
	exits := make([]oci.Exit, starvedOnes)
	errs, up := make(chan error), make(chan struct{}, starvedOnes)
	inR, inW, err := os.Pipe() // whose end is that of those that are not killed
	if err != nil {
		return fail(err)
	}
	for i := range exits {
		c := python(fmt.Sprintf("kept = bytes([1]) * %d", starvedTakes) + untilEOF)
		c.ID, c.Limits.Memory = os.Getenv(idEnv)+strconv.Itoa(i), starvedOfItself
		r, w, err := os.Pipe()
		if err != nil {
			return fail(err)
		}
		go func() {
			_, _ = bufio.NewReader(r).ReadString('\n')
			up <- struct{}{}
		}()
		go func() {
			var err error
			exits[i], err = l.Run(ctx, c, oci.Streams{Stdin: inR, Stdout: w})
			w.Close()
			errs <- err
		}()
	}
	for range exits {
		<-up // or it was killed before
	}
	inW.Close()
	for range exits {
		if err := <-errs; err != nil {
			return fail(err)
		}
	}
	if err := l.Close(); err != nil {
		return fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(exits); err != nil {
		return fail(err)
	}
	return 0
}

// MemoryAround: where not a sandbox's own limit is reached but that of a cgroup above, which is the bridge's too, what is said of
// the one that is killed is true.
func (suite HostSuite) MemoryAround(t *testing.T) {
	suite.excepted(t)
	mustRun(t, suite.launcher(t), "print(1)") // after which the cgroups are prepared
	var own string
	var err error
	limit := strconv.Itoa(starvedLimit)
	limits := [][2]string{{"memory.limit_in_bytes", limit}, {"memory.memsw.limit_in_bytes", limit}} // no swap, where there is some
	if cgroups.IsCgroup2UnifiedMode() {
		limits = [][2]string{{"memory.max", limit}, {"memory.swap.max", "0"}}
		var paths map[string]string
		if paths, err = cgroups.ParseCgroupFile("/proc/self/cgroup"); err == nil {
			own = filepath.Join("/sys/fs/cgroup", filepath.Dir(paths[""])) // this process is in a leaf, or in the root
		}
	} else {
		own, err = cgroups.GetOwnCgroupPath("memory")
	}
	if err != nil {
		t.Fatal(err)
	}
	id := newID()
	above := filepath.Join(own, "mcp-bridge-"+id+"-above")
	if err := os.Mkdir(above, 0o755); err != nil {
		skip(t, fmt.Sprintf("no cgroup can be made: %v", err))
	}
	t.Cleanup(func() {
		if err := cgroups.RemovePath(above); err != nil {
			t.Errorf("cannot remove %s: %v", above, err)
		}
	})
	for i, l := range limits {
		if err := os.WriteFile(filepath.Join(above, l[0]), []byte(l[1]), 0); err != nil && (i == 0 || !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist)) {
			skip(t, fmt.Sprintf("no limit can be set: %v", err))
		}
	}
	if cgroups.IsCgroup2UnifiedMode() { // as systemd would
		if err := unix.Setxattr(above, "user.delegate", []byte("1"), 0); err != nil {
			skip(t, fmt.Sprintf("the cgroup cannot be marked as delegated: %v", err))
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = suite.selfEnv("starved", stateEnv+"="+filepath.Join(t.TempDir(), "state"), idEnv+"="+id+"-", aboveEnv+"="+above)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the bridge did not live: %v\n%s", err, stderr.String())
	}
	var exits []oci.Exit
	if err := json.Unmarshal(out, &exits); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	killed := 0
	for _, e := range exits {
		switch {
		case e.Code == 0 && !e.OOM:
		case e.Signal == syscall.SIGKILL && e.OOM && e.Starved && e.Limits == oci.ByCgroup:
			killed++
		default:
			t.Errorf("%+v, want one that has succeeded, or was killed for what was not its own limit", e)
		}
	}
	if killed == 0 || killed == len(exits) {
		t.Errorf("%d of %d were killed", killed, len(exits))
	}
}
