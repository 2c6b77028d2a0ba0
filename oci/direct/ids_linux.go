//go:build linux && cgo

package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// A base is a user namespace with a user's subordinate ids, below which containers get theirs. Only newuidmap and
// newgidmap can map these ids, and two setuid programs take longer to start than a container; who has entered a namespace
// that has them can map them on. It is made once, nothing runs in it, and it goes with its descriptor.
type base struct {
	mu sync.Mutex
	ns *os.File
}

// toBase maps the host's ids to 1, 2, ... in the base, so that no container has an id that is its own in the namespace
// around it, nor one that is called root's; fromBase maps these to what the container calls them.
func toBase(m []oci.IDMap) (out []oci.IDMap) {
	for i, l := range m {
		out = append(out, oci.IDMap{Container: uint32(i) + 1, Host: l.Host, Size: 1})
	}
	return out
}

func fromBase(m []oci.IDMap) (out []oci.IDMap) {
	for i, l := range m {
		out = append(out, oci.IDMap{Container: l.Container, Host: uint32(i) + 1, Size: 1})
	}
	return out
}

// open makes the base if there is none.
func (b *base) open(ctx context.Context, h oci.Host) (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ns != nil {
		return b.ns, nil
	}
	holder := exec.Cmd{Path: "/proc/self/exe", Args: stage0.HoldArgs(), Env: []string{}, SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}}
	hold, err := holder.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("cannot make a user namespace (clone): %w", err)
	}
	err = mapIDs(ctx, holder.Process.Pid, h)
	if err == nil {
		b.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid))
	}
	hold.Close()
	if err = errors.Join(err, holder.Wait()); err != nil {
		b.closeNS()
		return nil, err
	}
	return b.ns, nil
}

func (b *base) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closeNS()
}

func (b *base) closeNS() {
	if b.ns != nil {
		b.ns.Close()
		b.ns = nil
	}
}

// mapIDs has the helpers map a process's ids.
func mapIDs(ctx context.Context, pid int, h oci.Host) error {
	var both errgroup.Group
	both.Go(func() error { return helper(ctx, "uid", pid, toBase(h.UIDMap)) })
	both.Go(func() error { return helper(ctx, "gid", pid, toBase(h.GIDMap)) })
	return both.Wait()
}

func lines(m []oci.IDMap) string {
	var b strings.Builder
	for _, l := range m {
		fmt.Fprintln(&b, l.Container, l.Host, l.Size)
	}
	return b.String()
}

func helper(ctx context.Context, kind string, pid int, m []oci.IDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, l := range m {
		args = append(args, strconv.Itoa(int(l.Container)), strconv.Itoa(int(l.Host)), strconv.Itoa(int(l.Size)))
	}
	if out, err := exec.CommandContext(ctx, "new"+kind+"map", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot map ids: new%s map failed: %w: %s", kind, err, strings.TrimSpace(string(out)))
	}
	return nil
}
