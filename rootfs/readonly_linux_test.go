package rootfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tmpfs is a file system of its own.
func tmpfs(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		skip(t, "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestReadOnly: a cache that cannot be written, as a CI system restores it, serves what is in it.
func TestReadOnly(t *testing.T) {
	dir := tmpfs(t, "mode=755")
	l := newLayout(t)
	ref := l.index(l.image(testImage{layers: [][]byte{python(t)}}))
	s := &Store{Dir: filepath.Join(dir, "cache")}
	want, err := s.Ensure(t.Context(), ref)
	if err == nil {
		err = errors.Join(s.Settle(t.Context()), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	editRecord(t, want, func(e *entry) { e.Boot = "another machine's" })
	unsettled := &Store{Dir: filepath.Join(dir, "unsettled")}
	if _, err := unsettled.Ensure(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if err := unsettled.Close(); err != nil {
		t.Fatal(err)
	}
	// The mount and not the file system, in which Landlock still knows a directory that has been removed.
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	before := snapshotOf(t, dir)
	got, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), ref)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if damages, err := s.Verify(t.Context(), true); len(damages) > 0 || err != nil {
		t.Errorf("%v %v", damages, err)
	}
	if err := unsettled.Settle(t.Context()); err != nil {
		t.Errorf("settling what cannot be written: %v", err)
	}
	if damages, err := unsettled.Verify(t.Context(), true); len(damages) > 0 || err != nil {
		t.Errorf("nothing recorded, nor to be: %v %v", damages, err)
	}
	if list, err := s.Images(t.Context()); len(list) != 1 || err != nil {
		t.Errorf("%v %v", list, err)
	}
	if diff := cmp.Diff(before, snapshotOf(t, dir)); diff != "" {
		t.Errorf("it was written: %s", diff)
	}
	other := newLayout(t)
	_, err = s.Ensure(t.Context(), other.index(other.image(testImage{layers: [][]byte{python(t)}, env: []string{"A=1"}})))
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("a new image: %v", err)
	}
}

// TestOtherUsersCache: another user's cache can be read, and where it cannot be written the error says what to do.
func TestOtherUsersCache(t *testing.T) {
	dir, exe, as := unprivileged(t)
	l := &testLayout{t: t, dir: filepath.Join(dir, "layout")}
	l.write(ispecLayout, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	ref := l.index(l.image(testImage{layers: [][]byte{python(t)}}))
	s := &Store{Dir: filepath.Join(dir, "cache")}
	if _, err := s.Ensure(t.Context(), ref); err != nil { // root's
		t.Fatal(err)
	}
	ensure := func(ref string) (string, error) {
		cmd := child(t, exe, "ensure", s.Dir, ref)
		cmd.SysProcAttr, cmd.Dir = as, "/"
		cmd.Env = append(cmd.Env, "HOME=/nonexistent") // whose policy.json would be another one's
		out, err := cmd.Output()
		return string(out) + cmd.Stderr.(*bytes.Buffer).String(), err
	}
	out, err := ensure(ref)
	var tree Tree
	if err != nil || json.Unmarshal([]byte(out), &tree) != nil || !strings.HasPrefix(tree.Path, s.Dir) {
		t.Errorf("%v: %s", err, out)
	}
	out, err = ensure(l.index(l.image(testImage{layers: [][]byte{python(t)}, env: []string{"A=1"}})))
	if err == nil || !strings.Contains(out, "permission denied") || !strings.Contains(out, "MCP_BRIDGE_CACHE_DIR") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPruneOtherProcess: what another process uses stays.
func TestPruneOtherProcess(t *testing.T) {
	s, refs := filled(t, 2)
	cmd := child(t, os.Args[0], "use", s.Dir, refs[1])
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatalf("%v: %s", err, cmd.Stderr)
	}
	removed, err := s.Prune(t.Context(), PruneOptions{MaxBytes: -1})
	if err != nil || len(removed) != 1 || removed[0].Ref != refs[0] {
		t.Errorf("removed %v, %v", removed, err)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if removed, err = s.Prune(t.Context(), PruneOptions{MaxBytes: -1}); err != nil || len(removed) != 1 {
		t.Errorf("then removed %v, %v", removed, err)
	}
	checkClean(t, s, 0)
}
