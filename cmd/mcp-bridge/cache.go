package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// withStore is a command on the image cache.
func withStore(f func(ctx context.Context, s *rootfs.Store, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		cfg, log, err := load(os.Stderr)
		if err != nil {
			return err
		}
		return f(c.Context(), &rootfs.Store{Dir: cfg.CacheDir, Logger: log}, c.OutOrStdout())
	}
}

func imagesCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "images", Short: "List the images in the cache", Args: cobra.NoArgs,
		RunE: withStore(func(ctx context.Context, s *rootfs.Store, out io.Writer) error {
			list, err := s.Images(ctx)
			if err != nil {
				return err
			}
			return showImages(out, list, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print [{ref, digest, bytes, used, inUse}]")
	return c
}

func showImages(out io.Writer, list []rootfs.CachedImage, asJSON bool) error {
	if asJSON {
		type row struct {
			Ref    string    `json:"ref"`
			Digest string    `json:"digest"`
			Bytes  int64     `json:"bytes"`
			Used   time.Time `json:"used"`
			InUse  bool      `json:"inUse"`
		}
		rows := make([]row, 0, len(list))
		for _, i := range list {
			rows = append(rows, row{i.Ref, i.Digest, i.Bytes, i.Used.UTC(), i.InUse})
		}
		return writeJSON(out, rows)
	}
	if len(list) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tDIGEST\tMB\tUSED\tIN USE")
	for _, i := range list {
		ref, use := i.Ref, ""
		if ref == "" {
			ref = "(damaged)"
		}
		if i.InUse {
			use = "yes"
		}
		fmt.Fprintf(w, "%s\t%.19s\t%.1f\t%s\t%s\n", config.Printable(ref), config.Printable(i.Digest), float64(i.Bytes)/1e6, i.Used.Format(time.DateTime), use)
	}
	return w.Flush()
}

// What prune takes: a century, and more than any disk has. Beyond, the sums would overflow.
const (
	maxDays      = 36_500
	maxGigabytes = 1 << 20
)

func pruneCommand() *cobra.Command {
	var all bool
	var days, gigabytes int
	c := &cobra.Command{
		Use: "prune", Short: "Remove images from the cache that have not been used for long, or are too many", Args: cobra.NoArgs,
		Long: "Remove images from the cache: those that have not been used for long, and of the others those used longest ago, until\n" +
			"what stays is small enough. An image that a process is using stays.",
		RunE: withStore(func(ctx context.Context, s *rootfs.Store, out io.Writer) error {
			if days < 1 || days > maxDays || gigabytes < 1 || gigabytes > maxGigabytes {
				return usage("--days %d --gigabytes %d: allowed are 1 to %d and 1 to %d", days, gigabytes, maxDays, maxGigabytes)
			}
			o := rootfs.PruneOptions{MaxAge: time.Duration(days) * 24 * time.Hour, MaxBytes: int64(gigabytes) << 30}
			if all {
				o = rootfs.PruneOptions{MaxAge: -1, MaxBytes: -1}
			}
			removed, err := s.Prune(ctx, o)
			if serr := showImages(out, removed, false); err == nil {
				err = serr
			}
			return err
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "remove every image that nobody is using")
	c.Flags().IntVar(&days, "days", int(rootfs.DefaultMaxAge.Hours()/24), "remove what has not been used for so many days")
	c.Flags().IntVar(&gigabytes, "gigabytes", rootfs.DefaultMaxBytes>>30, "how large all images together may be")
	return c
}

func verifyCommand() *cobra.Command {
	var quick bool
	c := &cobra.Command{
		Use: "verify", Short: "Check the images in the cache against what was recorded of them", Args: cobra.NoArgs,
		Long: "Check every file of the images in the cache against what was recorded of them: by pull, or else by the first verify,\n" +
			"which says so.",
		RunE: withStore(func(ctx context.Context, s *rootfs.Store, out io.Writer) error {
			damages, err := s.Verify(ctx, !quick)
			for _, d := range damages {
				fmt.Fprintln(out, config.Printable(d.String()))
			}
			if err == nil && len(damages) > 0 {
				return &exitError{exitDamaged, fmt.Errorf("%d things are not as they were recorded", len(damages))}
			}
			return err
		}),
	}
	c.Flags().BoolVar(&quick, "quick", false, "names, types, sizes and times only, not the contents")
	return c
}
