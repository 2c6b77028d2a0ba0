// Command mcp-bridge is an MCP server with one tool, run_python, that runs scripts in containers of its own.
//
// This package is wiring and the command line, nothing else. Standard output belongs to MCP (serve) or to the script
// (run); everything that the bridge itself has to say goes to standard error.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// stopTimeout is how long the program may take to end after a signal.
const stopTimeout = 10 * time.Second

func main() {
	libct.Init()                      // first: in a container this does not return
	rootfs.Init(context.Background()) // nor does this in an image's unpacker
	os.Exit(run())
}

func run() int {
	// Being notified keeps a closed stdout from killing the bridge before it has cleaned up; unlike ignoring, it is
	// not inherited by what the bridge starts.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// One signal ends what goes on, in order. Another one, or a write that nobody reads, ends the program; the lifeline
	// then ends its sandboxes, and the next start cleans up.
	defer context.AfterFunc(ctx, func() {
		stop()
		time.AfterFunc(stopTimeout, func() { os.Exit(exitInterrupt) })
	})()
	err := command().ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if host := (*oci.HostError)(nil); errors.As(err, &host) {
			exit.err = fmt.Errorf("%w; \"mcp-bridge doctor\" says more", exit.err)
		}
		if exit.err != nil {
			fmt.Fprintln(os.Stderr, "mcp-bridge:", exit.err)
		}
		return exit.code
	default: // cobra's: the command line
		fmt.Fprintln(os.Stderr, "mcp-bridge:", err)
		return exitUsage
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "mcp-bridge",
		Short: "Run Python scripts in containers of their own, for MCP clients and for you",
		Long: "mcp-bridge is an MCP server on standard input and output with one tool, run_python: each script runs in a\n" +
			"rootless container that mcp-bridge launches itself, without a daemon, a network or privileges.\n\n" + variables(),
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c.Context()) },
	}
	root.AddCommand(&cobra.Command{
		Use: "serve", Short: "Serve MCP on standard input and output (what mcp-bridge does without a command)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c.Context()) },
	}, runCommand(), versionCommand())
	root.AddCommand(pullCommand(), imagesCommand(), pruneCommand(), verifyCommand(), serversCommand(), searchCommand(), stubsCommand(), toolsCommand(), trustCommand(), loginCommand(), logoutCommand(), doctorCommand(), benchCommand(), benchServerCommand())
	root.SetHelpCommand(&cobra.Command{ // cobra's own succeeds for what there is not
		Use: "help [command]", Short: "Say more about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err == nil {
				err = cobra.NoArgs(of, rest)
			}
			if err != nil {
				return &exitError{exitUsage, err}
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	})
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		c.Long = cmp.Or(c.Long, c.Short+".") + exitCodes(c.Name())
		help(c, args)
	})
	for _, c := range append(root.Commands(), root) {
		c.RunE = ending(c.RunE)
	}
	return root
}

// variables is the part of the help that names the environment.
func variables() string {
	text := "Environment:\n"
	for _, v := range config.Variables() {
		text += fmt.Sprintf("  %-32s %s\n  %-32s   default %s; allowed %s\n", v.Name, v.Meaning, "", cmp.Or(v.Default, "-"), v.Allowed)
	}
	return text
}

// load reads the environment and makes the logger that it asks for.
func load(stderr io.Writer) (config.Config, *slog.Logger, error) {
	cfg, err := config.Load(thisHost())
	if err != nil {
		return config.Config{}, nil, &exitError{exitUsage, err}
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	logrus.SetOutput(io.Discard) // the registry client's, which says to stderr what comes back as an error, or was mended
	for _, name := range config.Unknown(os.Environ()) {
		log.Warn("unknown environment variable", "name", name)
	}
	return cfg, log, nil
}
