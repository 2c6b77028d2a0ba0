package bridge

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// Bounds of what scripts may save.
const (
	maxSaved       = 200
	maxSavedSource = 64 << 10 // bytes
)

// SavedTools are functions that scripts have saved for those that come later: files NAME.py in a directory of their
// own, which no sandbox ever sees. Their source is guest text: it is only ever run in a sandbox. All methods are safe
// for concurrent use, also by several processes.
type SavedTools struct {
	Dir string // made when the first tool is saved; empty: none can be
}

// validName says whether a saved tool may have this name: it is one of Python and of a file.
func validName(name string) bool {
	return len(name) <= maxAlias && identifier(name) == name && name[0] != '_' &&
		!strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf })
}

// Save keeps the source of a function, in place of an earlier one with that name. Whether it is Python at all was for
// the guest to check, and is checked again by each that uses it.
func (s *SavedTools) Save(name, source string) error {
	switch {
	case !validName(name):
		return fmt.Errorf("%s cannot be the name of a saved tool: letters, digits and _ are allowed, at most 100", quote(name))
	case len(source) > maxSavedSource:
		return fmt.Errorf("the source of %s has %d bytes, at most %d are allowed", name, len(source), maxSavedSource)
	case !utf8.ValidString(source) || strings.ContainsRune(source, 0):
		return fmt.Errorf("the source of %s is not text", name)
	case !strings.Contains(source, "def "+name):
		return fmt.Errorf("the source is not that of a function %s", name)
	}
	if s.Dir == "" {
		return errors.New("there is no directory for saved tools: set HOME, XDG_STATE_HOME or an absolute MCP_BRIDGE_STATE_DIR")
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of saved tools: %v", err)
	}
	names, err := s.Names()
	if err != nil {
		return err
	}
	if len(names) >= maxSaved && !slices.Contains(names, name) {
		return fmt.Errorf("there are %d saved tools already; remove one with mcp-bridge tools --remove NAME", len(names))
	}
	if err := atomicfile.Replace(filepath.Join(s.Dir, name+".py"), atomicfile.Bytes([]byte(source))); err != nil {
		return fmt.Errorf("cannot save %s: %v", name, err)
	}
	return nil
}

// savedNote tells what a script has left for later ones: the only thing that it can.
func savedNote(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return clip("It saved for later scripts: "+strings.Join(names, ", "), 300) + "."
}

// Names are those of all saved tools, sorted.
func (s *SavedTools) Names() ([]string, error) {
	if s.Dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the directory of saved tools: %v", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".py"); ok && e.Type().IsRegular() && validName(name) && len(names) < maxSaved {
			names = append(names, name)
		}
	}
	return names, nil
}

// All are the sources of all saved tools by their names. One that cannot be read, or is too long, is not among them.
func (s *SavedTools) All() (map[string]string, error) {
	names, err := s.Names()
	all := make(map[string]string, len(names))
	if err != nil || len(names) == 0 {
		return all, err
	}
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return all, fmt.Errorf("cannot open the directory of saved tools: %v", err)
	}
	defer root.Close()
	for _, name := range names {
		f, err := root.Open(name + ".py")
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, maxSavedSource+1))
		f.Close()
		if err == nil && len(text) <= maxSavedSource && utf8.Valid(text) {
			all[name] = string(text)
		}
	}
	return all, nil
}

// Remove deletes a saved tool.
func (s *SavedTools) Remove(name string) error {
	names, err := s.Names()
	if err != nil {
		return err
	}
	if !slices.Contains(names, name) {
		return fmt.Errorf("there is no saved tool %s; %s", quote(name), upstream.Suggest(name, names, "there are none"))
	}
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return fmt.Errorf("cannot open the directory of saved tools: %v", err)
	}
	defer root.Close()
	if err := root.Remove(name + ".py"); err != nil {
		return fmt.Errorf("cannot remove %s: %v", name, err)
	}
	// What is empty now was made for the tools alone, or is made again by who needs it.
	if os.Remove(s.Dir) == nil {
		_ = os.Remove(filepath.Dir(s.Dir))
	}
	return nil
}
