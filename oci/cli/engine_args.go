package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// engineLabel marks the containers of a bridge with the name of its state, so that they can be found when it has crashed.
const engineLabel = "mcp-bridge"

// An enginePlan is what the arguments of a client depend on, beside the container.
type enginePlan struct {
	kind       EngineKind
	system     string
	owner      string // the name of the state
	ways       string // of the multiplexer
	limits     oci.Enforcement
	hardLimits map[string]uint64
	root       bool
	profile    string // file with the system call filter; empty for none
	pidFile    string // where the number of the first process is to be written; empty for nowhere
	runtime    string // the OCI runtime, if it is not the engine's choice
}

func (p enginePlan) name(c oci.Container) string { return "mcp-bridge-" + p.owner + "-" + c.ID }

// local says that the client makes the container itself, and removes it. Anywhere else only the engine knows how a container
// has ended, and it stays until that was asked for.
func (p enginePlan) local() bool { return p.kind == Podman && p.system == "linux" }

// args is the command line that runs c. It is pure, and says what [oci.Spec] says as far as the engine has words for it.
func (p enginePlan) args(c oci.Container) ([]string, error) {
	tree := c
	if c.Image != "" {
		tree.Image, tree.Rootfs = "", "/image" // Spec is asked for all the rest
	}
	ids := []oci.IDMap{{Container: 0, Host: engineFirstID, Size: engineIDs}}
	spec, err := oci.Spec(tree, oci.Host{UIDMap: ids, GIDMap: ids, Limits: p.limits, HardLimits: p.hardLimits})
	if err != nil {
		return nil, err
	}
	podman := p.kind == Podman
	var args []string
	if p.runtime != "" {
		args = append(args, "--runtime", p.runtime)
	}
	args = append(
		args, "run", "--interactive", "--name", p.name(c), "--label", engineLabel+"="+p.owner, "--log-driver", "none", "--pull", "never", "--no-healthcheck",
		"--network", "none", "--ipc", "private", "--cgroupns", "private", "--hostname", spec.Hostname, "--read-only",
		"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", fmt.Sprintf("%d:%d", c.User.UID, c.User.GID), "--workdir", spec.Process.Cwd,
	)
	if p.local() {
		args = append(args, "--rm")
	}
	if p.profile != "" {
		args = append(args, "--security-opt", "seccomp="+p.profile)
	} else {
		args = append(args, "--security-opt", "seccomp=unconfined")
	}
	if podman {
		// What podman would add of its own.
		args = append(args, "--read-only-tmpfs=false", "--no-hosts", "--http-proxy=false", "--systemd=false", "--sdnotify", "ignore", "--image-volume", "ignore", "--unsetenv-all", "--passwd=false", "--uts", "private")
		args = append(args, "--security-opt", "mask="+strings.Join(append(slices.Clone(engineCovered), spec.Linux.MaskedPaths...), ":"))
	} else {
		for _, dir := range engineCovered {
			args = append(args, "--tmpfs", dir+":ro,nosuid,nodev,noexec,size=4k")
		}
	}
	if p.pidFile != "" {
		args = append(args, "--pidfile", p.pidFile)
	}
	if p.local() && p.root {
		m := fmt.Sprintf("0:%d:%d", engineFirstID, engineIDs)
		args = append(args, "--uidmap", m, "--gidmap", m)
	}
	for _, m := range spec.Mounts {
		if m.Type == "tmpfs" && m.Destination != "/dev" {
			args = append(args, "--tmpfs", m.Destination+":"+engineTmpfs(m.Options, podman))
		}
	}
	soft := make(map[string]string)
	for _, l := range spec.Process.Rlimits {
		soft[strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_"))] = strconv.FormatUint(l.Hard, 10)
	}
	if as, ok := soft["as"]; ok { // for which engines have no name; this is what a Python takes of it
		soft["data"] = as
		delete(soft, "as")
	}
	if hard, ok := p.hardLimits["RLIMIT_NPROC"]; ok && soft["nproc"] == "" {
		// Else podman raises it, to more than a root without CAP_SYS_RESOURCE may. The limit of the cgroup is the one that counts.
		soft["nproc"] = strconv.FormatUint(min(hard, max(4096, uint64(c.Limits.Pids))), 10)
	}
	for _, name := range slices.Sorted(maps.Keys(soft)) {
		args = append(args, "--ulimit", name+"="+soft[name]+":"+soft[name])
	}
	if p.limits == oci.ByCgroup {
		if c.Limits.Memory > 0 {
			bytes := strconv.FormatInt(c.Limits.Memory, 10) + "b"
			args = append(args, "--memory", bytes, "--memory-swap", bytes)
		}
		if c.Limits.CPUs > 0 {
			args = append(args, "--cpus", strconv.FormatFloat(c.Limits.CPUs, 'f', -1, 64))
		}
		pids := c.Limits.Pids
		if pids == 0 {
			pids = -1 // an engine has a default
		}
		args = append(args, "--pids-limit", strconv.FormatInt(pids, 10))
	}
	for _, kv := range c.Env {
		args = append(args, "--env", kv)
	}
	command := muxArgs(c, p.ways)
	if c.Image == "" {
		// Through an overlay: podman makes files for its mounts in the root.
		return append(append(args, "--rootfs", c.Rootfs+":O"), command...), nil
	}
	args = append(args, "--entrypoint", command[0], c.Image)
	return append(args, command[1:]...), nil
}

// engineCovered are directories that an engine mounts and the specification does not have. An empty one over each is as good.
var engineCovered = []string{"/sys", "/dev/pts", "/dev/mqueue"}

// The ids that root's containers of podman are mapped to: nobody's, as those of our own launchers.
const engineFirstID, engineIDs = 500_000, 65_536

// engineTmpfs is what an engine can be told of a tmpfs. podman has no words for its number of inodes, and one of its own for
// its owner, who is the container's user.
func engineTmpfs(options []string, podman bool) string {
	out := []string{"rw"}
	for _, o := range strings.Split(strings.Join(options, ","), ",") {
		name, _, _ := strings.Cut(o, "=")
		if !podman || name != "uid" && name != "gid" && name != "nr_inodes" {
			out = append(out, o)
		}
	}
	if podman {
		out = append(out, "U")
	}
	return strings.Join(out, ",")
}
