package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// path makes an absolute path of what a user wrote. It knows "~/", because an MCP client hands on the environment of its
// configuration file without any shell in between.
func (h Host) path(s string) (string, error) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", fmt.Errorf("contains a control character")
	}
	if s == "~" || strings.HasPrefix(s, "~/") {
		if h.Home == "" {
			return "", fmt.Errorf("the home directory is not known")
		}
		return filepath.Join(h.Home, s[1:]), nil
	}
	if filepath.IsAbs(s) {
		return filepath.Clean(s), nil
	}
	if h.Cwd == "" {
		return "", fmt.Errorf("there is no current directory")
	}
	return filepath.Join(h.Cwd, s), nil
}

// paths reads a list of paths.
func (h Host) paths(s string) (list []string, err error) {
	for p := range strings.SplitSeq(s, string(filepath.ListSeparator)) {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		if p, err = h.path(p); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func (h Host) stateDir() (string, error) {
	if h.Cwd != "" && (h.Writable == nil || h.Writable(h.Cwd)) {
		return filepath.Join(h.Cwd, ".mcp-bridge"), nil
	}
	if dir := h.xdg("XDG_STATE_HOME", ".local/state", ""); dir != "" {
		return dir, nil
	}
	return "", errors.New("cannot choose a state directory: the current directory is not writable, and neither HOME nor " +
		"XDG_STATE_HOME is set: set " + EnvStateDir)
}

func (h Host) toolsDir() string { return h.xdg("XDG_STATE_HOME", ".local/state", "tools") }

func (h Host) cacheDir() (string, error) {
	// As root, the sandbox's root is mapped to an unprivileged uid, which cannot walk through /root (0700) to the image;
	// and a path under /var names no user.
	// Root of a user namespace may write nothing there.
	if h.Root && !filepath.IsAbs(h.Getenv("XDG_CACHE_HOME")) && (h.Writable == nil || h.Writable("/var/cache") || h.Writable("/var")) {
		return "/var/cache/mcp-bridge", nil
	}
	if dir := h.xdg("XDG_CACHE_HOME", ".cache", ""); dir != "" {
		return dir, nil
	}
	return "", errors.New("cannot choose a cache directory: neither HOME nor XDG_CACHE_HOME is set: set " + EnvCacheDir)
}

// TokenDir is where the logins of MCP servers are kept, empty if there is no such place. As the list of trusted
// directories it is never below the current directory.
func (h Host) TokenDir() string { return h.xdg("XDG_DATA_HOME", ".local/share", "tokens") }

// xdg gives file in our directory below the one that name says, or below its default in the home directory, or nothing.
// The XDG specification wants relative values ignored.
func (h Host) xdg(name, byDefault, file string) string {
	if base := h.Getenv(name); filepath.IsAbs(base) {
		return filepath.Join(base, "mcp-bridge", file)
	}
	if h.Home == "" {
		return ""
	}
	return filepath.Join(h.Home, byDefault, "mcp-bridge", file)
}
