package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stateLock is the file in a StateDir that is locked while its owner lives.
	stateLock = "lock"
	// newPrefix begins the name of a StateDir that is not locked yet.
	newPrefix = "new-"
)

// A StateDir is a launcher's own directory in the state directory. It is locked while the launcher lives; one whose lock is
// free is what a crash left.
//
//	PARENT/<random>/lock    flock
type StateDir struct {
	Path string

	parent string
	lock   *os.File
}

// NewStateDir makes and locks a directory in parent, which it makes too.
func NewStateDir(parent string) (*StateDir, error) {
	name := strings.ToLower(rand.Text())
	d := &StateDir{Path: filepath.Join(parent, name), parent: parent}
	// It gets its name when it is locked, so that no other start can take it for a dead one's.
	unlocked := filepath.Join(parent, newPrefix+name)
	var err error
	for range 3 { // another one that ends removes an empty parent
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
	if err := d.take(unlocked); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock the state directory: %w", err), os.RemoveAll(unlocked), d.Close(false))
	}
	return d, nil
}

func (d *StateDir) take(unlocked string) error {
	var err error
	if d.lock, err = os.OpenFile(filepath.Join(unlocked, stateLock), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	return os.Rename(unlocked, d.Path)
}

// Name is what no other StateDir has had.
func (d *StateDir) Name() string { return filepath.Base(d.Path) }

// Lost says that somebody has removed the directory, or at least the lock, without which it is not ours.
func (d *StateDir) Lost() bool {
	there, err := os.Stat(filepath.Join(d.Path, stateLock))
	ours, oerr := d.lock.Stat()
	return errors.Is(err, os.ErrNotExist) || err == nil && oerr == nil && !os.SameFile(there, ours)
}

// Close removes the directory, and its parent if that is empty. With keep it is left for the sweep of the next start.
func (d *StateDir) Close(keep bool) error {
	var err error
	if !keep {
		err = os.RemoveAll(d.Path)
	}
	if d.lock != nil {
		d.lock.Close()
	}
	_ = os.Remove(d.parent) // fails if it is not empty
	return err
}

// Sweep removes what crashed processes of this user have left in the parent: remove is called with what is in such a
// directory and its name, to undo what it is the only record of, before it goes. What cannot be removed is logged.
//
// The state directory may lie in a directory of somebody else's making, such as a cloned repository, so nothing in it is
// believed: os.Root keeps paths inside.
func (d *StateDir) Sweep(log *slog.Logger, remove func(dir *os.Root, name string) error) {
	root, err := os.OpenRoot(d.parent)
	if err != nil {
		return
	}
	defer root.Close()
	entries, err := os.ReadDir(d.parent)
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
		if !e.IsDir() || !isStateName(e.Name()) || e.Name() == d.Name() {
			continue
		}
		dir := filepath.Join(d.parent, e.Name())
		switch removed, err := sweepOne(root, e.Name(), remove); {
		case err != nil:
			log.Warn("cannot clean up after a crashed server", "dir", dir, "error", err)
		case removed:
			log.Info("cleaned up after a crashed server", "dir", dir)
		}
	}
}

func sweepOne(root *os.Root, name string, remove func(*os.Root, string) error) (removed bool, err error) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	st, err := dir.Stat(".")
	if err != nil {
		return false, err
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return false, nil // another user's
	}
	lock, err := dir.OpenFile(stateLock, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, root.RemoveAll(name) // it had one when it got its name: whoever undid its records and removed it was killed meanwhile
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false, nil // alive
	}
	if err := remove(dir, name); err != nil {
		return false, err
	}
	return true, root.RemoveAll(name)
}

// isStateName says that s is the name of a StateDir. No regular expression: compiling one costs each start of a container
// 0.1 ms.
func isStateName(s string) bool { // rand.Text in lower case
	return len(s) == 26 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
