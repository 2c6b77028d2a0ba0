// Package config turns the environment into one typed [Config]: every variable is read once, checked, and reported with
// its name and what it may be. The table of variables ([Variables]) is the one source of the help text, the README and
// the error messages.
//
// It also knows where the programs that use MCP keep their servers, and makes of all those files one list of [Server]
// ([Discover]), and which directories the user has trusted with that ([Trusted]).
//
// The package decides and does nothing else: what depends on the machine, its files included, comes in by [Host]. Only
// [Disk], which is such files, and [UpdateTrusted] touch the system. All functions are safe for concurrent use.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"
)

// Config is what the environment says. [Load] returns it only when all of it is good.
type Config struct {
	Runtime  string // auto, direct, libcontainer, crun, runc, youki, runsc, podman, docker, or an absolute path
	Image    string
	ImageSet bool // somebody chose Image; otherwise another Python may stand in for the default

	Timeout    time.Duration
	MaxTimeout time.Duration
	Memory     int64   // bytes
	Pids       int     // processes and threads
	CPUs       float64 // 0: no limit
	User       User

	IdleTimeout time.Duration
	StateDir    string // absolute
	// ToolsDir is where functions that scripts save are kept: below MCP_BRIDGE_STATE_DIR if that is no relative path, else in
	// the user's own state directory, and never in the current one, whose files may have come with a repository that was
	// cloned. It is empty if there is no such place.
	ToolsDir string
	CacheDir string // absolute

	OutputMode string // toon, compact or json
	LogLevel   slog.Level

	Pool            int      // sandboxes kept warm
	Preload         []string // Python modules that those import ahead
	MaxConcurrency  int      // runs at once
	AllowWeakLimits bool

	ServersConfig   []string // absolute
	UseDisabled     bool     // use servers that are disabled in their own programs
	TrustProject    bool
	AllowSelfServer bool
}

// User is who the script is inside its sandbox. It is never root.
type User struct {
	UID, GID uint32
}

// Host is what this package has to know about the machine and the process.
type Host struct {
	Getenv func(string) string // os.Getenv
	Home   string              // the user's home directory; may be empty
	Cwd    string              // absolute; empty if there is none, because it has been removed

	// These are for servers and for trust: Load does without them.
	OS      string                       // runtime.GOOS
	UID     int                          // os.Geteuid
	Program string                       // the path of this program; may be empty
	Files   fs.FS                        // from the root; see [Disk]
	Real    func(string) (string, error) // filepath.EvalSymlinks; nil: there are no links

	// The rest is for Load only.

	// Root says that the effective user id is 0.
	Root bool
	// CPUs is the number of processors (runtime.NumCPU); less than one counts as one.
	CPUs int
	// Writable says whether a directory can be written to. Nil means that every one can.
	Writable func(dir string) bool
}

// Load reads the environment. Every bad value is in the error (see [errors.Join]), so that one start shows them all.
// An empty variable counts as unset: MCP clients write "" for what a user left blank.
func Load(h Host) (Config, error) {
	var c Config
	var errs []error
	set := make(map[string]string)
	for _, v := range table() {
		value := strings.TrimSpace(h.Getenv(v.Name))
		var err error
		switch {
		case value != "":
			set[v.Name] = value
			err = v.set(&c, h, value)
		case v.unset != nil:
			err = v.unset(&c, h)
		default:
			// The default passes through the same parser as a user's value, so the table cannot disagree with the code.
			err = v.set(&c, h, v.Default)
		}
		switch {
		case err == nil:
		case value == "":
			errs = append(errs, err)
		default:
			errs = append(errs, v.bad(value, err))
		}
	}

	// A variable that could not be read left a zero, and was reported above.
	if c.MaxTimeout > 0 && c.Timeout > c.MaxTimeout {
		if value, ok := set[EnvTimeout]; ok {
			errs = append(errs, find(EnvTimeout).bad(value, fmt.Errorf("more than %s, which is %v", EnvMaxTimeout, c.MaxTimeout)))
		} else {
			// Whoever only lowers the maximum should not have to lower the default too.
			c.Timeout = c.MaxTimeout
		}
	}
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
	}
	return c, nil
}
