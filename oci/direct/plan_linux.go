//go:build linux && cgo

package direct

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// A plan is what stage0 has to do to make a container, in the language of setup.c, and what it does at the nth operation,
// for errors.
type plan struct {
	text  []byte
	ops   []byte
	shown []string
}

func (p *plan) do(op byte, args ...string) {
	p.text = append(p.text, op, 0)
	for _, a := range args {
		p.text = append(append(p.text, a...), 0)
	}
	p.ops, p.shown = append(p.ops, op), append(p.shown, strings.Join(args, " "))
}

// at says what the nth operation was about.
func (p *plan) at(n int) string {
	if n < 0 || n >= len(p.shown) {
		return ""
	}
	return p.shown[n]
}

// hostDevices are what the runtime specification wants in each container's /dev ("Default Devices").
var hostDevices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// A way is what a plan has to know that is not in the specification.
type way struct {
	enter  string   // a cgroup.procs to write to; empty if stage0 is born in its cgroup
	host   oci.Host // whose ids are mapped how
	root   bool     // this process may map any ids; else newuidmap may, or there is but one
	user   oci.User // of the command
	filter []byte   // of system calls
}

// planFor makes the plan of a specification. An error says what of it this launcher cannot do.
func planFor(s *specs.Spec, w way) (*plan, error) {
	if err := refuse(s); err != nil {
		return nil, fmt.Errorf("internal error: the direct launcher cannot do what the OCI specification asks for: %w", err)
	}
	if w.user.UID == 0 || w.user.GID == 0 {
		return nil, errors.New("internal error: a command that runs as root")
	}
	p := &plan{}
	if w.enter != "" {
		p.do('C', w.enter)
	}
	switch {
	case w.root:
		p.do('M', lines(w.host.UIDMap), lines(w.host.GIDMap), "")
	case w.host.Nested:
		// Where a user maps his own group, the kernel does not let the others go (user_namespaces(7), "setgroups"): without
		// them a process could do what a file denies to a group.
		p.do('M', lines(w.host.UIDMap), lines(w.host.GIDMap), "deny")
	default:
		p.do('N')
		p.do('M', lines(fromBase(w.host.UIDMap)), lines(fromBase(w.host.GIDMap)), "")
	}
	p.do('i', s.Root.Path)
	for _, d := range hostDevices {
		p.do('d', d)
	}
	if w.root || !w.host.Nested {
		p.do('g')
	}
	p.do('r')
	var late []string // to be made read-only when all is in them
	for _, m := range s.Mounts {
		flags, data, readonly := options(m)
		switch {
		case m.Type == "proc":
			p.do('p', m.Destination)
		default:
			p.do('m', m.Type, strconv.Itoa(flags), data, m.Destination)
		}
		if m.Destination == "/dev" {
			p.do('D')
		}
		if readonly {
			late = append(late, m.Destination)
		}
	}
	for _, dir := range late {
		p.do('o', dir)
	}
	for name, value := range s.Linux.Sysctl {
		p.do('s', "/proc/sys/"+strings.ReplaceAll(name, ".", "/"), value)
	}
	for _, f := range s.Linux.ReadonlyPaths {
		op := byte('n')
		if slices.Contains(hostDevices, strings.TrimPrefix(f, "/dev/")) {
			op = 'o' // it is a mount already
		}
		p.do(op, f)
	}
	for _, f := range s.Linux.MaskedPaths {
		p.do('x', f)
	}
	p.do('h', s.Hostname)
	p.do('b')
	p.do('k')
	p.command(s, w.filter)
	become := byte('u')
	if w.host.Nested {
		become = 'U'
	}
	p.do(become, strconv.FormatUint(uint64(w.user.UID), 10), strconv.FormatUint(uint64(w.user.GID), 10))
	p.do('w', s.Process.Cwd)
	p.do('c')
	return p, nil
}

// command is what is to be run, and as whom.
func (p *plan) command(s *specs.Spec, filter []byte) {
	space, tasks, rest := oci.CommandLimits(s)
	for _, l := range rest {
		p.do('l', strconv.Itoa(host.Rlimits[l.Type]), strconv.FormatUint(l.Soft, 10), strconv.FormatUint(l.Hard, 10))
	}
	p.do('L', strconv.FormatUint(space, 10), strconv.FormatUint(tasks, 10))
	p.do('z')
	p.do('f', strconv.Itoa(len(filter)))
	p.text = append(p.text, filter...)
	for _, kv := range s.Process.Env {
		p.do('e', kv)
	}
	for _, a := range s.Process.Args {
		p.do('a', a)
	}
}

var mountFlags = map[string]int{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC}

// options are a mount's, as mount(2) wants them. What is to be read-only must be written to first.
func options(m specs.Mount) (flags int, data string, readonly bool) {
	var rest []string
	for _, o := range m.Options {
		switch f := mountFlags[o]; {
		case f != 0:
			flags |= f
		case o == "ro":
			readonly = true
		default:
			rest = append(rest, o)
		}
	}
	return flags, strings.Join(rest, ","), readonly
}

// namespaces are those that a container gets, always and all new.
var namespaces = []specs.LinuxNamespaceType{
	specs.UserNamespace, specs.PIDNamespace, specs.MountNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace,
}

// refuse finds what a specification has that planFor does not look at: a launcher that passed over a part of it would make
// a container that is weaker than was asked for. What is known is taken out of a copy, and nothing may be left.
func refuse(s *specs.Spec) error {
	if s.Root == nil || s.Process == nil || s.Linux == nil {
		return errors.New("root, process or linux is missing")
	}
	rest, process, linux := *s, *s.Process, *s.Linux
	rest.Version, rest.Hostname, rest.Mounts, rest.Root, rest.Process, rest.Linux = "", "", nil, nil, nil, nil
	process.User.UID, process.User.GID, process.Args, process.Env, process.Cwd, process.Rlimits = 0, 0, nil, nil, "", nil
	process.NoNewPrivileges, process.Capabilities = false, nil
	linux.UIDMappings, linux.GIDMappings, linux.Namespaces, linux.MaskedPaths, linux.ReadonlyPaths = nil, nil, nil, nil, nil
	linux.Sysctl, linux.CgroupsPath, linux.Resources, linux.RootfsPropagation = nil, "", nil, ""
	for what, left := range map[string]any{"": rest, "process": process, "linux": linux} {
		if f := set(left); f != "" {
			return fmt.Errorf("%s.%s", what, f)
		}
	}
	switch {
	case !s.Root.Readonly:
		return errors.New("a root that can be written to")
	case !s.Process.NoNewPrivileges:
		return errors.New("new privileges")
	case s.Linux.RootfsPropagation != "rprivate":
		return fmt.Errorf("propagation %q", s.Linux.RootfsPropagation)
	case !path.IsAbs(s.Process.Cwd):
		return fmt.Errorf("working directory %q", s.Process.Cwd)
	case len(s.Linux.Namespaces) != len(namespaces):
		return fmt.Errorf("namespaces %v", s.Linux.Namespaces)
	}
	for i, n := range s.Linux.Namespaces {
		if n.Path != "" || !slices.Contains(namespaces, n.Type) {
			return fmt.Errorf("namespace %+v", n)
		}
		if slices.ContainsFunc(s.Linux.Namespaces[:i], func(o specs.LinuxNamespace) bool { return o.Type == n.Type }) {
			return fmt.Errorf("namespace %s twice", n.Type)
		}
	}
	if slices.ContainsFunc(slices.Concat(s.Process.Args, s.Process.Env), func(a string) bool { return strings.Contains(a, "\x00") }) {
		return errors.New("NUL in an argument or a variable")
	}
	if r := s.Linux.Resources; r != nil {
		rest := *r
		rest.Devices, rest.Memory, rest.Pids, rest.CPU, rest.Unified = nil, nil, nil, nil, nil
		if f := set(rest); f != "" {
			return fmt.Errorf("resources.%s", f)
		}
	}
	for _, l := range s.Process.Rlimits {
		if _, ok := host.Rlimits[l.Type]; !ok {
			return fmt.Errorf("rlimit %s", l.Type)
		}
	}
	for i, m := range s.Mounts {
		m.Destination, m.Source, m.Options = "", "", nil
		proc := m.Type == "proc" && slices.Equal(s.Mounts[i].Options, []string{"nosuid", "nodev", "noexec"})
		if m.Type != "tmpfs" && !proc {
			return fmt.Errorf("mount of type %q with options %v", m.Type, s.Mounts[i].Options)
		}
		if m.Type = ""; !reflect.ValueOf(m).IsZero() {
			return fmt.Errorf("mount %+v", m)
		}
	}
	return capabilities(s.Process)
}

// set names a field of a struct that is not zero, if there is one.
func set(s any) string {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			return v.Type().Field(i).Name
		}
	}
	return ""
}

// capabilities: there are none, but for the two that stage0 needs to nest a user namespace, where the user is 0.
func capabilities(p *specs.Process) error {
	var want []string
	if p.User.UID == 0 {
		want = []string{"CAP_SETFCAP", "CAP_SETPCAP"}
	}
	c := p.Capabilities
	if c == nil {
		return errors.New("no word on capabilities")
	}
	for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted} {
		if !slices.Equal(set, want) {
			return fmt.Errorf("capabilities %+v", *c)
		}
	}
	if len(c.Inheritable)+len(c.Ambient) > 0 {
		return fmt.Errorf("capabilities %+v", *c)
	}
	return nil
}
