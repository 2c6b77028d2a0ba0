package rootfs

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestEnsureKilled: in each round six processes want the same new image, and at moments of chance two of them, or what
// unpacks for them, are killed. The others get the whole image, and nothing stays behind.
func TestEnsureKilled(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, uint64(7))) // reproducible, as far as the moments are
	t.Logf("seed %d", seed)
	l := newLayout(t)
	layers := [][]byte{python(t)}
	for n := range 4 {
		hdrs := []tar.Header{folder(fmt.Sprintf("d%d", n), 0o755)}
		for i := range 150 {
			hdrs = append(hdrs, file(fmt.Sprintf("d%d/f%d", n, i), strings.Repeat(fmt.Sprint(seed, n, i), 1000)))
		}
		layers = append(layers, archive(t, hdrs...))
	}
	s := newStore(t)
	var want map[string]string
	killed, failed := 0, 0
	for round := range rounds {
		ref := l.index(l.image(testImage{compress: "gzip", layers: layers, env: []string{fmt.Sprint("ROUND=", round)}}))
		var all []*exec.Cmd
		victims := map[int]bool{rnd.IntN(6): true, rnd.IntN(6): true}
		for range 6 {
			cmd := child(t, os.Args[0], "ensure", s.Dir, ref)
			cmd.Stdout = &bytes.Buffer{}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			all = append(all, cmd)
		}
		for i := range victims {
			<-time.After(time.Duration(rnd.IntN(150)) * time.Millisecond)
			pid := all[i].Process.Pid
			if rnd.IntN(3) == 0 { // the unpacker, if this is the one that has it
				if p := unpackerOf(t, pid); p != 0 {
					pid = p
				}
			}
			if err := unix.Kill(pid, unix.SIGKILL); err == nil {
				killed++
			}
		}
		var trees []Tree
		for i, cmd := range all {
			err := cmd.Wait()
			if err != nil {
				failed++
				if !victims[i] {
					t.Errorf("round %d, process %d: %v: %s", round, i, err, cmd.Stderr)
				}
				continue
			}
			var tree Tree
			if err := json.Unmarshal(cmd.Stdout.(*bytes.Buffer).Bytes(), &tree); err != nil {
				t.Fatal(err)
			}
			trees = append(trees, tree)
		}
		// A new start sweeps.
		tree, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range trees {
			if diff := cmp.Diff(tree, other); diff != "" {
				t.Errorf("round %d: %s", round, diff)
			}
		}
		got := listing(t, tree.Path)
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) < 600 {
			t.Errorf("round %d: %d files; %s", round, len(got), diff)
		}
		checkClean(t, s, round+1)
	}
	t.Logf("%d were killed, %d ended with an error", killed, failed)
	if left, err := filepath.Glob("/proc/[0-9]*/cmdline"); err == nil {
		for _, p := range left {
			b, _ := os.ReadFile(p) // it may be gone
			if cwd, _ := os.Readlink(filepath.Dir(p) + "/fd/3"); strings.HasPrefix(string(b), unpackName) && strings.HasPrefix(cwd, s.Dir) {
				t.Errorf("an unpacker is alive: %s", p)
			}
		}
	}
}
