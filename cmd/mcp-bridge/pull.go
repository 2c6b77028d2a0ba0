package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

func pullCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pull [REF]", Short: "Pull, verify, unpack and compile an image, so that the first run does not wait", Args: cobra.MaximumNArgs(1),
		Long: "Pull, verify and unpack an image (" + config.EnvImage + ", if none is named), and compile the modules of its Python. A tag\n" +
			"is asked for again, also if it is cached: this is how an image is updated.",
		Example: "  mcp-bridge pull\n  mcp-bridge pull ghcr.io/astral-sh/uv:python3.12-bookworm-slim\n  mcp-bridge pull oci:./layout",
		RunE: func(c *cobra.Command, args []string) error {
			return pull(c.Context(), args, c.OutOrStdout())
		},
	}
}

// pullByEngine is pull for an engine that keeps its images itself.
func pullByEngine(ctx context.Context, e *cli.Engine, ref string, out io.Writer) error {
	began := time.Now()
	bar := newBar(os.Stderr)
	image, err := e.Image(ctx, ref, true, func(phase string) { bar.show(phase, 0, 0) })
	bar.clear()
	if err = errors.Join(err, e.Close()); err != nil {
		return err
	}
	return showPulled(out, ref, image.ID, began)
}

func showPulled(out io.Writer, ref, id string, began time.Time) error {
	_, err := fmt.Fprintf(out, "%s\t%s\t%.1f s\n", ref, id, time.Since(began).Seconds())
	return err
}

func pull(ctx context.Context, args []string, out io.Writer) error {
	cfg, log, err := load(os.Stderr)
	if err != nil {
		return err
	}
	ref := cfg.Image
	if len(args) > 0 {
		ref = args[0]
	}
	if err := rootfs.Supported(ref); err != nil {
		return usage("%q: %w", ref, err)
	}
	l, err := newLauncher(cfg, log)
	if err != nil {
		return err
	}
	if e := engineOf(l); e != nil {
		return pullByEngine(ctx, e, ref, out)
	}
	store := &rootfs.Store{Dir: cfg.CacheDir, Logger: log}
	began := time.Now()
	bar := newBar(os.Stderr)
	tree, err := store.Refresh(rootfs.WithProgress(ctx, func(p rootfs.Progress) { bar.image(ref, p) }), ref)
	bar.clear()
	if err == nil && ref != "host" {
		bar.show("compiling its modules", 0, 0)
		_, werr := warm(ctx, l, store, tree, oci.User(cfg.User), log)
		bar.clear()
		if werr = errors.Join(werr, l.Close()); werr != nil && ctx.Err() == nil {
			log.Warn("the image is ready, but its modules are not compiled: runs that import many take longer", "error", werr)
		}
	}
	if err == nil {
		bar.show("writing it to the disk", 0, 0)
		err = store.Settle(ctx) // so that a power failure, or a CI system that saves the cache, keeps it
		bar.clear()
	}
	if err != nil {
		return err
	}
	return showPulled(out, tree.Ref, tree.Digest, began)
}
