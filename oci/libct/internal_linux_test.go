//go:build linux && cgo

package libct

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

func words(kind, value uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, kind), value)
}

func TestReadReport(t *testing.T) {
	read := func(b []byte) (oci.Exit, bool, error) { return readReport(bytes.NewReader(b), "/usr/bin/python3") }
	for code := range uint32(256) {
		if exit, ok, err := read(words(exited, code<<8)); err != nil || !ok || exit != (oci.Exit{Code: int(code)}) {
			t.Errorf("code %d: %+v, %v, %v", code, exit, ok, err)
		}
	}
	for sig := syscall.Signal(1); sig < 65; sig++ {
		for _, core := range []uint32{0, 0x80} {
			exit, ok, err := read(words(exited, uint32(sig)|core))
			if err != nil || !ok || exit != (oci.Exit{Code: 128 + int(sig), Signal: sig}) {
				t.Errorf("signal %d: %+v, %v, %v", sig, exit, ok, err)
			}
		}
	}
	for n := range 8 {
		if exit, ok, err := read(words(exited, 0)[:n]); err != nil || ok {
			t.Errorf("%d bytes: %+v, %v, %v; want no report", n, exit, ok, err)
		}
	}
	var start *oci.StartError
	if _, ok, err := read(words(noExec, uint32(syscall.ENOENT))); !ok || !errors.As(err, &start) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/usr/bin/python3") {
		t.Errorf("no exec: %v, %v", ok, err)
	}
	if _, ok, err := read(words(failed, uint32(syscall.EPERM))); !ok || !errors.As(err, &start) || start.Step != "stage0" {
		t.Errorf("failed: %v, %v", ok, err)
	}
	if _, ok, err := read(words(99, 1)); !ok || err == nil {
		t.Errorf("unknown kind: %v, %v; want an error", ok, err)
	}
}

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
	if !isStateName(filepath.Base(s.dir)) {
		t.Errorf("%s would not be swept", s.dir)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

func TestTraversable(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-libct-")
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

func TestStage0Args(t *testing.T) {
	got := fmt.Sprint(stage0Args(2, weakLimits{memory: 1 << 20, pids: 7}, 3224, oci.User{UID: 5, GID: 6}, []string{"/bin/x", "y"}))
	if want := "[/proc/self/exe stage0 2 1048576 7 3224 5 6 /bin/x y]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

var discard = slog.New(slog.DiscardHandler)
