package cli

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
)

// lookPath is [exec.LookPath], but also looks where a user's PATH does not go, and Debian puts runc. The path is absolute.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	if err != nil {
		return "", errors.Unwrap(err)
	}
	return filepath.Abs(path)
}
