package rootfs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// skip skips a test that needs what this machine has not. On CI, where root on Linux can do it, that is a failure:
// otherwise nobody would notice that it never runs.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
		t.Fatalf("this has to run on CI: %s", reason)
	}
	t.Skip(reason)
}

func child(t *testing.T, exe, kind string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+kind)
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// startHalf starts a process that is in the middle of making an entry, and returns what kills it with SIGKILL.
func startHalf(t *testing.T, cache, digest string) (kill func()) {
	t.Helper()
	cmd := child(t, os.Args[0], "half", cache, digest)
	if _, err := cmd.StdinPipe(); err != nil { // stays open until Wait
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "half\n" {
		t.Fatalf("the child said %q, %v: %s", line, err, cmd.Stderr)
	}
	return func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.Success() {
			t.Errorf("the child was not killed: %v", err)
		}
	}
}

// TestEnsureProcesses: several processes want one image; the one that began is killed, twice. All others get the same
// tree, and nothing unfinished is left.
func TestEnsureProcesses(t *testing.T) {
	l := newLayout(t)
	body := strings.Repeat("content ", 50_000)
	d := l.image(testImage{compress: "gzip", layers: [][]byte{python(t), archive(t, file("a", body), file("b", body))}})
	ref := l.index(d)
	s := newStore(t)
	// A first entry, so that the cache is there; and one that a killed process leaves for ever unless it is swept.
	other := newLayout(t)
	if _, err := s.Ensure(t.Context(), other.index(other.image(testImage{layers: [][]byte{python(t)}, env: []string{"O=1"}}))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		startHalf(t, s.Dir, "sha256:"+strings.Repeat("ab", 32))()
	}
	startHalf(t, s.Dir, d.Digest.String())()
	if got := names(t, filepath.Join(s.Dir, tmpDir)); len(got) == 0 {
		t.Fatal("the killed processes left nothing: this test tests nothing")
	}

	kill := startHalf(t, s.Dir, d.Digest.String()) // has the lock
	var waiting []*exec.Cmd
	for range 4 {
		cmd := child(t, os.Args[0], "ensure", s.Dir, ref)
		cmd.Stdout = &bytes.Buffer{}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, cmd)
	}
	if err := waiting[0].Process.Kill(); err != nil { // wherever it is
		t.Error(err)
	}
	kill()
	want, err := s.Ensure(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for i, cmd := range waiting {
		err := cmd.Wait()
		if i == 0 {
			continue
		}
		var got Tree
		if err != nil {
			t.Errorf("child %d: %v: %s", i, err, cmd.Stderr)
		} else if err := json.Unmarshal(cmd.Stdout.(*bytes.Buffer).Bytes(), &got); err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("child %d: (-want +got)\n%s", i, diff)
		}
	}
	// A new start on a warm cache sweeps: the killed one above may have left something after the others swept.
	if _, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), ref); err != nil {
		t.Error(err)
	}
	checkClean(t, s, 2)
	if b, err := os.ReadFile(filepath.Join(want.Path, "b")); string(b) != body {
		t.Errorf("b has %d bytes, %v", len(b), err)
	}
}

// TestEnsureKeepsLiveStaging: what another process is working on is not swept.
func TestEnsureKeepsLiveStaging(t *testing.T) {
	l := newLayout(t)
	ref := l.index(l.image(testImage{layers: [][]byte{python(t)}}))
	s := newStore(t)
	if _, err := s.Ensure(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	kill := startHalf(t, s.Dir, "sha256:"+strings.Repeat("cd", 32))
	if _, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), ref); err != nil {
		t.Error(err)
	}
	if got := names(t, filepath.Join(s.Dir, tmpDir)); len(got) != 1 {
		t.Errorf("tmp has %v, want the live one's", got)
	}
	kill()
	if _, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), ref); err != nil {
		t.Error(err)
	}
	checkClean(t, s, 1)
}

// TestEnsureDiskFull fills a small file system: by bytes, and by inodes.
func TestEnsureDiskFull(t *testing.T) {
	many := slices.Repeat([]byte(nil), 0)
	for i := range 300 {
		many = append(many, rawHeader("f"+strings.Repeat("x", i%50)+string(rune('a'+i/50)), '0', 0)...)
	}
	many = append(many, make([]byte, 1024)...)
	for name, layer := range map[string][]byte{"bytes": archive(t, file("large", strings.Repeat("x", 4<<20))), "inodes": many} {
		t.Run(name, func(t *testing.T) {
			dir := tmpfs(t, "size=1m,nr_inodes=100,mode=755")
			l := newLayout(t)
			s := &Store{Dir: filepath.Join(dir, "cache")}
			_, err := s.Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t), layer}, compress: "gzip"})))
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "image cache "+s.Dir+" is full") || !strings.Contains(err.Error(), "entry") {
				t.Errorf("got %v", err)
			}
			checkClean(t, s, 0)
		})
	}
}

// unprivileged returns a directory that uid 65534 owns, and a copy of this program that it can run.
func unprivileged(t *testing.T) (dir, exe string, as *syscall.SysProcAttr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to be somebody else; every other test runs as a user here")
	}
	dir, err := os.MkdirTemp("", "rootfs-user")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe = filepath.Join(dir, "test")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(exe, b, 0o755), os.Chown(dir, 65534, 65534), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, exe, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// TestEnsureUnprivileged makes trees as a user: an image whose files belong to many, and the host's Python.
func TestEnsureUnprivileged(t *testing.T) {
	dir, exe, as := unprivileged(t)
	l := &testLayout{t: t, dir: filepath.Join(dir, "layout")}
	l.write(ispecLayout, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	owned := file("owned", "x")
	owned.Uid, owned.Gid = 1234, 1234
	closed := folder("closed", 0o000)
	ref := l.index(l.image(testImage{compress: "zstd", layers: [][]byte{
		python(t),
		archive(t, owned, closed, file("closed/f", "1"), fileMode("suid", 0o4755), node("null", '3'), folder("gone/x", 0o500)),
		archive(t, file(".wh.gone", ""), file("closed/g", "2")),
	}}))
	for _, ref := range []string{ref, "host"} {
		cmd := child(t, exe, "ensure", filepath.Join(dir, "cache"), ref)
		cmd.SysProcAttr, cmd.Dir = as, "/"
		cmd.Env = append(cmd.Env, "PATH=/usr/bin:/bin", "HOME=/nonexistent")
		if ref == "host" && exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", "").Run() != nil {
			continue
		}
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v: %s", ref, err, cmd.Stderr)
			continue
		}
		var tree Tree
		if err := json.Unmarshal(out, &tree); err != nil {
			t.Fatal(err)
		}
		if ref == "host" {
			runHost(t, tree)
			continue
		}
		got := listing(t, tree.Path)
		for _, name := range []string{"gone", "null"} {
			if _, ok := got[name]; ok {
				t.Errorf("%s is there", name)
			}
		}
		for name, want := range map[string]string{"closed": "drwx------", "suid": "-rwxr-xr-x", "closed/f": "-rw-r--r--", "closed/g": "-rw-r--r--"} {
			if mode, _, _ := strings.Cut(got[name], " "); mode != want {
				t.Errorf("%s is %s, want %s", name, mode, want)
			}
		}
	}
}
