//go:build linux && cgo

package direct

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

func container() oci.Container {
	return oci.Container{
		ID: "abc-123", Rootfs: "/var/cache/mcp-bridge/tree/rootfs", Args: []string{"/usr/bin/python3", "-c", "print('a b')"},
		Env: []string{"HOME=/workspace", "EMPTY="}, User: oci.User{UID: 65534, GID: 65533}, Limits: oci.Limits{Memory: 512 << 20, Pids: 128},
	}
}

func oneID() oci.Host {
	return oci.Host{
		UIDMap: []oci.IDMap{{Container: 0, Host: 1000, Size: 1}}, GIDMap: []oci.IDMap{{Container: 0, Host: 1001, Size: 1}}, Nested: true,
		Limits: oci.ByRlimits,
	}
}

func spec(t *testing.T, h oci.Host) *specs.Spec {
	t.Helper()
	s, err := oci.Spec(container(), h)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlanGolden: the plan is what stage0 does, one operation a line.
func TestPlanGolden(t *testing.T) {
	h := oneID()
	p, err := planFor(spec(t, h), way{host: h, user: container().User, filter: []byte("12345678"), enter: "/sys/fs/cgroup/x/cgroup.procs"})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for i, op := range p.ops {
		got.WriteString(string(op) + " " + strings.ReplaceAll(p.at(i), "\n", "\\n") + "\n")
	}
	file := filepath.Join("testdata", "one-id.plan")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run go test ./oci/direct -update", err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("the plan differs from %s (-want +got):\n%s", file, diff)
	}
	if !strings.Contains(string(p.text), "f\x008\x0012345678e\x00HOME=/workspace\x00") {
		t.Error("the filter is not in the plan as it is")
	}
}

// TestPlanRefuses: what the launcher does not do must not be passed over.
func TestPlanRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*specs.Spec)
		want string
	}{
		{"hooks", func(s *specs.Spec) { s.Hooks = &specs.Hooks{} }, "Hooks"},
		{"a terminal", func(s *specs.Spec) { s.Process.Terminal = true }, "process.Terminal"},
		{"more groups", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{4} }, "process.User"},
		{"an AppArmor profile", func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }, "ApparmorProfile"},
		{"a filter in it", func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{} }, "linux.Seccomp"},
		{"a device", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kvm"}} }, "linux.Devices"},
		{"a namespace less", func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, "namespaces"},
		{"a namespace twice", func(s *specs.Spec) { s.Linux.Namespaces[1] = s.Linux.Namespaces[0] }, "twice"},
		{"another's namespace", func(s *specs.Spec) { s.Linux.Namespaces[3].Path = "/proc/1/ns/net" }, "namespace"},
		{"a time namespace", func(s *specs.Spec) { s.Linux.Namespaces[3].Type = specs.TimeNamespace }, "namespace"},
		{"a root to write to", func(s *specs.Spec) { s.Root.Readonly = false }, "root"},
		{"new privileges", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, "privileges"},
		{"another propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "rshared" }, "propagation"},
		{"a bind mount", func(s *specs.Spec) { s.Mounts[2] = specs.Mount{Destination: "/x", Type: "bind", Source: "/etc"} }, "bind"},
		{"another proc", func(s *specs.Spec) { s.Mounts[0].Options = []string{"hidepid=2"} }, "proc"},
		{"a capability", func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_NET_RAW"} }, "capabilities"},
		{"too few to nest", func(s *specs.Spec) { s.Process.Capabilities.Effective = nil }, "capabilities"},
		{"an unknown rlimit", func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_NICE" }, "RLIMIT_NICE"},
		{"a limit that it does not set", func(s *specs.Spec) { s.Linux.Resources = &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{}} }, "BlockIO"},
		{"a relative directory", func(s *specs.Spec) { s.Process.Cwd = "x" }, "working directory"},
		{"NUL", func(s *specs.Spec) { s.Process.Args[2] = "a\x00b" }, "NUL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(t, oneID())
			tt.with(s)
			if _, err := planFor(s, way{host: oneID(), user: container().User}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one about %q", err, tt.want)
			}
		})
	}
}
