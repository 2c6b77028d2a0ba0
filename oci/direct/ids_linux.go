//go:build linux && cgo

package direct

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// mapIDs has the helpers map a process's ids.
func mapIDs(ctx context.Context, pid int, h oci.Host) error {
	var both errgroup.Group
	both.Go(func() error { return helper(ctx, "uid", pid, h.UIDMap) })
	both.Go(func() error { return helper(ctx, "gid", pid, h.GIDMap) })
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
