//go:build linux

package host

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

const (
	// cgroupPrefix begins the name of every cgroup of ours.
	cgroupPrefix = "mcp-bridge-"
	// newPrefix begins the name of a state directory that is not locked yet.
	newPrefix = "new-"
)

// state is a Launcher's own directory in the state directory. It is locked while the Launcher lives; a directory whose
// lock is free is what a crash left, and is swept by the next start.
//
//	STATE_DIR/<random>/lock             flock
//	STATE_DIR/<random>/<id>.json        the cgroups of a container: what no crash takes away by itself
//	STATE_DIR/<random>/<id>/            libcontainer's state, or the bundle of a runtime that is a program
type state struct {
	parent, dir string
	lock        *os.File
	log         *slog.Logger
}

func openState(parent string, log *slog.Logger) (*state, error) {
	name := strings.ToLower(rand.Text())
	s := &state{parent: parent, dir: filepath.Join(parent, name), log: log}
	// It gets its name when it is locked, so that no other start can take it for a dead one's.
	unlocked := filepath.Join(parent, newPrefix+name)
	// Another server that ends removes an empty parent: make it again.
	var err error
	for range 3 {
		if err = os.MkdirAll(parent, 0o700); err != nil {
			break
		}
		if err = os.Mkdir(unlocked, 0o711); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the state directory: %w; set MCP_BRIDGE_STATE_DIR to a writable place", err)
	}
	if err := s.take(unlocked); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock the state directory: %w", err), os.RemoveAll(unlocked), s.close())
	}
	s.sweep()
	return s, nil
}

func (s *state) take(unlocked string) error {
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(unlocked, "lock"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	return os.Rename(unlocked, s.dir)
}

// lost says that somebody has removed the directory, or at least the lock, without which it is not ours.
func (s *state) lost() bool {
	there, err := os.Stat(filepath.Join(s.dir, "lock"))
	ours, oerr := s.lock.Stat()
	return errors.Is(err, os.ErrNotExist) || err == nil && oerr == nil && !os.SameFile(there, ours)
}

// close removes the directory, but for the records of what could not be removed: those are for the next start.
func (s *state) close() error {
	var err error
	if dir, oerr := os.OpenRoot(s.dir); oerr == nil {
		err = removeRecorded(dir)
		dir.Close()
	}
	if err == nil {
		err = os.RemoveAll(s.dir)
	}
	if s.lock != nil {
		s.lock.Close()
	}
	_ = os.Remove(s.parent) // ours to remove if it is empty; not if it is not
	return err
}

func (s *state) record(id string, cgroups map[string]string) error {
	b, err := json.Marshal(cgroups)
	if err != nil {
		return fmt.Errorf("cannot record container: %w", err)
	}
	// A record that is there is of a container that runs: two of one name would end each other.
	f, err := os.OpenFile(filepath.Join(s.dir, id+".json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot record container in the state directory: %w", err)
	}
	return nil
}

func (s *state) forget(id string) { _ = os.Remove(filepath.Join(s.dir, id+".json")) }

// The names of ours. No regular expressions: compiling one costs each start of a container 0.1 ms.
func isStateName(s string) bool { // rand.Text in lower case
	return len(s) == 26 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func isRecordName(s string) bool {
	id, ok := strings.CutSuffix(s, ".json")
	return ok && oci.ValidID(id)
}

func isCgroupName(s string) bool {
	id, ok := strings.CutPrefix(s, cgroupPrefix)
	return ok && oci.ValidID(id)
}

// sweep removes what crashed servers left. The state directory may lie in a directory of somebody else's making, such
// as a cloned repository, so nothing in it is believed: os.Root keeps paths inside, and a recorded cgroup is touched
// only if it is a cgroup and bears our name.
func (s *state) sweep() {
	root, err := os.OpenRoot(s.parent)
	if err != nil {
		return
	}
	defer root.Close()
	entries, err := os.ReadDir(s.parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), newPrefix) {
			// Killed within its first millisecond; nothing ran yet.
			if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > time.Hour {
				_ = root.RemoveAll(e.Name())
			}
			continue
		}
		if !e.IsDir() || !isStateName(e.Name()) || filepath.Join(s.parent, e.Name()) == s.dir {
			continue
		}
		if err := s.sweepOne(root, e.Name()); err != nil {
			s.log.Warn("cannot clean up after a crashed server", "dir", filepath.Join(s.parent, e.Name()), "error", err)
		}
	}
}

func (s *state) sweepOne(root *os.Root, name string) error {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := dir.Stat(".")
	if err != nil {
		return err
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return nil // another user's
	}
	lock, err := dir.OpenFile("lock", os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return root.RemoveAll(name) // it had one when it got its name: whoever removed it, cgroups first, was killed meanwhile
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // alive
	}
	if err := removeRecorded(dir); err != nil {
		return err
	}
	s.log.Info("cleaned up after a crashed server", "dir", filepath.Join(s.parent, name))
	return root.RemoveAll(name)
}

// removeRecorded removes the cgroups that the records in dir name.
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
