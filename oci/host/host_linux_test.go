//go:build linux

package host

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

func TestMapsFor(t *testing.T) {
	user := oci.Host{
		UIDMap: []oci.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 65534, Host: 100_000, Size: 1}},
		GIDMap: []oci.IDMap{{Container: 0, Host: 1001, Size: 1}, {Container: 65534, Host: 200_000, Size: 1}},
	}
	uid, gid := mapsFor(user, oci.User{UID: 7, GID: 8})
	if diff := cmp.Diff([]oci.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 7, Host: 100_000, Size: 1}}, uid); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]oci.IDMap{{Container: 0, Host: 1001, Size: 1}, {Container: 8, Host: 200_000, Size: 1}}, gid); diff != "" {
		t.Error(diff)
	}
	if user.UIDMap[1].Container != 65534 || user.GIDMap[1].Container != 65534 {
		t.Error("the host's own map was changed, which other containers use")
	}
	root := oci.Host{UIDMap: []oci.IDMap{{Container: 0, Host: 500_000, Size: 65536}}}
	if uid, _ := mapsFor(root, oci.User{UID: 7, GID: 8}); !cmp.Equal(uid, root.UIDMap) {
		t.Errorf("the map of a range is %v", uid)
	}
}

// TestRecordsAreFound: what a launcher writes for the next one has to be what that one looks for.
func TestRecordsAreFound(t *testing.T) {
	for _, id := range []string{"a", "abc-123", strings.Repeat("a", 64), "t1-2"} {
		if !isRecordName(id+".json") || !isCgroupName(cgroupPrefix+id) {
			t.Errorf("a crash would leave container %q for ever", id)
		}
	}
	for _, name := range []string{"lock", "a/b.json", "../a.json", ".json", "A.json", "a.json.tmp", "a.jsonx"} {
		if isRecordName(name) {
			t.Errorf("%q is taken for a record", name)
		}
	}
	s, err := openState(filepath.Join(t.TempDir(), "state"), discard)
	if err != nil {
		t.Fatal(err)
	}
	if !isStateName(s.Name()) {
		t.Errorf("%s would not be swept", s.Path)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

func TestTraversable(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-host-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(p, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := traversable(p); err != nil {
		t.Errorf("a path that anybody may enter: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := traversable(p); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "a")+" may not be entered by others (mode 0750)") {
		t.Errorf("a closed directory: %v", err)
	}
	if err := traversable(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing directory is traversable")
	}
}

// TestExplain: what a user can act on is said; what is unknown stays as it is.
func TestExplain(t *testing.T) {
	open := oci.Container{Rootfs: "/usr"}
	masked := &oci.StartError{Step: "start", Err: errors.New("error mounting \"proc\" to rootfs at \"/proc\": operation not permitted")}
	var host *oci.HostError
	if err := explain(masked, open); !errors.As(err, &host) || !strings.Contains(host.Fix, "unmask") {
		t.Errorf("a masked /proc: %v", err)
	}
	other := &oci.StartError{Step: "start", Err: errors.New("the moon is full")}
	if err := explain(other, open); err != error(other) {
		t.Errorf("an unknown cause became %v", err)
	}
}

func TestCandidates(t *testing.T) {
	got := candidates("/user.slice/app.scope")
	want := []string{"/user.slice/app.scope", "/user.slice", "/"}
	if os.Geteuid() != 0 {
		want = want[:2]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIsCgroup(t *testing.T) {
	for p, want := range map[string]bool{"/": false, "/proc": false, "/sys/fs/cgroup/no/such": false, t.TempDir(): false} {
		if isCgroup(p) != want {
			t.Errorf("isCgroup(%s) = %v", p, !want)
		}
	}
}

var discard = slog.New(slog.DiscardHandler)

// TestOOMKilled: what a cgroup says of kills, and of none where there is no cgroup, whatever lies in the working directory.
func TestOOMKilled(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("memory.events", []byte("oom 0\noom_kill 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if killed, starved := oomKilled(nil); killed || starved {
		t.Errorf("without a cgroup: %v, %v", killed, starved)
	}
	for _, tt := range []struct {
		name            string
		version         string
		files           map[string]string
		killed, starved bool
	}{
		{"2, none", "", map[string]string{"memory.events": "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\noom_group_kill 0\n"}, false, false},
		{"2, own limit", "", map[string]string{"memory.events": "max 9\noom 1\noom_kill 3\noom_group_kill 1\n"}, true, false},
		{"2, a limit above", "", map[string]string{"memory.events": "max 9\noom 0\noom_kill 3\n"}, true, true},
		{"2, gone", "", nil, false, false},
		{"1, own limit", "memory", map[string]string{"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "memory.max_usage_in_bytes": "67108864\n", "memory.limit_in_bytes": "67108864\n"}, true, false},
		{"1, a limit above", "memory", map[string]string{"memory.oom_control": "oom_kill 1\n", "memory.max_usage_in_bytes": "60000000\n", "memory.limit_in_bytes": "67108864\n"}, true, true},
		{"1, unreadable", "memory", map[string]string{"memory.oom_control": "oom_kill 1\n"}, true, false},
		{"1, none", "memory", map[string]string{"memory.oom_control": "oom_kill 0\n", "memory.max_usage_in_bytes": "67108864\n", "memory.limit_in_bytes": "67108864\n"}, false, false},
	} {
		dir := t.TempDir()
		for name, text := range tt.files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if killed, starved := oomKilled(map[string]string{tt.version: dir}); killed != tt.killed || starved != tt.starved {
			t.Errorf("%s: killed %v, starved %v", tt.name, killed, starved)
		}
	}
}
