package config

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The names of the variables.
const (
	EnvRuntime         = "MCP_BRIDGE_RUNTIME"
	EnvImage           = "MCP_BRIDGE_IMAGE"
	EnvTimeout         = "MCP_BRIDGE_TIMEOUT"
	EnvMaxTimeout      = "MCP_BRIDGE_MAX_TIMEOUT"
	EnvMemory          = "MCP_BRIDGE_MEMORY"
	EnvPids            = "MCP_BRIDGE_PIDS"
	EnvCPUs            = "MCP_BRIDGE_CPUS"
	EnvContainerUser   = "MCP_BRIDGE_CONTAINER_USER"
	EnvIdleTimeout     = "MCP_BRIDGE_RUNTIME_IDLE_TIMEOUT"
	EnvStateDir        = "MCP_BRIDGE_STATE_DIR"
	EnvCacheDir        = "MCP_BRIDGE_CACHE_DIR"
	EnvOutputMode      = "MCP_BRIDGE_OUTPUT_MODE"
	EnvLogLevel        = "MCP_BRIDGE_LOG_LEVEL"
	EnvPool            = "MCP_BRIDGE_POOL"
	EnvPreload         = "MCP_BRIDGE_PRELOAD"
	EnvMaxConcurrency  = "MCP_BRIDGE_MAX_CONCURRENCY"
	EnvAllowWeakLimits = "MCP_BRIDGE_ALLOW_WEAK_LIMITS"
	EnvServersConfig   = "MCP_SERVERS_CONFIG"
	EnvTrustProject    = "MCP_BRIDGE_TRUST_PROJECT"
	EnvAllowSelfServer = "MCP_BRIDGE_ALLOW_SELF_SERVER"
	EnvDisabledServers = "MCP_BRIDGE_DISABLED_SERVERS"
)

// Variable describes one environment variable to people.
type Variable struct {
	Name    string
	Default string // as a user would write it, or in words where it depends on the machine
	Allowed string // goes behind "allowed are"
	Meaning string
}

// Variables lists every variable, in the order in which they are documented.
func Variables() []Variable {
	t := table()
	vs := make([]Variable, len(t))
	for i, v := range t {
		vs[i] = v.Variable
	}
	return vs
}

// variable is a row of the table: what people read, and what Load does.
type variable struct {
	Variable
	set   func(c *Config, h Host, value string) error
	unset func(c *Config, h Host) error // nil: Default is set
}

// bad makes the message for a value that cannot be used.
func (v variable) bad(value string, err error) error {
	const most = 100 // a value may be a file pasted by mistake
	shown := strconv.Quote(value)
	if len(value) > most {
		shown = strconv.Quote(strings.ToValidUTF8(value[:most], "")) + "..."
	}
	if errors.Is(err, errNotAllowed) {
		return fmt.Errorf("%s=%s: allowed are %s", v.Name, shown, v.Allowed)
	}
	return fmt.Errorf("%s=%s: %v; allowed are %s", v.Name, shown, err, v.Allowed)
}

func find(name string) variable {
	for _, v := range table() {
		if v.Name == name {
			return v
		}
	}
	panic("internal error: no variable " + name)
}

// nothing is for variables whose absence is the zero of their field.
func nothing(*Config, Host) error { return nil }

const (
	boolWords = "0, 1, true, false, yes, no, on, off"
	pathWords = "paths; a relative one starts at the current directory"
)

// table is a function, not a variable, so that the re-executed launcher, which needs none of it, does not pay for it.
func table() []variable {
	return []variable{
		{
			Variable: Variable{
				EnvRuntime, "auto", "auto, direct, libcontainer, crun, runc, youki, runsc, podman, docker, or the absolute path of an OCI runtime",
				"what runs the sandbox; auto is direct, or what else there is where that cannot be used (on macOS podman, then docker); libcontainer is runc's, in this process",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.Runtime, err = parseRuntime(v); return err },
		},
		{
			Variable: Variable{
				EnvImage, "python:3.12-slim",
				"image references, oci:DIR[:tag], oci-archive:FILE, docker-archive:FILE, or host",
				"the image with the Python to use; when unset and the default cannot be had, the host's own Python stands in",
			},
			set: func(c *Config, _ Host, v string) (err error) {
				c.Image, err = parseImage(v)
				c.ImageSet = err == nil
				return err
			},
			unset: func(c *Config, _ Host) error { c.Image = "python:3.12-slim"; return nil },
		},
		{
			Variable: Variable{
				EnvTimeout, "30s", "durations from 1s to " + EnvMaxTimeout + ", such as 45, 45s or 2m (a bare number is seconds)",
				"how long a run may take that does not say; never more than " + EnvMaxTimeout,
			},
			set: func(c *Config, _ Host, v string) (err error) {
				c.Timeout, err = parseDuration(v, time.Second, maxDuration)
				return err
			},
		},
		{
			Variable: Variable{
				EnvMaxTimeout, "120s", "durations from 1s to 24h, such as 300, 300s or 5m (a bare number is seconds)",
				"the longest timeout that a call may ask for",
			},
			set: func(c *Config, _ Host, v string) (err error) {
				c.MaxTimeout, err = parseDuration(v, time.Second, 24*time.Hour)
				return err
			},
		},
		{
			Variable: Variable{
				EnvMemory, "512m", "sizes from 16m, such as 512m, 1g, 512MiB or a number of bytes (a unit is a power of 1024)",
				"memory of one sandbox, its files in /tmp and /workspace included",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.Memory, err = parseMemory(v); return err },
		},
		{
			// The floor: until it has become Python, the launcher's own threads are counted, about ten of them.
			Variable: Variable{
				EnvPids, "128", "whole numbers from 16 (starting the sandbox takes about ten) to 4194304",
				"processes and threads of one sandbox",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.Pids, err = parseInt(v, 16, 4194304); return err },
		},
		{
			Variable: Variable{
				EnvCPUs, "", "numbers from 0.01 to 8192, such as 0.5 or 2; unset is no limit",
				"processors that one sandbox may keep busy",
			},
			set:   func(c *Config, _ Host, v string) (err error) { c.CPUs, err = parseCPUs(v); return err },
			unset: nothing,
		},
		{
			Variable: Variable{
				EnvContainerUser, "65534:65534", "UID or UID:GID, both numbers from 1 to 65535",
				"who the script is inside the sandbox",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.User, err = parseUser(v); return err },
		},
		{
			Variable: Variable{
				EnvIdleTimeout, "300s", "durations from 1s, such as 300, 300s or 5m (a bare number is seconds)",
				"idle sandboxes, MCP servers and a podman machine are shut down after this",
			},
			set: func(c *Config, _ Host, v string) (err error) {
				c.IdleTimeout, err = parseDuration(v, time.Second, maxDuration)
				return err
			},
		},
		{
			Variable: Variable{
				EnvStateDir, "./.mcp-bridge, or $XDG_STATE_HOME/mcp-bridge where the current directory is not writable", pathWords,
				"directory for what the bridge must remember while it runs",
			},
			set: func(c *Config, h Host, v string) (err error) {
				c.StateDir, err = h.path(v)
				if c.ToolsDir = h.toolsDir(); filepath.IsAbs(v) || strings.HasPrefix(v, "~/") {
					c.ToolsDir = filepath.Join(c.StateDir, "tools")
				}
				return err
			},
			unset: func(c *Config, h Host) (err error) {
				c.ToolsDir = h.toolsDir()
				c.StateDir, err = h.stateDir()
				return err
			},
		},
		{
			Variable: Variable{
				EnvCacheDir, "$XDG_CACHE_HOME/mcp-bridge, ~/.cache/mcp-bridge, or for root /var/cache/mcp-bridge", pathWords,
				"directory for images and catalogs",
			},
			set:   func(c *Config, h Host, v string) (err error) { c.CacheDir, err = h.path(v); return err },
			unset: func(c *Config, h Host) (err error) { c.CacheDir, err = h.cacheDir(); return err },
		},
		{
			Variable: Variable{EnvOutputMode, "toon", "toon, compact, json", "how a result is written for the model"},
			set: func(c *Config, _ Host, v string) (err error) {
				c.OutputMode, err = parseWord(v, "toon", "compact", "json")
				return err
			},
		},
		{
			Variable: Variable{EnvLogLevel, "info", "debug, info, warn, error", "how much is logged to stderr"},
			set:      func(c *Config, _ Host, v string) (err error) { c.LogLevel, err = parseLevel(v); return err },
		},
		{
			// The ceiling: each warm sandbox holds about 10 MB and its processes, all the time.
			Variable: Variable{
				EnvPool, "1", "whole numbers from 0 (every run starts its own) to 64 (each holds about 10 MB)",
				"sandboxes kept warm",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.Pool, err = parseInt(v, 0, 64); return err },
		},
		{
			Variable: Variable{
				EnvPreload, "", "names of up to 32 Python modules with a , between them, such as numpy,pandas; not mcp nor user_tools",
				"modules of the image that are imported ahead in sandboxes kept warm, whose memory each then holds too",
			},
			set:   func(c *Config, _ Host, v string) (err error) { c.Preload, err = parseModules(v); return err },
			unset: nothing,
		},
		{
			Variable: Variable{
				EnvMaxConcurrency, "2 x CPUs", "whole numbers from 1 to 1024",
				"runs at once; more wait their turn",
			},
			set: func(c *Config, _ Host, v string) (err error) {
				c.MaxConcurrency, err = parseInt(v, 1, 1024)
				return err
			},
			unset: func(c *Config, h Host) error { c.MaxConcurrency = min(2*max(h.CPUs, 1), 1024); return nil },
		},
		{
			Variable: Variable{EnvAllowWeakLimits, "0", boolWords, "start although this host cannot enforce a limit"},
			set:      func(c *Config, _ Host, v string) (err error) { c.AllowWeakLimits, err = parseBool(v); return err },
		},
		{
			Variable: Variable{
				EnvServersConfig, "", "paths with a : between them; a relative one starts at the current directory",
				"more files with MCP servers, or directories of such files; these come before all others",
			},
			set:   func(c *Config, h Host, v string) (err error) { c.ServersConfig, err = h.paths(v); return err },
			unset: nothing,
		},
		{
			Variable: Variable{
				EnvTrustProject, "0", boolWords,
				"read MCP servers from files in the current directory without asking for mcp-bridge trust",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.TrustProject, err = parseBool(v); return err },
		},
		{
			Variable: Variable{
				EnvAllowSelfServer, "0", boolWords,
				"use MCP server entries that start the bridge itself, which are skipped otherwise",
			},
			set: func(c *Config, _ Host, v string) (err error) { c.AllowSelfServer, err = parseBool(v); return err },
		},
		{
			Variable: Variable{
				EnvDisabledServers, "skip", "skip, use", "what becomes of MCP servers that are disabled in their own program",
			},
			set: func(c *Config, _ Host, v string) error {
				word, err := parseWord(v, "skip", "use")
				c.UseDisabled = word == "use"
				return err
			},
		},
	}
}

func parseLevel(s string) (slog.Level, error) {
	word, err := parseWord(s, "debug", "info", "warn", "error")
	switch word {
	case "debug":
		return slog.LevelDebug, err
	case "warn":
		return slog.LevelWarn, err
	case "error":
		return slog.LevelError, err
	default:
		return slog.LevelInfo, err
	}
}
