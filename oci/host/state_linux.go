//go:build linux

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// cgroupPrefix begins the name of every cgroup of ours.
const cgroupPrefix = "mcp-bridge-"

// state is a Launcher's own directory in the state directory.
//
//	STATE_DIR/<random>/<id>.json        the cgroups of a container: what no crash takes away by itself
//	STATE_DIR/<random>/<id>/            libcontainer's state, or the bundle of a runtime that is a program
type state struct{ *StateDir }

// openState makes one, and removes what crashed servers have left.
func openState(parent string, log *slog.Logger) (*state, error) {
	dir, err := NewStateDir(parent)
	if err != nil {
		return nil, err
	}
	dir.Sweep(log, func(dir *os.Root, _ string) error { return removeRecorded(dir) })
	return &state{dir}, nil
}

// close removes the directory, but for the records of what could not be removed: those are for the next start.
func (s *state) close() error {
	var err error
	if dir, oerr := os.OpenRoot(s.Path); oerr == nil {
		err = removeRecorded(dir)
		dir.Close()
	}
	return errors.Join(err, s.Close(err != nil))
}

func (s *state) record(id string, cgroups map[string]string) error {
	b, err := json.Marshal(cgroups)
	if err != nil {
		return fmt.Errorf("cannot record container: %w", err)
	}
	// A record that is there is of a container that runs: two of one name would end each other.
	f, err := os.OpenFile(filepath.Join(s.Path, id+".json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot record container in the state directory: %w; if it is full, set MCP_BRIDGE_STATE_DIR to a place that is not", err)
	}
	return nil
}

func (s *state) forget(id string) { _ = os.Remove(filepath.Join(s.Path, id+".json")) }

func isRecordName(s string) bool {
	id, ok := strings.CutSuffix(s, ".json")
	return ok && oci.ValidID(id)
}

func isCgroupName(s string) bool {
	id, ok := strings.CutPrefix(s, cgroupPrefix)
	return ok && oci.ValidID(id)
}

// removeRecorded removes the cgroups that the records in dir name, which are believed only so far: what is touched is a
// cgroup and bears our name.
func removeRecorded(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(10_000)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var errs []error
	for _, n := range names {
		if !isRecordName(n) {
			continue
		}
		var paths map[string]string
		if b, err := readRecord(dir, n); err != nil || json.Unmarshal(b, &paths) != nil {
			continue // cut short by the crash, before the container had started, or not ours
		}
		errs = append(errs, removeCgroups(paths))
	}
	return errors.Join(errs...)
}

// readRecord reads a small regular file, and waits for nobody: a FIFO of that name would block.
func readRecord(dir *os.Root, name string) ([]byte, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() > maxRecord {
		return nil, errors.Join(err, errors.New("not a record"))
	}
	return io.ReadAll(io.LimitReader(f, maxRecord))
}

const maxRecord = 1 << 16

// removeCgroups kills what is in the given cgroups, if anything is, and removes them.
func removeCgroups(paths map[string]string) error {
	for controller, p := range paths {
		// A link of our name could lead to a cgroup of any other.
		real, err := filepath.EvalSymlinks(p)
		if err != nil || real != p || !filepath.IsAbs(p) || !isCgroupName(filepath.Base(p)) || !isCgroup(p) {
			delete(paths, controller)
			continue
		}
		// cgroup.kill does it at once, but is v2 and Linux 5.14 and later.
		if os.WriteFile(filepath.Join(p, "cgroup.kill"), []byte("1"), 0) == nil {
			continue
		}
		killAll(func() []int { return processesOf(p) }, false, false)
	}
	if err := cgroups.RemovePaths(paths); err != nil {
		return fmt.Errorf("cannot remove cgroups: %w", err)
	}
	return nil
}

func isCgroup(p string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(p, &fs) == nil && (fs.Type == unix.CGROUP_SUPER_MAGIC || fs.Type == unix.CGROUP2_SUPER_MAGIC)
}
