//go:build linux && cgo

package probes

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A suite that cannot fail is none. Fewer than these must not get through, or the probes prove nothing: without the
// filter on the kernel of the documented scores and on any other, which may lack what is probed, and without any wall.
// And some must by name, which a kernel of any distribution has, so that the bulk does not make up for those that matter.
const (
	leastUnfiltered = 50
	leastElsewhere  = 40
	leastBare       = 50
)

// mustEscapeUnfiltered have no wall but the filter.
var mustEscapeUnfiltered = []string{
	"ns.clone3_hidden", "ns.fsconfig", "priv.seccomp_on", "priv.ptrace", "priv.process_vm", "sys.bpf", "sys.perf_event_open",
	"sys.io_uring_setup", "sys.io_uring_works", "sys.keyctl", "sys.add_key", "sys.request_key", "sys.keyring_search",
	"sys.userfaultfd_works", "sys.personality", "sys.filter_add", "sys.vmsplice", "sys.name_to_handle_at",
	"net.inet_socket", "net.sock_netlink_route", "net.sock_netlink_xfrm",
}

// mustEscapeBare have a second wall in our sandboxes, which is not there in a bare namespace.
var mustEscapeBare = []string{
	"env.own", "ns.unshare_user", "ns.unshare_user_combo", "ns.clone_newuser", "ns.clone3_newuser", "ns.all_private",
	"priv.caps_zero", "priv.no_new_privs", "priv.uid", "priv.pidfd_getfd", "net.interfaces",
}

// TestNegativeControl: without the filter, the probes of what it is for get through.
func TestNegativeControl(t *testing.T) {
	found := inproc(t, true)
	here, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	least := leastElsewhere
	if *update || documented(t).Machine == here {
		least = leastUnfiltered
	}
	mustEscape(t, names(found, "ESCAPED"), least, mustEscapeUnfiltered)
	record(t, found, true)
}

// TestBareControl: in a user and a process namespace of somebody without rights, and with no other wall, the probes get
// through that our sandboxes stop in two ways. Those of files, which would search the whole host, are left out.
func TestBareControl(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "--kill-child",
		"python3", "-I", "-")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), secretEnv + "=" + canaryName()}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodys, Gid: nobodys}}
	}
	cmd.Stdin = strings.NewReader("ONLY = 'env.,ns.,priv.,sys.,net.'\n" + probe(t, "inproc.py"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		skip(t, fmt.Sprintf("no bare namespace: %v: %s", err, out))
	}
	var escaped []string
	for _, v := range verdicts(strings.Split(string(out), "\n")) {
		if v.word == "ESCAPED" {
			escaped = append(escaped, v.name)
		}
	}
	mustEscape(t, escaped, leastBare, mustEscapeBare)
	scores.bare = len(escaped)
}

func mustEscape(t *testing.T, escaped []string, least int, byName []string) {
	t.Helper()
	t.Logf("%d get through: %v", len(escaped), escaped)
	if len(escaped) < least {
		t.Errorf("only %d probes get through, at least %d must", len(escaped), least)
	}
	for _, name := range byName {
		if !slices.Contains(escaped, name) {
			t.Errorf("%s does not get through: its probe proves nothing here", name)
		}
	}
}
