package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// Bounds of what scripts may keep. The state directory is the user's, and a script is not.
const (
	maxTools    = 200
	maxToolSize = 64 << 10
)

// savedTools are the functions that scripts have saved: one file for each, below the state directory. A script that
// comes later gets their source and runs it in its own sandbox; nothing here is ever run by the bridge.
type savedTools struct {
	dir string
	mu  sync.Mutex
}

func newSavedTools(cfg config.Config) *savedTools {
	return &savedTools{dir: filepath.Join(cfg.StateDir, "tools")}
}

// Save keeps the source of a function.
func (s *savedTools) Save(name, source string) error {
	if err := toolName(name); err != nil {
		return err
	}
	if len(source) > maxToolSize || strings.TrimSpace(source) == "" {
		return fmt.Errorf("cannot save %s: its source has %d bytes, and may have 1 to %d", name, len(source), maxToolSize)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot save %s: %w", name, err)
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("cannot save %s: %w", name, err)
	}
	defer root.Close()
	have, err := toolNames(root)
	if err != nil {
		return fmt.Errorf("cannot save %s: %w", name, err)
	}
	if len(have) >= maxTools && !slices.Contains(have, name) {
		return fmt.Errorf("cannot save %s: %d functions are saved, and no more may be; mcp-bridge tools --remove NAME removes one", name, maxTools)
	}
	tmp := "." + name + ".tmp"
	err = root.WriteFile(tmp, []byte(source), 0o600)
	if err == nil {
		err = root.Rename(tmp, name+".py")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot save %s: %w", name, err), ignoreMissing(root.Remove(tmp)))
	}
	return nil
}

// All are the sources by their names.
func (s *savedTools) All() (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]string)
	root, err := os.OpenRoot(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the saved functions: %w", err)
	}
	defer root.Close()
	names, err := toolNames(root)
	if err != nil {
		return nil, fmt.Errorf("cannot read the saved functions: %w", err)
	}
	for _, name := range names {
		b, err := root.ReadFile(name + ".py")
		if err != nil {
			return nil, fmt.Errorf("cannot read the saved function %s: %w", name, err)
		}
		all[name] = string(b)
	}
	return all, nil
}

// Remove forgets a function.
func (s *savedTools) Remove(name string) error {
	if err := toolName(name); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(s.dir, name+".py"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no function %s is saved in %s", name, s.dir)
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// toolName checks the name of a function, which becomes that of a file.
func toolName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	if name == "" || len(name) > 64 || strings.Trim(name, letters+"0123456789") != "" || !strings.Contains(letters, name[:1]) || strings.HasPrefix(name, "__") {
		return fmt.Errorf("%.80q cannot be the name of a saved function: 1 to 64 ASCII letters, digits and underscores", name)
	}
	return nil
}

// toolNames are the saved functions. Only what Save can have written counts: the state directory may have come with a
// cloned repository.
func toolNames(root *os.Root) ([]string, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxTools * 4)
	if err != nil && len(entries) == 0 {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".py")
		if info, err := e.Info(); ok && err == nil && toolName(name) == nil && info.Mode().IsRegular() && info.Size() <= maxToolSize && len(names) < maxTools {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func toolsCommand() *cobra.Command {
	var remove string
	c := &cobra.Command{
		Use: "tools", Short: "List or remove the functions that scripts have saved", Args: cobra.NoArgs,
		Long: "List the functions that scripts have kept for later ones by runtime.save_tool, with their sources, or remove one.\n\n" +
			"Exit code: 0 if it is done, 1 if there is no such function, 2 if the command line or an environment variable is wrong.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, _, err := load(os.Stderr)
			if err != nil {
				return err
			}
			s := newSavedTools(cfg)
			if remove != "" {
				if err := s.Remove(remove); err != nil {
					return &exitError{exitNothing, err}
				}
				return nil
			}
			all, err := s.All()
			if err != nil {
				return &exitError{exitBridge, err}
			}
			out := forTerminal(os.Stdout)
			for _, name := range slices.Sorted(maps.Keys(all)) {
				if _, err := fmt.Fprintf(out, "# %s\n%s\n", filepath.Join(s.dir, name+".py"), strings.TrimRight(all[name], "\n")); err != nil {
					return &exitError{exitBridge, err}
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&remove, "remove", "", "forget the function of this name")
	return c
}
