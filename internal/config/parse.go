package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// errNotAllowed stands for a value about which there is no more to say than what is allowed.
var errNotAllowed = errors.New("not allowed")

// parseWord reads one of a few words, in any case.
func parseWord(s string, words ...string) (string, error) {
	if s := strings.ToLower(s); slices.Contains(words, s) {
		return s, nil
	}
	return "", errNotAllowed
}

func parseRuntime(s string) (string, error) {
	if filepath.IsAbs(s) {
		return filepath.Clean(s), nil
	}
	if strings.ContainsRune(s, '/') {
		// A relative one would depend on where the MCP client happens to start its servers.
		return "", fmt.Errorf("not an absolute path")
	}
	return parseWord(s, "auto", "direct", "libcontainer", "crun", "runc", "youki", "runsc", "podman", "docker")
}

// parseImage only keeps out what cannot be a reference and would spoil a log line; the grammar belongs to rootfs.
func parseImage(s string) (string, error) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", fmt.Errorf("contains a control character")
	}
	return s, nil
}

// maxModules and maxModule bound what each sandbox is told.
const maxModules, maxModule = 32, 100

// parseModules takes names as Python's import statement has them, as far as they are ASCII.
func parseModules(s string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimSpace(name)
		for part := range strings.SplitSeq(name, ".") {
			if part == "" || part[0] >= '0' && part[0] <= '9' || strings.ContainsFunc(part, func(c rune) bool {
				return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
			}) {
				return nil, errNotAllowed
			}
		}
		if root, _, _ := strings.Cut(name, "."); root == "mcp" || root == "user_tools" { // which in scripts are ours
			return nil, errNotAllowed
		}
		if len(name) > maxModule || len(names) == maxModules {
			return nil, errNotAllowed
		}
		names = append(names, name)
	}
	return names, nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off":
		return false, nil
	}
	return false, errNotAllowed
}

func parseInt(s string, least, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, errNotAllowed
	}
	return n, nil
}

func parseCPUs(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) {
		return 0, errNotAllowed
	}
	if n > 0 && n < 0.01 {
		return 0, fmt.Errorf("the kernel's smallest share is 1 ms in 100 ms of one processor")
	}
	if n <= 0 || n > 8192 {
		return 0, errNotAllowed
	}
	return n, nil
}

// maxDuration is a bound that only keeps sums of durations from overflowing.
const maxDuration = math.MaxInt64 / 4

// ParseDuration reads a duration as the environment has it: "30" is 30 seconds, and "30s" and "2m" are what they say. It
// is more than zero.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, errors.New("a duration is missing")
	}
	d, err := parseDuration(s, 1, maxDuration)
	if err != nil {
		return 0, errors.New("allowed are durations of more than 0, such as 45, 45s or 2m (a bare number is seconds)")
	}
	return d, nil
}

// parseDuration reads "30" (seconds), "30s", "1m30s".
func parseDuration(s string, least, most time.Duration) (time.Duration, error) {
	s = strings.ToLower(s)
	if end := s[len(s)-1]; end >= '0' && end <= '9' || end == '.' {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, errNotAllowed
	}
	return d, nil
}

const minMemory = 16 << 20

func parseMemory(s string) (int64, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, err
	}
	if n < minMemory {
		return 0, fmt.Errorf("less than 16m, and Python itself needs about that much before a script begins")
	}
	return n, nil
}

// parseSize reads a number of bytes, with a unit or without. A unit is always a power of 1024, as with docker and podman:
// who writes 512m, 512MB or 512MiB means the same limit.
func parseSize(s string) (int64, error) {
	s = strings.ToLower(s)
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz")
	unit := s[len(number):]
	if !strings.HasPrefix(unit, "i") { // "512i" is nothing
		unit = strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	}
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit]
	if !ok {
		return 0, errNotAllowed
	}
	number = strings.TrimSpace(number)
	if n, err := strconv.ParseUint(number, 10, 63); err == nil {
		if n > math.MaxInt64>>shift {
			return 0, errNotAllowed
		}
		return int64(n) << shift, nil
	}
	if strings.Trim(number, "0123456789.") != "" { // ParseFloat would also read 1e9, 0x1p4 and Inf
		return 0, errNotAllowed
	}
	f, err := strconv.ParseFloat(number, 64)
	if f *= float64(int64(1) << shift); err != nil || f >= math.MaxInt64 {
		return 0, errNotAllowed
	}
	return int64(f), nil
}

// parseUser reads "UID" or "UID:GID". Names are not read: they would be looked up on the host or in the image, which
// need not agree.
func parseUser(s string) (User, error) {
	uid, gid, both := strings.Cut(s, ":")
	if !both {
		gid = uid
	}
	var ids [2]uint32
	for i, id := range []string{uid, gid} {
		n, err := strconv.ParseUint(id, 10, 32)
		switch {
		case err != nil:
			return User{}, errNotAllowed
		case n == 0:
			return User{}, fmt.Errorf("0 would be root inside the sandbox, with the image's whole attack surface")
		case n > 65535:
			return User{}, fmt.Errorf("a sandbox has no more than 65536 ids")
		}
		ids[i] = uint32(n)
	}
	return User{UID: ids[0], GID: ids[1]}, nil
}
