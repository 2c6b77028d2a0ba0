package oci

import (
	"fmt"
	"math"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/mcp-bridge/mcp-bridge/seccomp"
)

// Filter is the system call filter of every container, for this machine's architecture, as the kernel's struct
// sock_filter[]. It is not in the specification that Spec makes, because libcontainer would compile it anew at each
// start, with libseccomp: the launcher's stage0 loads it.
func Filter() ([]byte, error) { return seccomp.Filter(runtime.GOARCH) }

// Host is what [Spec] has to know of the machine: how ids are mapped and what enforces limits. A launcher finds it out
// once.
type Host struct {
	// UIDMap and GIDMap of the container's user namespace (user_namespaces(7)). They must cover 0, which libcontainer
	// insists on, and the container's user; neither may be the identity.
	UIDMap, GIDMap []IDMap
	// Nested says that there is but one id, which the maps call 0: the launcher's stage0 then runs the command in a
	// second user namespace, where that id is called what the container's user is.
	Nested bool
	// Cgroup is the parent below which each container gets a cgroup of its own, in the form of
	// linux.cgroupsPath of the runtime specification. Ignored unless Limits is ByCgroup.
	Cgroup string
	// Limits names what enforces limits.
	Limits Enforcement
	// HardLimits are the launcher's own hard rlimits, by name ("RLIMIT_CORE"): those that it may not be able to raise.
	HardLimits map[string]uint64
	// Unified says that the cgroups are of version 2 (cgroups(7)).
	Unified bool
	// SwapAccounting says that the kernel can limit swap too (memory.memsw on cgroup v1).
	SwapAccounting bool
}

// IDMap is one line of a uid_map or gid_map.
type IDMap struct{ Container, Host, Size uint32 }

// Sizes of the tmpfs mounts. Their pages count against the memory limit as well; a cap of its own makes a full disk
// an error that Python can show, where the memory limit would kill.
const (
	tmpSize       = "size=64m,nr_inodes=16k"
	workspaceSize = "size=128m,nr_inodes=32k"
	shmSize       = "size=32m,nr_inodes=1k"
	maxFile       = 256 << 20 // RLIMIT_FSIZE: above any tmpfs here, so that a sparse file cannot be absurd
	// addressSpace times the memory limit is RLIMIT_AS where there is no cgroup. It is for the one absurd allocation; a
	// watchdog sees to the rest. Threads take address space that is never memory: numpy starts one for each CPU.
	addressSpace = 4
	maxFiles     = 1024 // RLIMIT_NOFILE: bounds kernel memory held by pipes and files
	maxSignals   = 1024 // RLIMIT_SIGPENDING: those that wait, and timers, are also counted as the bridge's user's own
)

// masked are the files of /proc that tell about the host, or let its kernel be probed. The list is Docker's and
// podman's default with those that the attack probes found readable beside it (docs/probes.md).
var masked = []string{
	"/proc/acpi", "/proc/asound", "/proc/buddyinfo", "/proc/bus", "/proc/cgroups", "/proc/cmdline", "/proc/config.gz",
	"/proc/consoles", "/proc/crypto", "/proc/diskstats", "/proc/dma", "/proc/driver", "/proc/execdomains", "/proc/fb",
	"/proc/fs", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/irq", "/proc/kallsyms", "/proc/kcore",
	"/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags",
	"/proc/latency_stats", "/proc/locks", "/proc/mdstat", "/proc/misc", "/proc/modules", "/proc/mtrr", "/proc/pagetypeinfo",
	"/proc/partitions", "/proc/pressure", "/proc/sched_debug", "/proc/schedstat", "/proc/scsi", "/proc/slabinfo",
	"/proc/softirqs", "/proc/swaps", "/proc/sys/kernel/random/boot_id", "/proc/timer_list", "/proc/timer_stats", "/proc/tty",
	"/proc/version_signature", "/proc/vmallocinfo", "/proc/zoneinfo",
}

// readonly are the files of /proc through which the kernel is configured, and the devices, which are the host's own: they can
// be written to all the same, but not be given times that the next run reads.
var readonly = []string{
	"/proc/sys", "/proc/sysrq-trigger", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
}

// Spec makes the OCI runtime specification of a container on a host. It is pure: the same arguments give the same
// specification, and nothing is looked up. An error means that c or host is inconsistent, which is a bug of the caller.
func Spec(c Container, host Host) (*specs.Spec, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := host.validate(c.User); err != nil {
		return nil, err
	}
	user, capabilities, namespaces := c.User, &specs.LinuxCapabilities{}, "0" // no capability, in any set
	if host.Nested {
		// As stage0 starts: it maps the one id, with CAP_SETFCAP because the kernel wants it for 0, and drops both.
		user, namespaces = User{}, "1"
		caps := []string{"CAP_SETFCAP", "CAP_SETPCAP"}
		capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	}
	s := &specs.Spec{
		Version:  specs.Version,
		Hostname: "sandbox",
		Root:     &specs.Root{Path: c.Rootfs, Readonly: true},
		Process: &specs.Process{
			User:            specs.User{UID: user.UID, GID: user.GID},
			Args:            c.Args,
			Env:             c.Env,
			Cwd:             Workspace,
			NoNewPrivileges: true,
			Capabilities:    capabilities,
			Rlimits:         rlimits(c.Limits, host),
		},
		Mounts: mounts(user),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.CgroupNamespace},
			},
			UIDMappings:   mappings(host.UIDMap),
			GIDMappings:   mappings(host.GIDMap),
			MaskedPaths:   masked,
			ReadonlyPaths: readonly,
			// Nothing that is mounted on the host later shows up, not even below a device.
			RootfsPropagation: "rprivate",
			// A second lock on the door that most kernel exploits need; it holds even without a seccomp filter.
			Sysctl: map[string]string{"user.max_user_namespaces": namespaces},
		},
	}
	if host.Limits == ByCgroup {
		s.Linux.CgroupsPath = host.Cgroup + c.ID
		s.Linux.Resources = resources(c.Limits, host)
	}
	return s, nil
}

func (h Host) validate(u User) error {
	for name, m := range map[string][]IDMap{"uid": h.UIDMap, "gid": h.GIDMap} {
		id := u.UID
		if name == "gid" {
			id = u.GID
		}
		if h.Nested {
			id = 0
		}
		if !covers(m, 0) || !covers(m, id) {
			return fmt.Errorf("invalid %s map %v: it must cover 0 and %d", name, m, id)
		}
		for _, l := range m {
			if l.Host == 0 || l.Container == l.Host && l.Container != 0 {
				return fmt.Errorf("invalid %s map %v: a container's id must not be the same id on the host, nor its root", name, m)
			}
		}
	}
	if h.Limits != ByCgroup && h.Limits != ByRlimits {
		return fmt.Errorf("invalid enforcement of limits %q", h.Limits)
	}
	return nil
}

func covers(m []IDMap, id uint32) bool {
	for _, l := range m {
		if id >= l.Container && uint64(id) < uint64(l.Container)+uint64(l.Size) {
			return true
		}
	}
	return false
}

func mappings(m []IDMap) []specs.LinuxIDMapping {
	out := make([]specs.LinuxIDMapping, len(m))
	for i, l := range m {
		out[i] = specs.LinuxIDMapping{ContainerID: l.Container, HostID: l.Host, Size: l.Size}
	}
	return out
}

// mounts: neither /sys nor a cgroup tree, because Python needs neither and both have been the way out before
// (CVE-2022-0492, CVE-2023-25809); /dev is a fresh tmpfs, because the image's could hold symlinks (CVE-2026-41579).
func mounts(u User) []specs.Mount {
	tmpfs := func(dest, size string) specs.Mount {
		owner := fmt.Sprintf("mode=0700,uid=%d,gid=%d", u.UID, u.GID)
		return specs.Mount{
			Destination: dest, Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "nodev", "noexec", owner, size},
		}
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "nodev", "noexec"}},
		{
			Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "noexec", "mode=0755", "size=64k", "nr_inodes=64", "ro"},
		},
		// POSIX semaphores and shared memory, without which multiprocessing does not work.
		tmpfs("/dev/shm", shmSize),
		tmpfs("/tmp", tmpSize),
		tmpfs(Workspace, workspaceSize),
	}
}

func rlimits(l Limits, host Host) []specs.POSIXRlimit {
	r := []specs.POSIXRlimit{
		// 1 and not 0: at 0 the kernel still runs a "|handler" of core_pattern, as real root, on the guest's memory.
		// 1 is its word for no handler (core(5), and do_coredump in fs/coredump.c).
		{Type: "RLIMIT_CORE", Soft: 1, Hard: 1},
		{Type: "RLIMIT_NOFILE", Soft: maxFiles, Hard: maxFiles},
		{Type: "RLIMIT_FSIZE", Soft: maxFile, Hard: maxFile},
		{Type: "RLIMIT_SIGPENDING", Soft: maxSignals, Hard: maxSignals},
	}
	if host.Limits == ByRlimits {
		if l.Memory > 0 {
			space := uint64(min(l.Memory, math.MaxInt64/addressSpace) * addressSpace)
			r = append(r, specs.POSIXRlimit{Type: "RLIMIT_AS", Soft: space, Hard: space})
		}
		if l.Pids > 0 { // counted for each user namespace since Linux 5.14
			r = append(r, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: uint64(l.Pids), Hard: uint64(l.Pids)})
		}
	}
	for i := range r {
		if hard, ok := host.HardLimits[r[i].Type]; ok && hard < r[i].Hard {
			r[i].Soft, r[i].Hard = hard, hard
		}
	}
	return r
}

// CommandLimits are the hard RLIMIT_AS and RLIMIT_NPROC of a specification, 0 for none. They bind the command only: whoever
// starts it, and is in Go, could not with them. rest are the other limits.
func CommandLimits(s *specs.Spec) (space, tasks uint64, rest []specs.POSIXRlimit) {
	for _, l := range s.Process.Rlimits {
		switch l.Type {
		case "RLIMIT_AS":
			space = l.Hard
		case "RLIMIT_NPROC":
			tasks = l.Hard
		default:
			rest = append(rest, l)
		}
	}
	return space, tasks, rest
}

func resources(l Limits, host Host) *specs.LinuxResources {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	if l.Memory > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory}
		if host.Unified {
			// All of its processes or none: what has lost a child or its parent goes on in a state that nobody thought of.
			r.Unified = map[string]string{"memory.oom.group": "1"}
		}
		if host.SwapAccounting {
			r.Memory.Swap = &l.Memory // memory and swap together: no swap
		}
	}
	if l.Pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	if l.CPUs > 0 {
		period := uint64(100_000) // µs, the kernel's own default
		quota := int64(l.CPUs * float64(period))
		r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	return r
}
