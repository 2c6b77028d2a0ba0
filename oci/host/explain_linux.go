//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// reconsider finds out what has changed on a host where a start failed that was to be expected to work. Nothing of the
// container has run, so it may be tried again.
func (h *Host) reconsider(ctx context.Context, failed *oci.StartError, used oci.Host) (oci.Host, cgroupParent, bool) {
	if Passing(failed) {
		return used, cgroupParent{}, false
	}
	step := stepOf(failed.Error())
	// newuidmap may be there and refuse: a line in /etc/subuid may be for ids that this user namespace does not have. But all
	// later scripts would have the user's own id then, so it has to say so itself: the same words come of a process that was
	// killed, and of a host that was short of something for a moment.
	if step == "id maps" && (os.Geteuid() == 0 || used.Nested || !h.refused(ctx, used)) {
		return used, cgroupParent{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	host, cg := h.offer, h.cg
	switch step {
	case "id maps":
		host.UIDMap, host.GIDMap, host.Nested = host.UIDMap[:1], host.GIDMap[:1], true
	case "cgroup":
		// Somebody removed it, moved this process elsewhere, or took a controller away (systemd does on daemon-reload).
		if used.Limits != oci.ByCgroup {
			return host, cg, false
		}
		var err error
		if cg, err = findCgroup(ctx); err != nil {
			return host, cg, false
		}
		host.Cgroup, host.SwapAccounting, host.Unified = cg.parent+cgroupPrefix, cg.swap, cg.v1 == nil
	default:
		return host, cg, false
	}
	h.Logger.Warn("a container did not start as this host was; trying another way", "error", failed)
	h.offer, h.cg = host, cg
	return host, cg, true
}

// explain adds to a failed start what the host's settings say about its cause.
func explain(start *oci.StartError, c oci.Container) error {
	text := start.Err.Error()
	if err := traversable(c.Rootfs); err != nil && os.Geteuid() == 0 {
		return &oci.HostError{Missing: err.Error(), Fix: "set MCP_BRIDGE_CACHE_DIR to a directory that every user may enter, such as /var/cache/mcp-bridge"}
	}
	for _, s := range []struct{ file, bad, fix string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{
			"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
			"sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give this program an AppArmor profile with \"userns,\"",
		},
	} {
		if b, err := os.ReadFile(s.file); err == nil && strings.TrimSpace(string(b)) == s.bad &&
			(os.Geteuid() != 0 || !strings.HasPrefix(filepath.Base(s.file), "unprivileged_") && !strings.HasPrefix(filepath.Base(s.file), "apparmor_")) {
			return &oci.HostError{Missing: fmt.Sprintf("%v; user namespaces are not available (%s is %s)", start, s.file, s.bad), Fix: s.fix}
		}
	}
	if strings.Contains(text, `mounting "proc"`) && strings.Contains(text, "operation not permitted") {
		return &oci.HostError{
			Missing: fmt.Sprintf("%v; this looks like the inside of a container whose /proc is masked", start),
			Fix:     "run the outer container with --security-opt unmask=ALL (podman) or --security-opt systempaths=unconfined (docker)",
		}
	}
	if strings.Contains(text, "make new namespaces") && errors.Is(start, unix.EPERM) {
		return &oci.HostError{
			Missing: fmt.Sprintf("%v; something refuses user namespaces: a chroot, an outer container's filter, or a security module", start),
			Fix:     "run mcp-bridge outside of the chroot, or the outer container with --security-opt seccomp=unconfined",
		}
	}
	return start
}

// traversable tells which directory on the way to p a user without rights may not enter.
func traversable(p string) error {
	for d := p; d != "/"; d = filepath.Dir(d) {
		st, err := os.Stat(d)
		if err != nil {
			return fmt.Errorf("cannot reach the image: %w", err)
		}
		if st.Mode().Perm()&1 == 0 {
			return fmt.Errorf("cannot reach the image at %s from inside a container, because %s may not be entered by others (mode %04o)", p, d, st.Mode().Perm())
		}
	}
	return nil
}
