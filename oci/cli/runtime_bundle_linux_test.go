//go:build linux && cgo

package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// TestArguments: what each runtime is told.
func TestArguments(t *testing.T) {
	root, user := setting{root: "/r", cgroups: true}, setting{root: "/r", rootless: true}
	for _, tt := range []struct {
		kind string
		s    setting
		want string
	}{
		{"crun", root, "--root /r --cgroup-manager cgroupfs run --detach --bundle /b --pid-file /p --preserve-fds 2 id"},
		{"crun", user, "--root /r --cgroup-manager disabled run --detach --bundle /b --pid-file /p --preserve-fds 2 id"},
		{"runc", root, "--root /r --rootless false run --detach --bundle /b --pid-file /p --preserve-fds 2 id"},
		{"runc", user, "--root /r --rootless true run --detach --bundle /b --pid-file /p --preserve-fds 2 id"},
		{"youki", root, "--root /r run --detach --bundle /b --pid-file /p --preserve-fds 2 id"},
		{"runsc", root, "--root /r --rootless=false --ignore-cgroups=false run --detach --bundle /b --pid-file /p --pass-fd 3:3 --pass-fd 4:4 id"},
		{"runsc", user, "--root /r --rootless=true --ignore-cgroups=true run --detach --bundle /b --pid-file /p --pass-fd 3:3 --pass-fd 4:4 id"},
		{"another", user, "--root /r run --detach --bundle /b --pid-file /p --preserve-fds 2 id"},
	} {
		if got := strings.Join(program{kind: tt.kind}.run(tt.s, "/b", "/p", "id", 2), " "); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.kind, got, tt.want)
		}
	}
	if got, want := strings.Join(program{kind: "runc"}.remove(root, "id"), " "), "--root /r --rootless false delete --force id"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestAdapt: what is stage0's is out of the specification, and nothing else.
func TestAdapt(t *testing.T) {
	c := oci.Container{
		ID: "a", Rootfs: "/image", Args: []string{"/bin/x", "y"}, Env: []string{"A=b"}, User: oci.User{UID: 7, GID: 8}, Limits: oci.Limits{Memory: 1 << 20, Pids: 9},
	}
	m := []oci.IDMap{{Container: 0, Host: 1000, Size: 100}}
	for nested, caps := range map[bool]string{
		false: "[CAP_CHOWN CAP_SETGID CAP_SETPCAP CAP_SETUID]", true: "[CAP_CHOWN CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SETFCAP]",
	} {
		s, err := oci.Spec(c, oci.Host{UIDMap: m, GIDMap: m, Limits: oci.ByRlimits, Nested: nested})
		if err != nil {
			t.Fatal(err)
		}
		adapt(s, c, nested, 2, 3224)
		p := s.Process
		if p.User.UID != 0 || p.User.GID != 0 || len(s.Linux.Sysctl) != 0 || !p.NoNewPrivileges || fmt.Sprint(p.Capabilities.Bounding) != caps || p.Capabilities.Inheritable != nil || p.Capabilities.Ambient != nil {
			t.Errorf("%+v, sysctl %v", p, s.Linux.Sysctl)
		}
		if got := fmt.Sprint(p.Rlimits); strings.Contains(got, "RLIMIT_AS") || strings.Contains(got, "RLIMIT_NPROC") || len(p.Rlimits) != 4 {
			t.Errorf("rlimits %s", got)
		}
		n := map[bool]string{false: "0", true: "1"}[nested]
		if got, want := fmt.Sprint(p.Args), "[/proc/self/fd/6 stage0 2 4194304 9 3224 7 8 "+n+" /bin/x y]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
