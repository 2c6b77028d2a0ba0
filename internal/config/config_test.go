package config

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// host is a user's machine with four processors.
func host(env map[string]string) Host {
	return Host{
		Getenv: func(name string) string { return env[name] },
		Home:   "/home/ann",
		Cwd:    "/home/ann/project",
		CPUs:   4,
	}
}

func defaults() Config {
	return Config{
		Runtime:        "auto",
		Image:          "python:3.12-slim",
		Timeout:        30 * time.Second,
		MaxTimeout:     120 * time.Second,
		Memory:         512 << 20,
		Pids:           128,
		User:           User{65534, 65534},
		IdleTimeout:    300 * time.Second,
		StateDir:       "/home/ann/project/.mcp-bridge",
		ToolsDir:       "/home/ann/.local/state/mcp-bridge/tools",
		CacheDir:       "/home/ann/.cache/mcp-bridge",
		OutputMode:     "toon",
		LogLevel:       slog.LevelInfo,
		Pool:           1,
		MaxConcurrency: 8,
	}
}

func TestLoadGood(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        func(*Config)
	}{
		{"", "", func(*Config) {}},

		{EnvRuntime, "libcontainer", func(c *Config) { c.Runtime = "libcontainer" }},
		{EnvRuntime, "Podman", func(c *Config) { c.Runtime = "podman" }},
		{EnvRuntime, "/opt/Bin/../runsc", func(c *Config) { c.Runtime = "/opt/runsc" }},

		{EnvImage, "ghcr.io/x/y@sha256:00", func(c *Config) { c.Image, c.ImageSet = "ghcr.io/x/y@sha256:00", true }},
		{EnvImage, "oci:/my images/py:1", func(c *Config) { c.Image, c.ImageSet = "oci:/my images/py:1", true }},
		{EnvImage, "python:3.12-slim", func(c *Config) { c.ImageSet = true }},
		{EnvImage, "", func(*Config) {}},
		{EnvImage, "  ", func(*Config) {}},

		{EnvTimeout, "45", func(c *Config) { c.Timeout = 45 * time.Second }},
		{EnvTimeout, " 45s ", func(c *Config) { c.Timeout = 45 * time.Second }},
		{EnvTimeout, "1", func(c *Config) { c.Timeout = time.Second }},
		{EnvTimeout, "1.5", func(c *Config) { c.Timeout = 1500 * time.Millisecond }},
		{EnvTimeout, "120", func(c *Config) { c.Timeout = 2 * time.Minute }},
		{EnvTimeout, "2M", func(c *Config) { c.Timeout = 2 * time.Minute }},
		{EnvMaxTimeout, "10m", func(c *Config) { c.MaxTimeout = 10 * time.Minute }},
		{EnvMaxTimeout, "24h", func(c *Config) { c.MaxTimeout = 24 * time.Hour }},
		{EnvMaxTimeout, "10", func(c *Config) { c.MaxTimeout, c.Timeout = 10*time.Second, 10*time.Second }},

		{EnvMemory, "16m", func(c *Config) { c.Memory = 16 << 20 }},
		{EnvMemory, "536870912", func(*Config) {}},
		{EnvMemory, "512MiB", func(*Config) {}},
		{EnvMemory, "512MB", func(*Config) {}},
		{EnvMemory, "512 m", func(*Config) {}},
		{EnvMemory, "524288k", func(*Config) {}},
		{EnvMemory, "536870912b", func(*Config) {}},
		{EnvMemory, "0.5G", func(*Config) {}},
		{EnvMemory, "1g", func(c *Config) { c.Memory = 1 << 30 }},
		{EnvMemory, "1t", func(c *Config) { c.Memory = 1 << 40 }},

		{EnvPids, "16", func(c *Config) { c.Pids = 16 }},
		{EnvPids, "4194304", func(c *Config) { c.Pids = 4194304 }},
		{EnvCPUs, "0.5", func(c *Config) { c.CPUs = 0.5 }},
		{EnvCPUs, "2", func(c *Config) { c.CPUs = 2 }},
		{EnvCPUs, "0.01", func(c *Config) { c.CPUs = 0.01 }},

		{EnvContainerUser, "1000:100", func(c *Config) { c.User = User{1000, 100} }},
		{EnvContainerUser, "1000", func(c *Config) { c.User = User{1000, 1000} }},
		{EnvContainerUser, "65535:1", func(c *Config) { c.User = User{65535, 1} }},

		{EnvIdleTimeout, "1h", func(c *Config) { c.IdleTimeout = time.Hour }},
		{EnvStateDir, "/var/lib/x/", func(c *Config) { c.StateDir, c.ToolsDir = "/var/lib/x", "/var/lib/x/tools" }},
		{EnvStateDir, "../x", func(c *Config) { c.StateDir = "/home/ann/x" }},
		{EnvStateDir, ".mcp-bridge", func(c *Config) { c.StateDir = "/home/ann/project/.mcp-bridge" }},
		{EnvStateDir, "~/x", func(c *Config) { c.StateDir, c.ToolsDir = "/home/ann/x", "/home/ann/x/tools" }},
		{EnvStateDir, "~bob/x", func(c *Config) { c.StateDir = "/home/ann/project/~bob/x" }},
		{EnvCacheDir, "~", func(c *Config) { c.CacheDir = "/home/ann" }},
		{EnvCacheDir, "cache", func(c *Config) { c.CacheDir = "/home/ann/project/cache" }},
		{"XDG_CACHE_HOME", "/c", func(c *Config) { c.CacheDir = "/c/mcp-bridge" }},
		{"XDG_CACHE_HOME", "relative", func(*Config) {}},
		{"XDG_STATE_HOME", "/s", func(c *Config) { c.ToolsDir = "/s/mcp-bridge/tools" }}, // the current directory is writable

		{EnvOutputMode, "compact", func(c *Config) { c.OutputMode = "compact" }},
		{EnvOutputMode, "JSON", func(c *Config) { c.OutputMode = "json" }},
		{EnvLogLevel, "debug", func(c *Config) { c.LogLevel = slog.LevelDebug }},
		{EnvLogLevel, "WARN", func(c *Config) { c.LogLevel = slog.LevelWarn }},
		{EnvLogLevel, "error", func(c *Config) { c.LogLevel = slog.LevelError }},

		{EnvPool, "0", func(c *Config) { c.Pool = 0 }},
		{EnvPool, "64", func(c *Config) { c.Pool = 64 }},
		{EnvPreload, "numpy, scipy.stats,_x1", func(c *Config) { c.Preload = []string{"numpy", "scipy.stats", "_x1"} }},
		{EnvMaxConcurrency, "1", func(c *Config) { c.MaxConcurrency = 1 }},
		{EnvMaxConcurrency, "1024", func(c *Config) { c.MaxConcurrency = 1024 }},

		{EnvAllowWeakLimits, "1", func(c *Config) { c.AllowWeakLimits = true }},
		{EnvAllowWeakLimits, "off", func(*Config) {}},
		{EnvTrustProject, "Yes", func(c *Config) { c.TrustProject = true }},
		{EnvTrustProject, "no", func(*Config) {}},
		{EnvAllowSelfServer, "TRUE", func(c *Config) { c.AllowSelfServer = true }},
		{EnvAllowSelfServer, "on", func(c *Config) { c.AllowSelfServer = true }},
		{EnvServersConfig, "mcp.json", func(c *Config) { c.ServersConfig = []string{"/home/ann/project/mcp.json"} }},
		{EnvServersConfig, "~/a.json: /b.toml :", func(c *Config) { c.ServersConfig = []string{"/home/ann/a.json", "/b.toml"} }},
		{EnvDisabledServers, "Use", func(c *Config) { c.UseDisabled = true }},
		{EnvDisabledServers, "skip", func(*Config) {}},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			want := defaults()
			tt.want(&want)
			got, err := Load(host(map[string]string{tt.name: tt.value}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Load (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadBad(t *testing.T) {
	bad := map[string][]string{
		EnvRuntime:         {"lxc", "./crun", "bin/runc", "crunx"},
		EnvImage:           {"python\n3", "a\x1b[0m"},
		EnvTimeout:         {"0", "0.9", "-5", "500ms", "121", "3m", "soon", "30 apples", "s", ".", "1e3", "9999999999999"},
		EnvMaxTimeout:      {"0", "24h1s", "1d", "∞"},
		EnvMemory:          {"0", "15m", "16777215", "-1g", "m", "1e9", "0x10000000", "inf", "1.2.3g", "512x", "512i", "512ib", "8388608t", "9223372036854775808", "99999999999999999999g", "9e18g"},
		EnvPids:            {"0", "-1", "15", "4194305", "many", "64.5", "-"},
		EnvCPUs:            {"0", "-1", "0.001", "8193", "NaN", "Inf", "two"},
		EnvContainerUser:   {"0", "0:0", "1000:0", "0:1000", "root", "nobody:nogroup", "65536", "4294967296", "-1", "1:2:3", ":", "1:", ":1"},
		EnvIdleTimeout:     {"0", "-1", "never"},
		EnvStateDir:        {"a\nb"},
		EnvCacheDir:        {"a\nb"},
		EnvOutputMode:      {"xml", "toon,json"},
		EnvLogLevel:        {"trace", "warning", "0"},
		EnvPool:            {"-1", "65", "1.0", "yes"},
		EnvPreload:         {",", "numpy,", "a b", "1a", "a..b", ".a", "a-b", "a;b", "é", "a\nb", strings.Repeat("a", 101), strings.Repeat("a,", 32) + "a", "mcp", "numpy, user_tools", "mcp.types"},
		EnvMaxConcurrency:  {"0", "1025", "-1"},
		EnvAllowWeakLimits: {"2", "maybe", "y"},
		EnvServersConfig:   {"a\x00b", "a:b\x00"},
		EnvDisabledServers: {"1", "no"},
		EnvTrustProject:    {"2", "t"},
		EnvAllowSelfServer: {"-1", "enabled"},
	}
	for _, v := range Variables() {
		if len(bad[v.Name]) == 0 {
			t.Errorf("%s has no bad values here", v.Name)
		}
		for _, value := range bad[v.Name] {
			t.Run(v.Name+"="+value, func(t *testing.T) {
				c, err := Load(host(map[string]string{v.Name: value}))
				if err == nil {
					t.Fatal("no error")
				}
				if got := err.Error(); !strings.HasPrefix(got, v.Name+"=\"") || !strings.HasSuffix(got, "allowed are "+v.Allowed) || strings.Contains(got, "\n") {
					t.Errorf("error does not name variable, value and what is allowed: %s", got)
				}
				if !cmp.Equal(c, Config{}) {
					t.Errorf("a half-read Config comes with the error: %+v", c)
				}
			})
		}
	}
}

func TestLoadReportsAllErrors(t *testing.T) {
	env := map[string]string{
		EnvRuntime:         "./crun",
		EnvImage:           "ok:1",
		EnvTimeout:         "5m",
		EnvMemory:          "4m",
		EnvPids:            "0",
		EnvCPUs:            "0.001",
		EnvContainerUser:   "0:0",
		EnvIdleTimeout:     "never",
		EnvStateDir:        "a\x1b[31mb",
		EnvOutputMode:      "xml",
		EnvLogLevel:        "loud",
		EnvPool:            strings.Repeat("7", 99) + "é and much more",
		EnvPreload:         "import numpy",
		EnvMaxConcurrency:  "0",
		EnvAllowWeakLimits: "perhaps",
	}
	h := host(env)
	h.Home = "" // and so no cache directory
	_, err := Load(h)
	if err == nil {
		t.Fatal("no error")
	}
	file := filepath.Join("testdata", "errors.golden")
	got := err.Error() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

func TestLoadTimeouts(t *testing.T) {
	for _, tt := range []struct {
		name, timeout, most string
		wantTimeout         time.Duration
		wantErr             string
	}{
		{"equal", "60", "60", time.Minute, ""},
		{"both raised", "5m", "10m", 5 * time.Minute, ""},
		{"only the maximum, below the default", "", "5", 5 * time.Second, ""},
		{"above the given maximum", "61", "60", 0, `MCP_BRIDGE_TIMEOUT="61": more than MCP_BRIDGE_MAX_TIMEOUT, which is 1m0s`},
		{"one mistake is one error", "500", "x", 0, `MCP_BRIDGE_MAX_TIMEOUT="x": allowed are`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Load(host(map[string]string{EnvTimeout: tt.timeout, EnvMaxTimeout: tt.most}))
			if tt.wantErr == "" {
				if err != nil || c.Timeout != tt.wantTimeout {
					t.Errorf("timeout %v, error %v; want %v", c.Timeout, err, tt.wantTimeout)
				}
			} else if err == nil || !strings.HasPrefix(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v; want one, %q", err, tt.wantErr)
			}
		})
	}
}

func TestLoadDirectories(t *testing.T) {
	no := func(string) bool { return false }
	for _, tt := range []struct {
		name         string
		host         Host
		env          map[string]string
		state, cache string
		wantErr      string
	}{
		{name: "user", host: Host{Home: "/h", Cwd: "/w"}, state: "/w/.mcp-bridge", cache: "/h/.cache/mcp-bridge"},
		{
			name: "not writable", host: Host{Home: "/h", Cwd: "/w", Writable: no},
			state: "/h/.local/state/mcp-bridge", cache: "/h/.cache/mcp-bridge",
		},
		{
			name: "not writable, XDG", host: Host{Home: "/h", Cwd: "/w", Writable: no},
			env:   map[string]string{"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"},
			state: "/s/mcp-bridge", cache: "/c/mcp-bridge",
		},
		{
			name: "relative XDG is ignored", host: Host{Home: "/h", Cwd: "/w", Writable: no},
			env:   map[string]string{"XDG_STATE_HOME": "s", "XDG_CACHE_HOME": "c"},
			state: "/h/.local/state/mcp-bridge", cache: "/h/.cache/mcp-bridge",
		},
		{name: "no current directory", host: Host{Home: "/h"}, state: "/h/.local/state/mcp-bridge", cache: "/h/.cache/mcp-bridge"},
		{
			name: "no current directory for a relative path", host: Host{Home: "/h"}, env: map[string]string{EnvStateDir: "x"},
			wantErr: EnvStateDir + `="x": there is no current directory`,
		},
		{name: "root", host: Host{Home: "/root", Cwd: "/w", Root: true}, state: "/w/.mcp-bridge", cache: "/var/cache/mcp-bridge"},
		{
			name: "root, XDG", host: Host{Home: "/root", Cwd: "/w", Root: true},
			env:   map[string]string{"XDG_CACHE_HOME": "/c"},
			state: "/w/.mcp-bridge", cache: "/c/mcp-bridge",
		},
		{
			name: "root, relative XDG", host: Host{Home: "/root", Cwd: "/w", Root: true},
			env:   map[string]string{"XDG_CACHE_HOME": "c"},
			state: "/w/.mcp-bridge", cache: "/var/cache/mcp-bridge",
		},
		{
			name: "root of a user namespace", host: Host{Home: "/h", Cwd: "/w", Root: true, Writable: no},
			state: "/h/.local/state/mcp-bridge", cache: "/h/.cache/mcp-bridge",
		},
		{
			name: "no home, both set", host: Host{Cwd: "/w", Writable: no},
			env:   map[string]string{EnvStateDir: "/s", EnvCacheDir: "c"},
			state: "/s", cache: "/w/c",
		},
		{name: "no home, no cache", host: Host{Cwd: "/w"}, wantErr: "cannot choose a cache directory"},
		{
			name: "no home, no state", host: Host{Cwd: "/w", Writable: no, Root: true},
			wantErr: "cannot choose a state directory",
		},
		{
			name: "no home for ~", host: Host{Cwd: "/w", Root: true}, env: map[string]string{EnvStateDir: "~/x"},
			wantErr: `MCP_BRIDGE_STATE_DIR="~/x": the home directory is not known`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.host.Getenv = func(name string) string { return tt.env[name] }
			c, err := Load(tt.host)
			if tt.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.wantErr) {
					t.Errorf("error %v; want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.StateDir != tt.state || c.CacheDir != tt.cache {
				t.Errorf("state %s, cache %s; want %s, %s", c.StateDir, c.CacheDir, tt.state, tt.cache)
			}
		})
	}
}

func TestLoadCountsProcessors(t *testing.T) {
	for cpus, want := range map[int]int{-1: 2, 0: 2, 1: 2, 2: 4, 96: 192, 4096: 1024} {
		h := host(nil)
		h.CPUs = cpus
		c, err := Load(h)
		if err != nil || c.MaxConcurrency != want {
			t.Errorf("%d CPUs: %d runs at once, error %v; want %d", cpus, c.MaxConcurrency, err, want)
		}
	}
}

func TestVariables(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range Variables() {
		if v.Name == "" || v.Allowed == "" || v.Meaning == "" {
			t.Errorf("%+v is not described", v)
		}
		if seen[v.Name] {
			t.Errorf("%s twice", v.Name)
		}
		seen[v.Name] = true
	}
	if len(seen) != 21 {
		t.Errorf("%d variables; the plan has 19, beside %s and %s", len(seen), EnvDisabledServers, EnvPreload)
	}
}

func TestUnknown(t *testing.T) {
	got := Unknown([]string{
		"PATH=/bin", "MCP_BRIDGE_TIMEOUT=3", "MCP_SERVERS_CONFIG=x", // fine
		"MCP_BRIDGE_TIMOUT=3",
		"MCP_BRIDGE_TIMOUT=4",
		"mcp_bridge_pids=3",
		"MCP_BRIDGE_MEMORY_LIMIT=1g",
		"MCP_BRIDGE_MEM=1g",
		"MCP_BRIDGE_=1",
		"MCP_BRIDGE_\x1b[31m=1",
		"MCP_BRIDGE_" + strings.Repeat("X", 1000) + "=1",
		"MCP_BRIDGE",
		"=",
		"",
	})
	want := []string{
		"MCP_BRIDGE_",
		"MCP_BRIDGE_MEMORY_LIMIT (did you mean MCP_BRIDGE_MEMORY?)",
		"MCP_BRIDGE_MEM (did you mean MCP_BRIDGE_MEMORY?)",
		"MCP_BRIDGE_TIMOUT (did you mean MCP_BRIDGE_TIMEOUT?)",
		"MCP_BRIDGE_" + strings.Repeat("X", 89),
		`MCP_BRIDGE_\x1b[31m`,
		"mcp_bridge_pids (did you mean MCP_BRIDGE_PIDS?)",
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || g == w
		}
		if !found {
			t.Errorf("%s is not reported", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %q", got)
	}
}
