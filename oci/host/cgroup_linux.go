//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// cgroupParent is where containers get their cgroups.
type cgroupParent struct {
	parent string            // cgroup v2: prefix of linux.cgroupsPath, absolute within the tree
	v1     map[string]string // cgroup v1: the directory of the own cgroup, by controller
	swap   bool              // the kernel counts swap
	cpu    bool              // the cpu controller is there
}

// controllers are what the limits need. cpu is wanted as well, but a host that delegates only these two is common
// (systemd's default for users before 252), and a missing cpu shows only when a CPU limit is set.
var controllers = []string{"memory", "pids"}

const unifiedRoot = "/sys/fs/cgroup"

// finding: where this process is can change by looking for it, and who looks at the same time must find what came of that. It
// is a fact about the process and not about a Host, of which a server has a second one while it compiles an image's modules.
var finding sync.Mutex

func findCgroup(ctx context.Context) (cgroupParent, error) {
	finding.Lock()
	defer finding.Unlock()
	if !cgroups.IsCgroup2UnifiedMode() {
		return findCgroupV1()
	}
	own, err := ownUnified()
	if err != nil {
		return cgroupParent{}, err
	}
	cg, err := findUnified(own)
	if err == nil || os.Geteuid() == 0 && !systemds(own) {
		return cg, err
	}
	cg, serr := askSystemd(ctx, own)
	if serr != nil {
		return cgroupParent{}, errors.Join(err, serr)
	}
	return cg, nil
}

func findUnified(own string) (cgroupParent, error) {
	var errs []error
	for _, dir := range candidates(own) {
		ours := delegated(dir)
		if !ours && systemds(own) {
			errs = append(errs, fmt.Errorf("cgroup %s is systemd's, as far as can be seen", filepath.Join(unifiedRoot, dir)))
			continue
		}
		cg, err := useUnified(dir, ours)
		if err == nil {
			return cg, nil
		}
		errs = append(errs, err)
	}
	return cgroupParent{}, errors.Join(errs...)
}

// useUnified has containers below dir. From one that is delegated to us the processes may be moved away.
func useUnified(dir string, ours bool) (cgroupParent, error) {
	cpu, err := prepareUnified(filepath.Join(unifiedRoot, dir), ours)
	if err != nil {
		return cgroupParent{}, err
	}
	return cgroupParent{parent: strings.TrimSuffix(dir, "/") + "/", swap: true, cpu: cpu}, nil
}

// findCgroupV1: cgroup v1 cannot be delegated safely, so it is root's only. Containers go below the own cgroup, so
// that what limits the bridge limits them too.
func findCgroupV1() (cgroupParent, error) {
	if os.Geteuid() != 0 {
		return cgroupParent{}, errors.New("cgroup v1 is for root only")
	}
	all, err := ownV1()
	if err != nil {
		return cgroupParent{}, err
	}
	own := make(map[string]string)
	for _, c := range []string{"memory", "pids", "devices", "cpu"} {
		dir, ok := all[c]
		if !ok {
			return cgroupParent{}, fmt.Errorf("cgroup v1 controller %s: it is mounted nowhere", c)
		}
		if err := unix.Access(dir, unix.W_OK); err != nil {
			return cgroupParent{}, fmt.Errorf("cgroup v1 controller %s: %w", c, err)
		}
		own[c] = dir
	}
	swap := cgroups.PathExists(filepath.Join(own["memory"], "memory.memsw.limit_in_bytes"))
	return cgroupParent{v1: own, swap: swap, cpu: true}, nil
}

// ownV1 are the directories of the own cgroups of version 1, by controller. [cgroups.GetOwnCgroupPath] would tell them too, but
// keeps for good that it could not read where they are mounted.
func ownV1() (map[string]string, error) {
	paths, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("cannot find own cgroup: %w", err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return nil, fmt.Errorf("cannot find where cgroups are mounted: %w", err)
	}
	own := make(map[string]string)
	if _, ok := paths[""]; ok { // a tree of version 2 beside them, where it is usual
		own[""] = filepath.Join(unifiedRoot, "unified")
	}
	for _, m := range mounts {
		for c := range strings.SplitSeq(m.VFSOptions, ",") {
			path, ok := paths[c]
			if _, seen := own[c]; !ok || seen {
				continue
			}
			// In a container the path can be that of the host, of which the root of the mount is a part.
			if below, err := filepath.Rel(m.Root, path); err == nil {
				own[c] = filepath.Join(m.Mountpoint, below)
			}
		}
	}
	return own, nil
}

func ownUnified() (string, error) {
	paths, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("cannot find own cgroup: %w", err)
	}
	own, ok := paths[""]
	if !ok || !filepath.IsAbs(own) || strings.Contains(own, "..") {
		return "", fmt.Errorf("cannot find own cgroup: it is %q", own)
	}
	return filepath.Clean(own), nil
}

// candidates are the cgroups below which containers may go, the best first: our own, so that what limits the bridge
// limits them too; the one above, where that is ours to write, for we may be in the child that moveToLeaf makes; for root,
// the root of the tree. Our own can be had only where it was delegated to us, because processes have to move out of it.
func candidates(own string) []string {
	dirs := []string{own}
	if own != "/" {
		dirs = append(dirs, filepath.Dir(own))
	}
	if os.Geteuid() == 0 && !slices.Contains(dirs, "/") {
		dirs = append(dirs, "/")
	}
	return dirs
}

// systemds says whether a systemd manages the cgroup that we are in and those around it, of which a user may write to
// those of the user's own. It is their sole writer: where it has not delegated one, it switches controllers off when it
// likes, and the limits of a container in there are gone in the middle of a run. The root of the tree holds no process of
// systemd's, so who is there is in a container.
func systemds(own string) bool {
	if !booted() {
		return false
	}
	if os.Geteuid() == 0 {
		return own != "/"
	}
	return strings.Contains(own, "/user@")
}

// booted is sd_booted(3).
func booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// delegated says whether systemd has left dir to us, as far as can be seen: by an attribute, which a user's systemd sets
// since version 254 or so, or by being our own scope. What is delegated to a user's systemd is not to us.
func delegated(dir string) bool {
	name := filepath.Base(dir)
	if name == scopeName() {
		return true
	}
	if strings.HasPrefix(name, "user@") {
		return false
	}
	for _, attr := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Getxattr(filepath.Join(unifiedRoot, dir), attr, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// prepareUnified makes dir fit to hold containers: its controllers are on for its children, and, as a cgroup with
// such children may hold no process itself, the processes in it move to a child, if it is ours. It says whether cpu is
// among them.
func prepareUnified(dir string, ours bool) (cpu bool, err error) {
	for _, f := range []string{"cgroup.procs", "cgroup.subtree_control", "."} {
		if err := unix.Access(filepath.Join(dir, f), unix.W_OK); err != nil {
			return false, fmt.Errorf("cgroup %s: %w", filepath.Join(dir, f), err)
		}
	}
	have, err := readSmall(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return false, fmt.Errorf("cgroup %s: %w", dir, err)
	}
	available := strings.Fields(string(have))
	for _, c := range controllers {
		if !slices.Contains(available, c) {
			return false, fmt.Errorf("cgroup %s: controller %s is not delegated", dir, c)
		}
	}
	on, err := readSmall(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return false, fmt.Errorf("cgroup %s: %w", dir, err)
	}
	before := strings.Fields(string(on))
	want := slices.Clone(controllers)
	if cpu = slices.Contains(available, "cpu"); cpu {
		want = append(want, "cpu")
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(c string) bool { return slices.Contains(before, c) })
	err = control(dir, "+", missing)
	if ours && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP)) {
		// EOPNOTSUPP: cpu or pids is on already, which the kernel allows beside processes, but not a child to move them to.
		if err = control(dir, "-", before); err == nil {
			err = moveToLeaf(dir)
		}
		if err == nil {
			err = control(dir, "+", append(before, missing...))
		}
		if err != nil {
			_ = control(dir, "+", before)
		}
	}
	if err != nil {
		return false, fmt.Errorf("cgroup %s: controllers %s: %w", dir, strings.Join(missing, ", "), err)
	}
	return cpu, nil
}

// control switches controllers on (+) or off (-) for the children of dir: all of them by one write, which does nothing if
// it fails. One by one, cpu would be on, beside processes, when memory is refused.
func control(dir, sign string, controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	return writeFile(filepath.Join(dir, "cgroup.subtree_control"), sign+strings.Join(controllers, " "+sign))
}

// moveToLeaf moves every process of a delegated cgroup to a child of it.
func moveToLeaf(dir string) (err error) {
	leaf := filepath.Join(dir, "supervisor")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(leaf) // if it holds no process
		}
	}()
	for range 10 { // a process may fork meanwhile
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(b))
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return fmt.Errorf("processes keep appearing in %s", dir)
}
