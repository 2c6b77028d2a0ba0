package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

func serve(ctx context.Context) error {
	sealErr := seal(os.Getenv(config.EnvRuntime)) // before anything that its second start would do again
	cfg, log, err := load(os.Stderr)
	if err != nil {
		return err
	}
	if sealErr != nil {
		log.Debug("containers start slower", "error", sealErr)
	}
	b, closeBridge, err := newServer(ctx, cfg, log)
	if err != nil {
		return err
	}
	err = b.Serve(ctx, bridge.Transport())
	if err = errors.Join(err, closeBridge()); err != nil {
		return &exitError{exitBridge, err}
	}
	return nil
}

// newBridge wires the house together, for one command. It touches neither an image nor the host. The bar, which may be
// nil, shows a pull.
func newBridge(cfg config.Config, log *slog.Logger, bar *bar) (b *bridge.Bridge, closeAll func() error, err error) {
	i := newImages(cfg, log)
	i.bar = bar
	return wire(cfg, log, i, newServers(cfg, log))
}

// newServer is newBridge for many runs: behind the first one an image's modules are compiled, until stop.
func newServer(ctx context.Context, cfg config.Config, log *slog.Logger) (b *bridge.Bridge, stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	if most := host.RunsAtOnce(host.HardLimits()); most > 0 && most < cfg.MaxConcurrency {
		log.Warn("more runs than this wait for each other, because this process may have too few open files (ulimit -Hn)", "runs", most, config.EnvMaxConcurrency, cfg.MaxConcurrency)
		cfg.MaxConcurrency = most
	}
	i := newImages(cfg, log)
	i.compile = func(tree rootfs.Tree) {
		l, err := newLauncher(cfg, log)
		if err != nil {
			return // wire says so
		}
		_, err = warm(ctx, l, i.store, tree, oci.User(cfg.User), log)
		if err = errors.Join(err, l.Close()); err != nil && ctx.Err() == nil {
			log.Warn("the image's modules are not compiled, and runs that import many take longer", "image", tree.Ref, "error", err)
		}
	}
	b, closeBridge, err := wire(cfg, log, i, newServers(cfg, log))
	return b, func() error {
		cancel()
		i.jobs.Wait()
		return closeBridge()
	}, err
}

func wire(cfg config.Config, log *slog.Logger, i *images, s *mcpServers) (b *bridge.Bridge, closeAll func() error, err error) {
	if err := rootfs.Supported(cfg.Image); err != nil && cfg.ImageSet {
		return nil, nil, usage("%s=%q: %w", config.EnvImage, cfg.Image, err)
	}
	launcher, err := newLauncher(cfg, log)
	if err != nil {
		return nil, nil, err
	}
	i.engine = func() *cli.Engine { return engineOf(launcher) }
	opts := bridge.Options{
		Version:  version,
		Launcher: launcher,
		Image:    i.image, CachedImage: i.cached,
		Runtime: func() string { return runtimeOf(cfg, launcher) },
		Limits:  oci.Limits{Memory: cfg.Memory, Pids: int64(cfg.Pids), CPUs: cfg.CPUs},
		User:    oci.User{UID: cfg.User.UID, GID: cfg.User.GID},
		Timeout: cfg.Timeout, MaxTimeout: cfg.MaxTimeout,
		MaxConcurrency: cfg.MaxConcurrency, Pool: cfg.Pool, Preload: cfg.Preload, IdleTimeout: cfg.IdleTimeout,
		OutputMode: bridge.Mode(cfg.OutputMode),
		Tools:      savedTools(cfg),
		Logger:     log,
	}
	if s != nil {
		opts.Servers = s
	}
	b = bridge.New(opts)
	if s != nil {
		s.client = b
		go s.pool()
	}
	return b, func() error {
		if s != nil {
			s.close()
		}
		return errors.Join(launcher.Close(), i.store.Close())
	}, nil
}
