//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// errRefused is the verdict of newuidmap or newgidmap that this user gets no subordinate ids, or that there is no such
// program.
var errRefused = errors.New("the ids are refused")

// UserNamespace makes a user namespace with these maps, which goes with its descriptor, with the help of newuidmap and
// newgidmap. No map is longer than what they take.
func (h *Host) UserNamespace(ctx context.Context, uid, gid []oci.IDMap) (*os.File, error) {
	holder := exec.CommandContext(ctx, "/proc/self/exe") // killed at the end of ctx: it may be stopped
	holder.Args, holder.Env, holder.SysProcAttr = h.hold, []string{}, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	hold, err := holder.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("cannot make a user namespace (clone): %w", err)
	}
	var both errgroup.Group
	both.Go(func() error { return mapIDs(ctx, "uid", holder.Process.Pid, uid) })
	both.Go(func() error { return mapIDs(ctx, "gid", holder.Process.Pid, gid) })
	err = both.Wait()
	var ns *os.File
	if err == nil {
		ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid))
	}
	hold.Close()
	if herr := holder.Wait(); herr != nil {
		// What the helpers say of a process that was killed is no verdict.
		if ns != nil {
			ns.Close()
		}
		return nil, fmt.Errorf("cannot make a user namespace: who holds it: %w (%v)", herr, err)
	}
	return ns, err
}

// mapIDs has a helper map a process's ids.
func mapIDs(ctx context.Context, kind string, pid int, m []oci.IDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, l := range m {
		args = append(args, strconv.Itoa(int(l.Container)), strconv.Itoa(int(l.Host)), strconv.Itoa(int(l.Size)))
	}
	out, err := exec.CommandContext(ctx, "new"+kind+"map", args...).CombinedOutput()
	if err == nil {
		return nil
	}
	text := fmt.Sprintf("cannot map ids: new%s map failed", kind)
	if refusal(err) {
		return fmt.Errorf("%s: %w: %w: %s", text, errRefused, err, strings.TrimSpace(string(out)))
	}
	return fmt.Errorf("%s: %w: %s", text, err, strings.TrimSpace(string(out)))
}

// refusal says that a helper has failed for good. One that could not be started, for want of memory or of a place among the
// user's processes, or that was killed, has not; nor has one that could not be loaded, which is code 127.
func refusal(err error) bool {
	var exit *exec.ExitError
	return errors.Is(err, exec.ErrNotFound) || errors.As(err, &exit) && exit.ExitCode() == 1
}

// refused asks whether the helpers refuse what the host's maps say, for a process that is known to live meanwhile.
func (h *Host) refused(ctx context.Context, on oci.Host) bool {
	ctx, cancel := context.WithTimeout(ctx, maxTrial)
	defer cancel()
	ns, err := h.UserNamespace(ctx, on.UIDMap, on.GIDMap)
	if err == nil {
		ns.Close()
	}
	return errors.Is(err, errRefused)
}
