//go:build linux

package ocitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

const denyEnv = "OCITEST_DENY"

// denied is a bridge on a host that answers EPERM to one system call, as an outer container's filter does. It says how a
// container ends there.
func (suite Suite) denied(ctx context.Context) int {
	var nr, arg uint32
	if _, err := fmt.Sscanf(os.Getenv(denyEnv), "%d %d", &nr, &arg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l := suite.New(host.Options{StateDir: os.Getenv(stateEnv)})
	defer l.Close()
	if err := deny(nr, arg); err != nil {
		fmt.Fprintln(os.Stderr, "cannot load a filter:", err)
		return 1
	}
	_, err := l.Run(ctx, python("print('it runs')"), oci.Streams{Stdout: os.Stdout})
	var start *oci.StartError
	var missing *oci.HostError
	fmt.Fprintf(os.Stdout, "%t %v\n", errors.As(err, &start) || errors.As(err, &missing), err)
	return 0
}

// deny makes a system call fail from now on, in this process and its children; with arg not 0 only if that is its
// first argument.
func deny(nr, arg uint32) error {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	differs := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	no := ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	filter := []unix.SockFilter{load(0), differs(nr, 1), no, ret(unix.SECCOMP_RET_ALLOW)}
	if arg != 0 {
		const firstArgument = 16 // of struct seccomp_data, its low half
		filter = []unix.SockFilter{load(0), differs(nr, 3), load(firstArgument), differs(arg, 1), no, ret(unix.SECCOMP_RET_ALLOW)}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}

// DeniedSteps: whatever a host does not allow, the start fails with an error that says so, which is the host's and not
// a bug of ours, and nothing is left.
func (suite HostSuite) DeniedSteps(t *testing.T) {
	suite.excepted(t)
	if os.Geteuid() != 0 {
		t.Skip("as a user the first of these make the host look like another")
	}
	for name, tt := range map[string]struct {
		nr, arg uint32
		want    string
	}{
		"user namespace":    {unix.SYS_UNSHARE, 0, "unshare"},
		"mount":             {unix.SYS_MOUNT, 0, "mount"},
		"pivot":             {unix.SYS_PIVOT_ROOT, 0, "pivot_root"},
		"host name":         {unix.SYS_SETHOSTNAME, 0, "sethostname"},
		"capabilities":      {unix.SYS_CAPSET, 0, "cap"},
		"no new privileges": {unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, "no_new_privs"},
		"filter":            {unix.SYS_PRCTL, unix.PR_SET_SECCOMP, "seccomp"},
		"groups":            {unix.SYS_SETGROUPS, 0, "setgroups"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = suite.selfEnv("denied", stateEnv+"="+t.TempDir(), denyEnv+"="+strconv.Itoa(int(tt.nr))+" "+strconv.Itoa(int(tt.arg)))
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			ok, text, _ := strings.Cut(strings.ToLower(stdout.String()), " ")
			if err != nil || ok != "true" || !strings.Contains(text, "operation not permitted") || !strings.Contains(text, tt.want) {
				t.Errorf("%v: %q\n%s\nwant an error about %q", err, stdout.String(), stderr.String(), tt.want)
			}
			if left := cgroupsNamed(t, "mcp-bridge-"+prefixOf(cmd.Process.Pid)); len(left) > 0 {
				t.Errorf("cgroups are left: %v", left)
			}
		})
	}
}
