package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/seccomp"
)

// An engineState is an Engine's directory in the state directory. Its name is the label of its containers.
//
//	STATE_DIR/<kind>/<random>/seccomp.json   the filter, for the client
//	STATE_DIR/<kind>/<random>/<id>.pid       a container's first process
type engineState struct {
	*host.StateDir
	top  string
	keep bool // for the next start
}

func openEngineState(top string, kind EngineKind) (*engineState, error) {
	top, err := filepath.Abs(top) // the client has another working directory
	if err != nil {
		return nil, fmt.Errorf("cannot find the state directory: %w", err)
	}
	dir, err := host.NewStateDir(filepath.Join(top, string(kind)))
	if err != nil {
		return nil, err
	}
	return &engineState{StateDir: dir, top: top}, nil
}

func (s *engineState) profile() string          { return filepath.Join(s.Path, "seccomp.json") }
func (s *engineState) pidFile(id string) string { return filepath.Join(s.Path, id+".pid") }

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
	_, err := os.Stat(s.profile())
	return s.Lost() || errors.Is(err, os.ErrNotExist)
}

// close removes the directory.
func (s *engineState) close() error {
	err := s.Close(s.keep)
	_ = os.Remove(s.top) // fails if it is not empty
	return err
}
