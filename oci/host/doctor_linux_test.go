//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

func TestStepOf(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`cannot start container: start: error mounting "proc" to rootfs at "/proc": mount src=proc: operation not permitted`, "fresh proc"},
		{`cannot start container: start: error mounting "tmpfs" to rootfs at "/tmp": no such file or directory`, "mounts"},
		{`cannot start container: start: error jailing process inside rootfs: pivot_root .: invalid argument`, "pivot"},
		{`cannot start container: start: can't get final child's PID from pipe: EOF; runc init error(s): nsexec-0[7]: failed to use newuid map on 8`, "id maps"},
		{`nsexec: failed to update /proc/12/uid_map: operation not permitted`, "id maps"},
		{`cannot start container: start: cannot set memory.limit_in_bytes to 1: invalid argument`, "cgroup"},
		{`cannot make cgroup: permission denied`, "cgroup"},
		{`open /proc/sys/user/max_user_namespaces: read-only file system`, "fresh proc"},
		{`cannot start container: start: cannot make a fresh proc (mounting "proc"): operation not permitted`, "fresh proc"},
		{`cannot start container: start: cannot do a mount (mounting): tmpfs 14 mode=0700 /tmp: no such file or directory`, "mounts"},
		{`cannot start container: start: cannot leave the host's mounts (pivot_root): invalid argument`, "pivot"},
		{`cannot start container: start: cannot map ids: newuid map failed: exit status 1`, "id maps"},
		{`something that nobody has seen before`, "container"},
	} {
		if got := stepOf(tt.text); got != tt.want {
			t.Errorf("stepOf(%q) = %s, want %s", tt.text, got, tt.want)
		}
	}
}

func TestWhyNoUserNS(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[Cause]string
		root     bool
		want     Cause
	}{
		{"no setting", nil, false, NoUserNS},
		{"all is allowed", map[Cause]string{MaxUserNS: "15000", UserNSClone: "1", AppArmorUserNS: "0"}, false, NoUserNS},
		{"none", map[Cause]string{MaxUserNS: "0"}, true, MaxUserNS},
		{"Debian 10", map[Cause]string{MaxUserNS: "15000", UserNSClone: "0"}, false, UserNSClone},
		{"Debian 10, root", map[Cause]string{MaxUserNS: "15000", UserNSClone: "0"}, true, NoUserNS},
		{"Ubuntu 24.04", map[Cause]string{MaxUserNS: "15000", UserNSClone: "1", AppArmorUserNS: "1"}, false, AppArmorUserNS},
		{"Ubuntu 24.04, root", map[Cause]string{AppArmorUserNS: "1"}, true, NoUserNS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := whyNoUserNS(tt.settings, tt.root); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	for release, old := range map[string]bool{"6.18.44-fc": false, "5.14.0-427.el9": false, "5.13.1": true, "4.18.0-553.el8_10": true, "next": false} {
		if got := describeKernel(release); strings.Contains(got, "before 5.14") != old || !strings.HasPrefix(got, release) {
			t.Errorf("describeKernel(%q) = %q", release, got)
		}
	}
	if got := describeUser(1000, "ann"); got != "ann (uid 1000)" {
		t.Error(got)
	}
	if got := describeUser(1000, ""); !strings.Contains(got, "/etc/passwd") {
		t.Error(got)
	}
	if got := oneLine("a\nb\x1b[31m\u2028c\n"); got != "a; b [31m c" {
		t.Errorf("%q", got)
	}
}

func TestControllerChecks(t *testing.T) {
	for _, tt := range []struct {
		available []string
		cpus      float64
		want      string
	}{
		{[]string{"cpu", "memory", "pids"}, 1, "[ok ok ok]"},
		{[]string{"memory", "pids"}, 0, "[ok ok skipped]"},
		{[]string{"memory", "pids"}, 0.5, "[ok ok failed]"},
		{nil, 0, "[failed failed skipped]"},
	} {
		var got []Status
		for _, c := range controllerChecks(tt.available, oci.Limits{CPUs: tt.cpus}) {
			got = append(got, c.Status)
			if (c.Status == OK) == (c.Cause == NoController) {
				t.Errorf("%+v", c)
			}
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%v with %v CPUs: %v, want %s", tt.available, tt.cpus, got, tt.want)
		}
	}
}

// TestTryChild: a step that fails is told from one that does not, and neither leaves a child.
func TestTryChild(t *testing.T) {
	if err := tryChild(syscall.SysProcAttr{}); err != nil {
		t.Errorf("nothing to try: %v", err)
	}
	if err := tryChild(syscall.SysProcAttr{Chroot: "/proc/none"}); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPERM) {
		t.Errorf("a step that cannot work: %v", err)
	}
	var d diagnosis
	d.namespaces()
	if len(d.checks) != 2 {
		t.Errorf("%+v", d.checks)
	}
	for _, c := range d.checks {
		if c.Status == Failed && c.Cause == Unknown {
			t.Errorf("no cause: %+v", c)
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err == nil && len(strings.Fields(string(b))) > 0 {
		t.Errorf("children are left: %s", b)
	}
}

// TestBlame: what a container shows of an earlier step changes that step.
func TestBlame(t *testing.T) {
	var d diagnosis
	d.add("cgroup", OK, "fine", Unknown)
	if !d.blame("cgroup", errors.New("cannot make cgroup: no space")) || d.checks[0].Status != Failed || d.checks[0].Cause != NoCgroup {
		t.Errorf("%+v", d.checks)
	}
	if d.blame("mounts", errors.New("x")) {
		t.Error("a step that is not there")
	}
	d.outcome("program", &oci.HostError{Missing: "it may not", Fix: "chmod"}, "", Unknown)
	if c := d.checks[1]; c.Detail != "it may not" || c.Fix != "chmod" {
		t.Errorf("%+v", c)
	}
}
