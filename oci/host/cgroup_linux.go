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

func findCgroup(ctx context.Context) (cgroupParent, error) {
	if !cgroups.IsCgroup2UnifiedMode() {
		return findCgroupV1()
	}
	cg, err := findUnified()
	if err == nil || os.Geteuid() == 0 {
		return cg, err
	}
	if serr := enterScope(ctx); serr != nil {
		return cgroupParent{}, errors.Join(err, serr)
	}
	return findUnified()
}

func findUnified() (cgroupParent, error) {
	own, err := ownUnified()
	if err != nil {
		return cgroupParent{}, err
	}
	var errs []error
	for _, dir := range candidates(own) {
		cpu, err := prepareUnified(filepath.Join(unifiedRoot, dir))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return cgroupParent{parent: strings.TrimSuffix(dir, "/") + "/", swap: true, cpu: cpu}, nil
	}
	return cgroupParent{}, errors.Join(errs...)
}

// findCgroupV1: cgroup v1 cannot be delegated safely, so it is root's only. Containers go below the own cgroup, so
// that what limits the bridge limits them too.
func findCgroupV1() (cgroupParent, error) {
	if os.Geteuid() != 0 {
		return cgroupParent{}, errors.New("cgroup v1 is for root only")
	}
	own := make(map[string]string)
	for _, c := range []string{"memory", "pids", "devices", "cpu"} {
		dir, err := cgroups.GetOwnCgroupPath(c)
		if err == nil {
			err = unix.Access(dir, unix.W_OK)
		}
		if err != nil {
			return cgroupParent{}, fmt.Errorf("cgroup v1 controller %s: %w", c, err)
		}
		own[c] = dir
	}
	swap := cgroups.PathExists(filepath.Join(own["memory"], "memory.memsw.limit_in_bytes"))
	return cgroupParent{v1: own, swap: swap, cpu: true}, nil
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
// limits them too; the one above, where that is ours to write; for root, the root of the tree. Our own can be had only
// where it was delegated to us, because processes have to move out of it.
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

func delegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// prepareUnified makes dir fit to hold containers: its controllers are on for its children, and, as a cgroup with
// such children may hold no process itself, the processes in it move to a child. It says whether cpu is among them.
func prepareUnified(dir string) (cpu bool, err error) {
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
	for _, c := range append([]string{"cpu"}, controllers...) {
		if slices.Contains(strings.Fields(string(on)), c) || !slices.Contains(available, c) {
			continue
		}
		err := enable(dir, c)
		if errors.Is(err, unix.EBUSY) && delegated(dir) {
			if err = moveToLeaf(dir); err == nil {
				err = enable(dir, c)
			}
		}
		if err != nil {
			return false, fmt.Errorf("cgroup %s: controller %s: %w", dir, c, err)
		}
	}
	return slices.Contains(available, "cpu"), nil
}

func enable(dir, controller string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
}

// moveToLeaf moves every process of a delegated cgroup to a child of it.
func moveToLeaf(dir string) error {
	leaf := filepath.Join(dir, "supervisor")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
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
