package main

import (
	"context"
	"log/slog"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// engineFor is the engine that keeps the images for the runtime that cfg asks for; nil if it is none that does.
func engineFor(cfg config.Config, log *slog.Logger) (*cli.Engine, error) {
	l, err := newLauncher(cfg, log)
	if err != nil {
		return nil, err
	}
	return engineOf(l), nil
}

// diagnoseRuntime is what the host offers to the runtime that cfg asks for; of auto, to the first that it would try.
func diagnoseRuntime(ctx context.Context, cfg config.Config, engine *cli.Engine, tree string) []host.Check {
	silent := slog.New(slog.DiscardHandler)
	if engine == nil && cfg.Runtime == "podman" {
		engine = newEngine(cfg, host.Options{StateDir: cfg.StateDir, Logger: silent}, "podman")
	}
	if engine != nil {
		return engine.Diagnose(ctx)
	}
	if cfg.Runtime == "auto" || cfg.Runtime == "" { // "" if the settings could not be read
		cfg.Runtime = "direct"
	}
	launcher, err := launcherFor(cfg)
	if err != nil {
		return []host.Check{{Step: "runtime", Status: host.Failed, Detail: err.Error()}}
	}
	return host.Diagnose(ctx, launcher, tree, oci.Limits{Memory: cfg.Memory, Pids: int64(cfg.Pids), CPUs: cfg.CPUs})
}
