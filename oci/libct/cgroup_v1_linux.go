//go:build linux && cgo

package libct

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// cgroupV1 is a container's cgroup on a cgroup v1 host, made by us and not by libcontainer. libcontainer starts a
// process and then writes its id to cgroup.procs of every hierarchy, of which there are ten; after a pause the first of
// these writes waits for an RCU grace period (6 to 18 ms; cgroup_threadgroup_rwsem). A thread that moves itself, by
// writing 0 to tasks, does not, and its children start where it is.
//
// The zero value is no cgroup: its methods do nothing.
type cgroupV1 struct {
	paths     map[string]string // by controller
	resources *cgroups.Resources
}

// newCgroupV1 takes the cgroup out of config.
func newCgroupV1(own map[string]string, id string, config *configs.Config) cgroupV1 {
	g := cgroupV1{paths: make(map[string]string), resources: config.Cgroups.Resources}
	for c, dir := range own {
		g.paths[c] = filepath.Join(dir, cgroupPrefix+id)
	}
	// What libcontainer is left with is what it has when a user without rights starts it: a manager without paths.
	config.Cgroups = &cgroups.Cgroup{Name: cgroupPrefix + id, Rootless: true, Resources: &cgroups.Resources{}}
	config.RootlessCgroups = true
	return g
}

// cgroupPaths tells what cgroups a container will have. If we make them, libcontainer's manager is made to forget its
// own: the map in State is the manager's. Were it a copy one day, containers would have both, and start as slowly as
// they do with libcontainer alone.
func cgroupPaths(c *libcontainer.Container, own cgroupV1) (map[string]string, error) {
	st, err := c.State()
	if err != nil {
		return nil, fmt.Errorf("cannot read container state: %w", err)
	}
	if own.paths != nil {
		clear(st.CgroupPaths)
		return own.paths, nil
	}
	return st.CgroupPaths, nil
}

// start makes the cgroup and calls f on a thread in it.
func (g cgroupV1) start(f func() error) error {
	if g.paths == nil {
		return f()
	}
	for _, dir := range g.paths {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("cannot make cgroup: %w", err)
		}
	}
	if err := g.limit(); err != nil {
		return err
	}
	return onThread(func() error {
		if err := moveThread(g.paths); err != nil {
			return err
		}
		return f()
	})
}

// onThread calls f on a thread that is f's alone and ends with it. It is never the process's first, which init has given
// to the main goroutine: that one must stay where it is, as the memory of a process is charged to the cgroup of its
// first thread.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, which is what ends the thread
		done <- f()
	}()
	return <-done
}

func moveThread(to map[string]string) error {
	for _, dir := range to {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
			return fmt.Errorf("cannot enter cgroup: %w", err)
		}
	}
	return nil
}

// limit writes the limits, and which devices may be used: those of the sandbox's /dev.
func (g cgroupV1) limit() error {
	type setting struct{ controller, file, value string }
	settings := []setting{{"devices", "devices.deny", "a"}}
	for _, d := range []string{"1:3", "1:5", "1:7", "1:8", "1:9", "5:0"} { // null, zero, full, random, urandom, tty
		settings = append(settings, setting{"devices", "devices.allow", "c " + d + " rw"})
	}
	r := g.resources
	if r.Memory > 0 {
		settings = append(settings, setting{"memory", "memory.limit_in_bytes", strconv.FormatInt(r.Memory, 10)})
	}
	if r.MemorySwap > 0 {
		settings = append(settings, setting{"memory", "memory.memsw.limit_in_bytes", strconv.FormatInt(r.MemorySwap, 10)})
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		settings = append(settings, setting{"pids", "pids.max", strconv.FormatInt(*r.PidsLimit, 10)})
	}
	if r.CpuQuota > 0 {
		settings = append(
			settings,
			setting{"cpu", "cpu.cfs_period_us", strconv.FormatUint(r.CpuPeriod, 10)},
			setting{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(r.CpuQuota, 10)},
		)
	}
	for _, s := range settings {
		if err := os.WriteFile(filepath.Join(g.paths[s.controller], s.file), []byte(s.value), 0); err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", strings.TrimPrefix(s.file, s.controller+"."), s.value, err)
		}
	}
	return nil
}

func (g cgroupV1) remove() error {
	if err := cgroups.RemovePaths(maps.Clone(g.paths)); err != nil { // which empties what it gets
		return fmt.Errorf("cannot remove cgroup: %w", err)
	}
	return nil
}
