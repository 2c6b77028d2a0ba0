//go:build linux

package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// probe finds out how this host maps ids and enforces limits.
func probe(ctx context.Context, allowWeak bool) (host oci.Host, cg cgroupParent, err error) {
	if os.Geteuid() == 0 {
		host.UIDMap, host.GIDMap, err = rootMaps()
	} else {
		host.UIDMap, host.GIDMap, host.Nested, err = userMaps()
	}
	if err != nil {
		return oci.Host{}, cg, err
	}
	host.HardLimits = HardLimits()
	cg, err = findCgroup(ctx)
	switch {
	case ctx.Err() != nil:
		return oci.Host{}, cg, context.Cause(ctx)
	case err == nil:
		host.Limits, host.Cgroup, host.SwapAccounting, host.Unified = oci.ByCgroup, cg.parent+cgroupPrefix, cg.swap, cg.v1 == nil
	case Passing(err): // also where weak limits are allowed: they would be for as long as this process lives
		return oci.Host{}, cg, &oci.StartError{Step: "cgroup", Err: err}
	case allowWeak:
		if err := watchable(); err != nil {
			return oci.Host{}, cg, &oci.HostError{Missing: err.Error(), Fix: "start it where it has a cgroup (mcp-bridge doctor says how)"}
		}
		host.Limits = oci.ByRlimits
	default:
		return oci.Host{}, cg, &oci.HostError{
			Missing: "cannot enforce the limits of memory and processes: " + strings.ReplaceAll(err.Error(), "\n", "; "),
			Fix:     weakFix(),
		}
	}
	return host, cg, nil
}

// Rlimits are the numbers of those that a container has, by the names of the OCI specification.
var Rlimits = map[string]int{
	"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
}

// HardLimits are this process's own hard limits, by name, of those that a container has: it may not be able to raise them.
func HardLimits() map[string]uint64 {
	limits := make(map[string]uint64)
	for name, number := range Rlimits {
		var l unix.Rlimit
		if err := unix.Getrlimit(number, &l); err == nil {
			limits[name] = l.Max
		}
	}
	return limits
}

func weakFix() string {
	weak := "or set MCP_BRIDGE_ALLOW_WEAK_LIMITS=1 to run with weaker limits (rlimits and a watchdog)"
	if os.Geteuid() != 0 && cgroups.IsCgroup2UnifiedMode() {
		private, bus := managerSockets()
		switch {
		case !booted():
			return "run it as root, or let root give this user a cgroup, " + weak
		case private == "" && bus == "": // systemd-run could not ask either
			return "have systemd start its instance for this user (\"sudo loginctl enable-linger " + strconv.Itoa(os.Geteuid()) + "\"), " + weak
		}
		return "start it where systemd delegates a cgroup, for instance by \"XDG_RUNTIME_DIR=" + runtimeDir() +
			" systemd-run --user --scope -p Delegate=yes mcp-bridge\" (mcp-bridge doctor says what is missing), " + weak
	}
	if os.Geteuid() != 0 {
		return "start Linux with cgroup v2 (systemd.unified_cgroup_hierarchy=1), " + weak
	}
	return "mount the cgroup tree writable, " + weak
}

// rootBase is where root's containers are mapped when /etc/subuid has no line for root: above the ids of people and
// below the range that systemd-nspawn and systemd-homed give out.
const rootBase, rangeSize = 500_000, 65_536

// rootMaps maps root's containers to a range of ids that are nobody's. Never the identity: root in such a container
// would be root on the host but for the walls.
func rootMaps() (uid, gid []oci.IDMap, err error) {
	uid, err = rootMap("/etc/subuid", "/proc/self/uid_map")
	if err != nil {
		return nil, nil, err
	}
	gid, err = rootMap("/etc/subgid", "/proc/self/gid_map")
	return uid, gid, err
}

func rootMap(subids, current string) ([]oci.IDMap, error) {
	base := uint32(rootBase)
	ranges, err := user.ParseSubIDFileFilter(subids, func(s user.SubID) bool { return s.Name == "root" && s.Count >= rangeSize })
	switch {
	case Passing(err):
		return nil, fmt.Errorf("cannot read %s: %w", subids, err)
	case err == nil && len(ranges) > 0:
		base = uint32(ranges[0].SubID)
	}
	own, err := user.ParseIDMapFile(current)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", current, err)
	}
	mapped := func(first, size int64) bool {
		for _, m := range own {
			if m.ID <= first && first+size <= m.ID+m.Count {
				return true
			}
		}
		return false
	}
	if mapped(int64(base), rangeSize) {
		return []oci.IDMap{{Container: 0, Host: base, Size: rangeSize}}, nil
	}
	// Root of a user namespace itself: as few ids as will do, from those that it has.
	for _, m := range own {
		first := max(m.ID, 1)
		if first+2 <= m.ID+m.Count {
			return []oci.IDMap{{Container: 0, Host: uint32(first), Size: 1}, {Container: 65534, Host: uint32(first) + 1, Size: 1}}, nil
		}
	}
	return nil, &oci.HostError{
		Missing: fmt.Sprintf("cannot map a container's ids: %s leaves no id but its own root", current),
		Fix:     "run it as the user who started the outer container, or give that container a larger range in /etc/subuid",
	}
}

// userMaps maps a user's containers to the user for root, which is nothing but a name there, and to the first
// subordinate id for everybody else, so that a guest is not even the user who started it. nested says that there is no
// subordinate id, for want of newuidmap (which also fails for a user without a passwd entry), of its privileges or of a
// line for the user: then the guest is the user, in a second user namespace where that is no right over anything. That they
// cannot be read just now is an error, because what is found here holds as long as this process.
func userMaps() (uid, gid []oci.IDMap, nested bool, err error) {
	if os.Getegid() == 0 {
		return nil, nil, false, &oci.HostError{
			Missing: "cannot map a container's ids: the group of this user is root's (gid 0), and a user can map no other",
			Fix:     fmt.Sprintf("start it with another group, in docker or podman by --user %d:%[1]d", os.Geteuid()),
		}
	}
	line := func(own int, ids func() ([]user.SubID, error), helper string) ([]oci.IDMap, bool) {
		m := []oci.IDMap{{Container: 0, Host: uint32(own), Size: 1}}
		sub, serr := ids()
		if Passing(serr) {
			err = fmt.Errorf("cannot read a user's subordinate ids: %w", serr)
		}
		if program, herr := exec.LookPath(helper); serr != nil || herr != nil || len(sub) == 0 || !privileged(program) {
			return m, false
		}
		return append(m, oci.IDMap{Container: 65534, Host: uint32(sub[0].SubID), Size: 1}), true
	}
	uid, uok := line(os.Geteuid(), user.CurrentUserSubUIDs, "newuidmap")
	gid, gok := line(os.Getegid(), user.CurrentUserSubGIDs, "newgidmap")
	if !uok || !gok || noNewPrivs() {
		return uid[:1], gid[:1], true, err
	}
	return uid, gid, false, err
}

// mapsFor narrows the maps of a host to what a container with this user needs.
func mapsFor(host oci.Host, u oci.User) (uid, gid []oci.IDMap) {
	pick := func(m []oci.IDMap, id uint32) []oci.IDMap {
		// A non-root user's map names its own id for 0, and a subordinate one that the container's user gets.
		m = slices.Clone(m)
		if len(m) == 2 && m[1].Size == 1 {
			m[1].Container = id
		}
		return m
	}
	return pick(host.UIDMap, u.UID), pick(host.GIDMap, u.GID)
}
