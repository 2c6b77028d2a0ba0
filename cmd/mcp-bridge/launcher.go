package main

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/direct"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
)

// launcherFor makes launchers of the kind that MCP_BRIDGE_RUNTIME asks for.
func launcherFor(runtime string) (func(host.Options) host.Launcher, error) {
	switch runtime {
	case "", "auto", "direct": // "" if the settings could not be read
		return func(o host.Options) host.Launcher { return direct.New(o) }, nil
	case "libcontainer":
		return func(o host.Options) host.Launcher { return libct.New(o) }, nil
	case "crun", "runc", "youki", "runsc":
		return func(o host.Options) host.Launcher { return cli.NewRuntime(runtime, o) }, nil
	default:
		if filepath.IsAbs(runtime) {
			return func(o host.Options) host.Launcher { return cli.NewRuntime(runtime, o) }, nil
		}
		return nil, &exitError{exitUsage, errors.New(config.EnvRuntime + "=" + runtime + ": this version has direct, libcontainer and OCI runtimes only")}
	}
}

// seal starts the program again from a sealed copy, where a launcher needs one: libcontainer would make one for each
// container (see [libct.Seal]), and a file that others may not execute cannot be a container's first process.
func seal(runtime string) error {
	if runtime != "libcontainer" && host.Shareable() {
		return nil
	}
	return libct.Seal()
}

// newLauncher is the one that cfg asks for.
func newLauncher(cfg config.Config, log *slog.Logger) (host.Launcher, error) {
	launcher, err := launcherFor(cfg.Runtime)
	if err != nil {
		return nil, err
	}
	return launcher(host.Options{StateDir: cfg.StateDir, AllowWeakLimits: cfg.AllowWeakLimits, Logger: log}), nil
}
