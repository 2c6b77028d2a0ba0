package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/bench"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/direct"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
)

type benchFlags struct {
	rounds                        int
	only                          []string
	image                         string
	json, compare, plot, markdown string
}

func benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use: "bench", Short: "Measure what a sandbox costs here, beside what one could take instead", Args: cobra.NoArgs,
		Long: "Measure cold starts, whole programs, calls over MCP, throughput and idling, in turns with crun, runc, bwrap,\n" +
			"podman and the original bridge's way, as far as they are here, and print tables. As root all of them can take\n" +
			"part; as a user those that work without.\n\n" +
			"Sections: " + strings.Join(bench.Sections(), ", ") + ".",
		RunE: func(c *cobra.Command, _ []string) error { return runBench(c, f) },
	}
	c.Flags().IntVar(&f.rounds, "rounds", 100, "turns of each contestant, from 1 to 10000")
	c.Flags().StringSliceVar(&f.only, "only", nil, "the sections to measure (default: all)")
	c.Flags().StringVar(&f.image, "image", "", "image to run in (default: "+config.EnvImage+")")
	c.Flags().StringVar(&f.json, "json", "", "write all samples to this file")
	c.Flags().StringVar(&f.compare, "compare", "", "print ratios to the samples in this file, of the same machine")
	c.Flags().StringVar(&f.plot, "plot", "", "write an SVG bar chart to this file")
	c.Flags().StringVar(&f.markdown, "markdown", "", "write the tables into this file too, between <!-- bench --> and <!-- /bench -->")
	return c
}

func runBench(c *cobra.Command, f benchFlags) error {
	if f.rounds < 1 || f.rounds > 10_000 {
		return usage("--rounds %d: allowed are 1 to 10000", f.rounds)
	}
	for _, s := range f.only {
		if !slices.Contains(bench.Sections(), s) {
			return usage("--only %q: allowed are %s", s, strings.Join(bench.Sections(), ", "))
		}
	}
	o := bench.Options{Version: fmt.Sprintf("%s (%s, libcontainer of runc %s)", version, runtime.Version(), moduleVersion("github.com/opencontainers/runc")), Commit: commit, Rounds: f.rounds, Only: f.only, Progress: os.Stderr}
	var err error
	if o.Older, err = readReport(f.compare); err != nil {
		return &exitError{exitUsage, err}
	}
	if o.Program, err = bench.Isolate(); err != nil {
		return err
	}
	if err := libct.Seal(); err != nil { // as a server does; containers start slower without
		slog.Debug("cannot seal", "error", err)
	}
	report, err := measure(c.Context(), o, f.image)
	var other *bench.MachineError
	switch {
	case c.Context().Err() != nil:
		return &exitError{exitInterrupt, errors.Join(errors.New("interrupted"), leftBehind(err))}
	case errors.As(err, &other):
		return &exitError{exitUsage, err}
	case err != nil:
		return err
	}
	return writeReport(c, f, report, o.Older)
}

// leftBehind is what an error says beside that the context has ended.
func leftBehind(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func readReport(file string) (*bench.Report, error) {
	if file == "" {
		return nil, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot compare: %w", err)
	}
	defer in.Close()
	r, err := bench.Read(in)
	if err != nil {
		return nil, fmt.Errorf("cannot compare with %s: %w", file, err)
	}
	return &r, nil
}

// measure makes ready what contestants share, in a directory that goes afterwards. The cache is in it too, because
// podman writes into the tree that it is given.
func measure(ctx context.Context, o bench.Options, image string) (_ bench.Report, err error) {
	cfg, log, err := load(os.Stderr)
	if err != nil {
		return bench.Report{}, err
	}
	if image != "" {
		cfg.Image, cfg.ImageSet = image, true
	}
	if o.Dir, err = os.MkdirTemp("/var/tmp", "mcp-bridge-bench-"); err != nil {
		return bench.Report{}, fmt.Errorf("cannot make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, removeTree(o.Dir)) }()
	if err := os.Chmod(o.Dir, 0o711); err != nil { // containers' users pass through it
		return bench.Report{}, err
	}
	cfg.CacheDir = filepath.Join(o.Dir, "cache")
	i := newImages(cfg, log)
	tree, err := i.ensure(ctx)
	if err != nil && i.fallback != "" && ctx.Err() == nil {
		log.Warn("measuring with this host's Python", "cause", err)
		tree, err = i.store.Ensure(ctx, i.fallback)
	}
	if err != nil {
		return bench.Report{}, err
	}
	o.Tree, o.Python, o.Image, o.Cache = tree.Path, tree.Python, tree.Ref, cfg.CacheDir
	options := func(name string) host.Options {
		return host.Options{StateDir: filepath.Join(o.Dir, "state-"+name), AllowWeakLimits: cfg.AllowWeakLimits, Unfiltered: name == "unfiltered", Logger: log}
	}
	quick, filtered, unfiltered := direct.New(options("direct")), libct.New(options("libcontainer")), libct.New(options("unfiltered"))
	defer func() {
		err = errors.Join(err, quick.Close(), filtered.Close(), unfiltered.Close(), i.store.Close())
	}()
	if tree.Ref != "host" { // as behind a server's first run
		if _, err := warm(ctx, filtered, i.store, tree, oci.User(cfg.User), log); err != nil {
			log.Warn("the image's modules are not compiled", "error", err)
		}
	}
	o.Launchers = []bench.Launcher{
		{Name: "direct", Launcher: quick, Runtime: "direct"},
		{Name: "libcontainer", Launcher: filtered, Runtime: "libcontainer"},
		{Name: "libcontainer, unfiltered", Launcher: unfiltered, Note: "no system call filter"},
	}
	return bench.Run(ctx, o)
}

func writeReport(c *cobra.Command, f benchFlags, r bench.Report, older *bench.Report) error {
	tables := r.Markdown()
	if older != nil {
		compared, err := bench.Compare(*older, r)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), compared)
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), tables); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	if f.json != "" {
		b, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(f.json, append(b, '\n'), 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot write the samples: %w", err)
		}
	}
	if f.plot != "" {
		if err := os.WriteFile(f.plot, []byte(r.Plot()), 0o644); err != nil {
			return fmt.Errorf("cannot write the plot: %w", err)
		}
	}
	if f.markdown == "" {
		return nil
	}
	b, err := os.ReadFile(f.markdown)
	if err != nil {
		return fmt.Errorf("cannot insert the tables: %w", err)
	}
	text, err := bench.Insert(string(b), tables)
	if err == nil {
		err = os.WriteFile(f.markdown, []byte(text), 0o644)
	}
	return err
}

// benchServerCommand is for the benchmark's own use: the MCP servers that it measures, and measures with.
func benchServerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "bench-server echo TOOLS | original JSON", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case args[0] == "echo":
				others, err := strconv.Atoi(args[1])
				if err != nil {
					return usage("%q is no number of tools", args[1])
				}
				return bench.ServeEcho(c.Context(), os.Stdin, os.Stdout, others)
			case args[0] == "original":
				var o bench.Original
				if err := json.Unmarshal([]byte(args[1]), &o); err != nil {
					return fmt.Errorf("cannot read %q: %w", args[1], err)
				}
				return o.Serve(c.Context(), os.Stdin, os.Stdout)
			}
			return usage("no such server: %q", args)
		},
	}
}

// removeTree also removes what an image has made read-only.
func removeTree(dir string) error {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Type()&fs.ModeSymlink == 0 {
			_ = os.Chmod(p, 0o700) // or its removal says what is wrong
		}
		return nil
	})
	return os.RemoveAll(dir)
}
