package oci_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// rootHost and userHost are the two kinds of host that there are: real root with a range of ids and a cgroup, and a
// user with one subordinate id.
func rootHost() oci.Host {
	line := []oci.IDMap{{Container: 0, Host: 500_000, Size: 65_536}}
	return oci.Host{
		UIDMap: line, GIDMap: line, Cgroup: "/mcp.slice/mcp-bridge-", Limits: oci.ByCgroup, HardLimits: map[string]uint64{"RLIMIT_CORE": 1 << 20, "RLIMIT_NOFILE": 1 << 20}, SwapAccounting: true,
	}
}

func userHost() oci.Host {
	return oci.Host{
		UIDMap: []oci.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 65534, Host: 100_000, Size: 1}},
		GIDMap: []oci.IDMap{{Container: 0, Host: 1001, Size: 1}, {Container: 65534, Host: 200_000, Size: 1}},
		Cgroup: "ignored", Limits: oci.ByRlimits,
	}
}

func container() oci.Container {
	return oci.Container{
		ID: "abc-123", Rootfs: "/var/cache/mcp-bridge/tree/rootfs",
		Args:   []string{"/usr/bin/python3", "-c", "print('<>&')"},
		Env:    []string{"HOME=/workspace", "EMPTY="},
		User:   oci.User{UID: 65534, GID: 65534},
		Limits: oci.Limits{Memory: 512 << 20, Pids: 128},
	}
}

func TestSpecGolden(t *testing.T) {
	for _, tt := range []struct {
		name string
		host oci.Host
		with func(*oci.Container, *oci.Host)
	}{
		{"root-cgroup", rootHost(), nil},
		{"user-rlimits", userHost(), nil},
		{"cpu-limit", rootHost(), func(c *oci.Container, _ *oci.Host) { c.Limits.CPUs = 1.5 }},
		{"no-limits", rootHost(), func(c *oci.Container, _ *oci.Host) { c.Limits = oci.Limits{} }},
		{"no-limits-rlimits", userHost(), func(c *oci.Container, _ *oci.Host) { c.Limits = oci.Limits{} }},
		{"unified", rootHost(), func(_ *oci.Container, h *oci.Host) { h.Unified = true }},
		// Without swap accounting a limit of swap would be refused by the kernel; and a hard RLIMIT_NOFILE below ours
		// cannot be raised by a user.
		{"nested", userHost(), func(_ *oci.Container, h *oci.Host) { h.UIDMap, h.GIDMap, h.Nested = h.UIDMap[:1], h.GIDMap[:1], true }},
		{"no-swap-few-files", rootHost(), func(_ *oci.Container, h *oci.Host) {
			h.SwapAccounting, h.HardLimits = false, map[string]uint64{"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 256}
		}},
		{"other-user", rootHost(), func(c *oci.Container, _ *oci.Host) { c.User = oci.User{UID: 1234, GID: 4321} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, h := container(), tt.host
			if tt.with != nil {
				tt.with(&c, &h)
			}
			spec, err := oci.Spec(c, h)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", tt.name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; run go test ./oci -update", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("Spec differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// TestSpecIsPure: a launcher calls Spec for each container with the same Host, so a specification that shared memory
// with its arguments or with another one could be changed through it.
func TestSpecIsPure(t *testing.T) {
	c, h := container(), rootHost()
	first, err := oci.Spec(c, h)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(first)
	other := c
	other.ID, other.Limits.Memory, other.User.UID = "other", 1<<20, 1
	if _, err := oci.Spec(other, h); err != nil {
		t.Fatal(err)
	}
	again, err := oci.Spec(c, h)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(first); string(after) != string(before) {
		t.Error("making a second specification has changed the first")
	}
	if after, _ := json.Marshal(again); string(after) != string(before) {
		t.Error("the same arguments gave another specification")
	}
	if diff := cmp.Diff(container(), c); diff != "" {
		t.Errorf("Spec changed its argument (-before +after):\n%s", diff)
	}
}

// TestSpecRefuses: each of these is a bug of the caller, and running it anyway would weaken a sandbox or confuse paths.
func TestSpecRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*oci.Container, *oci.Host)
		want string // a part of the message
	}{
		{"no id", func(c *oci.Container, _ *oci.Host) { c.ID = "" }, "id"},
		{"id with a slash", func(c *oci.Container, _ *oci.Host) { c.ID = "../x" }, "id"},
		{"id with an upper case letter", func(c *oci.Container, _ *oci.Host) { c.ID = "Abc" }, "id"},
		{"id with a dot", func(c *oci.Container, _ *oci.Host) { c.ID = "a.b" }, "id"},
		// A sweep knows names of up to 64 characters; what is longer would be left behind by a crash.
		{"long id", func(c *oci.Container, _ *oci.Host) { c.ID = strings.Repeat("a", 65) }, "id"},
		{"id with NUL", func(c *oci.Container, _ *oci.Host) { c.ID = "a\x00" }, "id"},
		{"no rootfs", func(c *oci.Container, _ *oci.Host) { c.Rootfs = "" }, "root directory"},
		{"relative rootfs", func(c *oci.Container, _ *oci.Host) { c.Rootfs = "tree/rootfs" }, "root directory"},
		{"rootfs that is not clean", func(c *oci.Container, _ *oci.Host) { c.Rootfs = "/tree/../etc" }, "root directory"},
		{"rootfs with a slash at the end", func(c *oci.Container, _ *oci.Host) { c.Rootfs = "/tree/" }, "root directory"},
		{"the host's root", func(c *oci.Container, _ *oci.Host) { c.Rootfs = "/" }, "root directory"},
		{"no command", func(c *oci.Container, _ *oci.Host) { c.Args = nil }, "command"},
		{"relative command", func(c *oci.Container, _ *oci.Host) { c.Args = []string{"python3"} }, "command"},
		{"root", func(c *oci.Container, _ *oci.Host) { c.User = oci.User{} }, "never runs as root"},
		{"uid 0", func(c *oci.Container, _ *oci.Host) { c.User.UID = 0 }, "never runs as root"},
		{"gid 0", func(c *oci.Container, _ *oci.Host) { c.User.GID = 0 }, "never runs as root"},
		{"negative memory", func(c *oci.Container, _ *oci.Host) { c.Limits.Memory = -1 }, "negative"},
		{"negative pids", func(c *oci.Container, _ *oci.Host) { c.Limits.Pids = -1 }, "negative"},
		{"negative CPUs", func(c *oci.Container, _ *oci.Host) { c.Limits.CPUs = -0.5 }, "negative"},
		{"environment without =", func(c *oci.Container, _ *oci.Host) { c.Env = []string{"HOME"} }, "environment"},
		{"environment with NUL", func(c *oci.Container, _ *oci.Host) { c.Env = []string{"A=b\x00LD_PRELOAD=x"} }, "NUL"},
		{"no uid map", func(_ *oci.Container, h *oci.Host) { h.UIDMap = nil }, "uid map"},
		{"no gid map", func(_ *oci.Container, h *oci.Host) { h.GIDMap = nil }, "gid map"},
		{
			"map that does not cover 0",
			func(_ *oci.Container, h *oci.Host) {
				h.UIDMap = []oci.IDMap{{Container: 1, Host: 500_000, Size: 65_535}}
			},
			"must cover 0 and 65534",
		},
		{
			"map that does not cover the user",
			func(c *oci.Container, h *oci.Host) {
				h.GIDMap = []oci.IDMap{{Container: 0, Host: 500_000, Size: 65_534}}
			},
			"gid map",
		},
		{"map that does not cover a large user", func(c *oci.Container, _ *oci.Host) { c.User.UID = 1<<32 - 1 }, "uid map"},
		{
			"the identity",
			func(_ *oci.Container, h *oci.Host) { h.UIDMap = []oci.IDMap{{Container: 0, Host: 0, Size: 65_536}} },
			"uid map",
		},
		{
			"the identity of the user alone",
			func(_ *oci.Container, h *oci.Host) {
				h.GIDMap = []oci.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 65534, Host: 65534, Size: 1}}
			},
			"gid map",
		},
		{
			"a range that is the identity from its second line on",
			func(_ *oci.Container, h *oci.Host) {
				h.UIDMap = []oci.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 1, Host: 1, Size: 65_535}}
			},
			"uid map",
		},
		{
			"the host's root as somebody",
			func(_ *oci.Container, h *oci.Host) {
				h.UIDMap = []oci.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 65534, Host: 0, Size: 1}}
			},
			"uid map",
		},
		{"nothing said of limits", func(_ *oci.Container, h *oci.Host) { h.Limits = "" }, "enforcement"},
		{"unknown enforcement", func(_ *oci.Container, h *oci.Host) { h.Limits = "hope" }, "enforcement"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, h := container(), rootHost()
			tt.with(&c, &h)
			spec, err := oci.Spec(c, h)
			if err == nil || spec != nil {
				t.Fatalf("Spec = %v, %v; want an error", spec, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	start := &oci.StartError{Step: "exec python3", Err: os.ErrNotExist}
	if got, want := start.Error(), "cannot start container: exec python3: file does not exist"; got != want {
		t.Errorf("StartError: %q, want %q", got, want)
	}
	if start.Unwrap() != os.ErrNotExist {
		t.Error("StartError does not unwrap to its cause")
	}
	host := &oci.HostError{Missing: "no cgroup", Fix: "mount one"}
	if got, want := host.Error(), "no cgroup; mount one"; got != want {
		t.Errorf("HostError: %q, want %q", got, want)
	}
}
