package cli

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/seccomp"
)

// An engineState is an Engine's directory in the state directory. It is locked while the Engine lives; one whose lock is
// free is what a crash left, and its name is the label of the containers that may be left with it.
//
//	STATE_DIR/<kind>/<random>.lock           flock; each engine removes its own only
//	STATE_DIR/<kind>/<random>/seccomp.json   the filter, for the client
//	STATE_DIR/<kind>/<random>/<id>.pid       a container's first process
type engineState struct {
	top, parent, name string
	lock              *os.File
	keep              bool // for the next start
}

func openEngineState(top string, kind EngineKind) (*engineState, error) {
	top, err := filepath.Abs(top) // the client has another working directory
	if err != nil {
		return nil, fmt.Errorf("cannot find the state directory: %w", err)
	}
	s := &engineState{top: top, parent: filepath.Join(top, string(kind)), name: strings.ToLower(rand.Text())}
	unlocked := filepath.Join(s.parent, "new-"+s.name) // it gets its name when no other start can take it for a dead one's
	for range 3 {                                      // another one that ends removes the parent
		if err = os.MkdirAll(s.parent, 0o700); err != nil {
			break
		}
		if s.lock, err = os.OpenFile(unlocked, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err == nil {
		err = unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = errors.Join(os.Mkdir(s.dir(), 0o700), os.Rename(unlocked, s.lockFile(s.name)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the state directory: %w; set MCP_BRIDGE_STATE_DIR to a writable place", err), s.close())
	}
	return s, nil
}

func (s *engineState) lockFile(name string) string { return filepath.Join(s.parent, name+".lock") }
func (s *engineState) dir() string                 { return filepath.Join(s.parent, s.name) }
func (s *engineState) profile() string             { return filepath.Join(s.dir(), "seccomp.json") }
func (s *engineState) pidFile(id string) string    { return filepath.Join(s.dir(), id+".pid") }

// writeProfile writes the filter of this machine's architecture, which is that of a virtual machine on it too.
func (s *engineState) writeProfile() error {
	p, err := seccomp.Profile(runtime.GOARCH)
	if err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(s.profile(), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot write the system call filter: %w", err)
	}
	return nil
}

// lost says that somebody has removed what is needed of the directory.
func (s *engineState) lost() bool {
	_, lerr := os.Stat(s.lockFile(s.name))
	_, perr := os.Stat(s.profile())
	return errors.Is(lerr, os.ErrNotExist) || errors.Is(perr, os.ErrNotExist)
}

// close removes the directory.
func (s *engineState) close() error {
	var err error
	if !s.keep {
		err = errors.Join(os.RemoveAll(s.dir()), os.Remove(s.lockFile(s.name)))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if s.lock != nil {
		s.lock.Close()
	}
	_ = os.Remove(s.parent) // ours to remove if they are empty; not if they are not
	_ = os.Remove(s.top)
	return err
}

// sweep removes what crashed bridges have left. The state directory may lie in a directory of somebody else's making, so of
// what is in it only names are used, of our form; remove gets one.
func (s *engineState) sweep(remove func(name string) error) error {
	root, err := os.OpenRoot(s.parent)
	if err != nil {
		return fmt.Errorf("cannot look for what a crash has left: %w", err)
	}
	defer root.Close()
	entries, err := os.ReadDir(s.parent)
	if err != nil {
		return fmt.Errorf("cannot look for what a crash has left: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".lock")
		if !ok || name == s.name || len(name) != len(s.name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			continue
		}
		lock, err := root.OpenFile(e.Name(), os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue // gone meanwhile, or none of ours
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = remove(name)
			if err == nil {
				err = errors.Join(root.RemoveAll(name), root.Remove(e.Name()))
			}
			errs = append(errs, err)
		}
		lock.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove what a crash has left: %w", err)
	}
	return nil
}
