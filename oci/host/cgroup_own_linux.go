//go:build linux

package host

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // without it: "cgroup manager is not configured to set device rules"
	devices "github.com/opencontainers/cgroups/devices/config"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// init: a thread in a container's cgroup ends with the container's start, but a process's first thread cannot be ended.
// It would stay there for good, and with it the memory of this process, which is charged to the cgroup of its first
// thread. So that one is taken, by the main goroutine, before Go can give it to another. libcontainer needs the same, for
// its threads in a container's mount namespace.
func init() { runtime.LockOSThread() }

// A Cgroup is a container's own, made by us. libcontainer starts a process and then writes its id to cgroup.procs, on
// cgroup v1 of every hierarchy, of which there are ten; after a pause the first of these writes waits for an RCU grace
// period (6 to 18 ms; cgroup_threadgroup_rwsem). A process that is born where it belongs does not: on cgroup v2 by
// CLONE_INTO_CGROUP, on cgroup v1 as the child of a thread that has moved itself, by writing 0 to tasks.
//
// The zero value is no cgroup: its methods do nothing.
type Cgroup struct {
	paths     map[string]string // by controller; "" on cgroup v2
	resources *specs.LinuxResources
}

// CgroupV1 says that limits are enforced by cgroup v1.
func (o Offer) CgroupV1() bool { return o.cg.v1 != nil }

// NewCgroup is the cgroup of the container, for [Cgroup.Start] to make. It is the zero value where there is none.
func (o Offer) NewCgroup(r *specs.LinuxResources) Cgroup {
	switch {
	case r == nil:
		return Cgroup{}
	case o.cg.v1 == nil:
		return Cgroup{map[string]string{"": filepath.Join(unifiedRoot, o.Host.Cgroup+o.id)}, r}
	}
	g := Cgroup{make(map[string]string), r}
	for c, dir := range o.cg.v1 {
		if c == "cpu" && r.CPU == nil {
			continue // each costs a twentieth of a start
		}
		g.paths[c] = filepath.Join(dir, cgroupPrefix+o.id)
	}
	return g
}

// OthersCgroup is the cgroup that somebody else makes of linux.cgroupsPath, for [Cgroup.Paths] and [Cgroup.Destroy]. On
// cgroup v1 a path that is not absolute is below the own cgroup, in every hierarchy.
func (o Offer) OthersCgroup() (Cgroup, error) {
	switch {
	case o.Limits != oci.ByCgroup:
		return Cgroup{}, nil
	case o.cg.v1 == nil:
		return o.NewCgroup(&specs.LinuxResources{}), nil
	}
	own, err := ownV1()
	if err != nil {
		return Cgroup{}, err
	}
	g := Cgroup{paths: make(map[string]string)}
	for c, dir := range own {
		g.paths[c] = filepath.Join(dir, cgroupPrefix+o.id)
	}
	return g, nil
}

// Destroy kills what is in the cgroup and removes it.
func (g Cgroup) Destroy() error { return removeCgroups(maps.Clone(g.paths)) }

// Paths are its directories, by controller: for [Offer.Record].
func (g Cgroup) Paths() map[string]string { return g.paths }

// Start makes the cgroup and calls f, whose children are born in it: on cgroup v1 because f is called on a thread there,
// on cgroup v2 if f has them cloned into dir, which is the cgroup's, and nil otherwise.
func (g Cgroup) Start(f func(dir *os.File) error) error {
	if dir, ok := g.paths[""]; ok {
		if err := g.mkdir(); err != nil {
			return err
		}
		return g.startUnified(dir, f)
	}
	tasks, err := g.MakeV1()
	if err != nil {
		return err
	}
	if tasks == nil {
		return f(nil)
	}
	return OnThread(func() error {
		for _, file := range tasks {
			if err := writeFile(file, "0"); err != nil {
				return fmt.Errorf("cannot enter cgroup: %w", err)
			}
		}
		return f(nil)
	})
}

// MakeV1 makes a cgroup of version 1, which is entered by writing 0 to each of these files.
func (g Cgroup) MakeV1() (tasks []string, err error) {
	if g.paths == nil {
		return nil, nil
	}
	if err := g.mkdir(); err != nil {
		return nil, err
	}
	if err := write(g.paths, g.limitsV1()); err != nil {
		return nil, err
	}
	for _, dir := range g.paths {
		tasks = append(tasks, filepath.Join(dir, "tasks"))
	}
	return tasks, nil
}

func (g Cgroup) mkdir() error {
	for _, dir := range g.paths {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("cannot make cgroup: %w", err)
		}
	}
	return nil
}

func (g Cgroup) startUnified(dir string, f func(*os.File) error) error {
	if err := write(g.paths, g.limits()); err != nil {
		return err
	}
	if os.Geteuid() == 0 { // a user may not load the BPF program that this is; in a user namespace no device can be made
		if err := cgroups.DevicesSetV2(dir, &cgroups.Resources{Devices: allowedDevices()}); err != nil {
			return fmt.Errorf("cannot limit the devices of the cgroup: %w", err)
		}
	}
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("cannot open cgroup: %w", err)
	}
	defer d.Close()
	return f(d)
}

// OnThread calls f on a thread that is f's alone and ends with it. It is never the process's first: see init.
func OnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, which is what ends the thread
		done <- f()
	}()
	return <-done
}

// A setting is what is written to a file of a controller's directory.
type setting struct{ controller, file, value string }

func write(paths map[string]string, settings []setting) error {
	for _, s := range settings {
		err := writeFile(filepath.Join(paths[s.controller], s.file), s.value)
		if errors.Is(err, os.ErrNotExist) && s.file == "memory.swap.max" {
			continue // a kernel that swaps nothing
		}
		if err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", strings.TrimPrefix(s.file, s.controller+"."), s.value, err)
		}
	}
	return nil
}

// writeFile is os.WriteFile without what that does to find out whether a file can be waited for: with some twenty files for
// each container, that is a third of a millisecond.
func writeFile(name, text string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// theDevices are those of the sandbox's /dev: null, zero, full, random, urandom, tty.
var theDevices = [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}}

func allowedDevices() []*devices.Rule {
	rules := []*devices.Rule{{Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard, Permissions: "rwm"}}
	for _, d := range theDevices {
		rules = append(rules, &devices.Rule{Type: devices.CharDevice, Major: d[0], Minor: d[1], Permissions: "rw", Allow: true})
	}
	return rules
}

// limitsV1 are the limits, and which devices may be used.
func (g Cgroup) limitsV1() []setting {
	settings := []setting{{"devices", "devices.deny", "a"}}
	for _, d := range theDevices {
		settings = append(settings, setting{"devices", "devices.allow", fmt.Sprintf("c %d:%d rw", d[0], d[1])})
	}
	r := g.resources
	if r.Memory != nil && r.Memory.Limit != nil {
		settings = append(settings, setting{"memory", "memory.limit_in_bytes", decimal(*r.Memory.Limit)})
		if r.Memory.Swap != nil {
			settings = append(settings, setting{"memory", "memory.memsw.limit_in_bytes", decimal(*r.Memory.Swap)})
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		settings = append(settings, setting{"pids", "pids.max", decimal(*r.Pids.Limit)})
	}
	if r.CPU != nil && r.CPU.Quota != nil && r.CPU.Period != nil {
		settings = append(
			settings,
			setting{"cpu", "cpu.cfs_period_us", strconv.FormatUint(*r.CPU.Period, 10)},
			setting{"cpu", "cpu.cfs_quota_us", decimal(*r.CPU.Quota)},
		)
	}
	return settings
}

// limits are those of cgroup v2.
func (g Cgroup) limits() (settings []setting) {
	r := g.resources
	if r.Memory != nil && r.Memory.Limit != nil {
		settings = append(settings, setting{"", "memory.max", decimal(*r.Memory.Limit)})
		if r.Memory.Swap != nil { // here it is without the memory
			settings = append(settings, setting{"", "memory.swap.max", decimal(*r.Memory.Swap - *r.Memory.Limit)})
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		settings = append(settings, setting{"", "pids.max", decimal(*r.Pids.Limit)})
	}
	if r.CPU != nil && r.CPU.Quota != nil && r.CPU.Period != nil {
		settings = append(settings, setting{"", "cpu.max", fmt.Sprintf("%d %d", *r.CPU.Quota, *r.CPU.Period)})
	}
	for file, value := range r.Unified {
		settings = append(settings, setting{"", file, value})
	}
	return settings
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// Remove removes the cgroup when nothing is in it any more.
func (g Cgroup) Remove() error {
	if err := cgroups.RemovePaths(maps.Clone(g.paths)); err != nil { // which empties what it gets
		return fmt.Errorf("cannot remove cgroup: %w", err)
	}
	return nil
}

// oomKilled reads the kernel's own counts in the memory cgroup among paths: killed says that a process was killed for want of
// memory, starved that it was not because of this cgroup's limit.
func oomKilled(paths map[string]string) (killed, starved bool) {
	if dir, ok := paths["memory"]; ok { // of version 1, beside which there may be a tree of version 2, without controllers
		killed = numbersIn(dir, "memory.oom_control")["oom_kill"] > 0
		// Not memory.failcnt, which newer kernels leave at 0. Memory is charged in small steps, the last of which failed.
		most, ok := numbersIn(dir, "memory.max_usage_in_bytes")[""]
		limit := numbersIn(dir, "memory.limit_in_bytes")[""]
		return killed, killed && ok && most < limit-lastStep
	}
	dir, ok := paths[""]
	if !ok {
		return false, false
	}
	events := numbersIn(dir, "memory.events")
	return events["oom_kill"] > 0, events["oom_kill"] > 0 && events["oom"] == 0
}

const lastStep = 1 << 20 // bytes

// numbersIn are those in a file of a cgroup, by name; one that stands there alone has none.
func numbersIn(dir, file string) map[string]int64 {
	b, err := readSmall(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	numbers := make(map[string]int64)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if n, err := strconv.ParseInt(line[i+1:], 10, 64); err == nil {
			numbers[line[:max(i, 0)]] = n
		}
	}
	return numbers
}

// enforced says what has enforced the limits of a container at its end, while its cgroups, of these paths, are there. On
// cgroup v2 the files of a limit go with its controller, which whoever writes to the cgroup above can switch off.
func (o Offer) enforced(paths map[string]string, limits oci.Limits) oci.Enforcement {
	dir := paths[""]
	if dir == "" || o.CgroupV1() { // beside version 1 the tree of version 2 has no controllers
		return o.Limits
	}
	for _, l := range []struct {
		file string
		set  bool
	}{{"memory.max", limits.Memory > 0}, {"pids.max", limits.Pids > 0}, {"cpu.max", limits.CPUs > 0}} {
		if l.set && errors.Is(unix.Access(filepath.Join(dir, l.file), unix.F_OK), unix.ENOENT) && isCgroup(dir) {
			o.log.Warn("the limits of a container are gone: somebody switched their controller off", "cgroup", dir, "file", l.file)
			return oci.Lost
		}
	}
	return o.Limits
}
