package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

type runFlags struct {
	code    string
	servers []string
	timeout seconds
	image   string
	format  string
}

// seconds is a duration on the command line: as in the environment, a bare number is seconds.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }
func (s *seconds) Type() string   { return "duration" }
func (s *seconds) Set(text string) error {
	d, err := config.ParseDuration(text)
	*s = seconds(d)
	return err
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:     "run [FILE | -c CODE | -]",
		Short:   "Run one script in a sandbox, with its own output and exit code",
		Long:    "Run one script in a sandbox. Its standard output and error come as they are written.",
		Example: "  mcp-bridge run script.py\n  mcp-bridge run -c 'import sys; print(sys.version)'\n  echo 'print(6 * 7)' | mcp-bridge run -",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return runScript(c, f, args) },
	}
	c.Flags().StringVarP(&f.code, "code", "c", "", "the script itself")
	c.Flags().StringArrayVar(&f.servers, "server", nil, "an MCP server to start and load with the script, which can call all others too (may be repeated)")
	c.Flags().Var(&f.timeout, "timeout", "how long it may run, for instance 90 or 2m (default: "+config.EnvTimeout+")")
	c.Flags().Lookup("timeout").DefValue = "" // which is said
	c.Flags().StringVar(&f.image, "image", "", "image to run it in (default: "+config.EnvImage+")")
	c.Flags().StringVar(&f.format, "format", "text", "text (the script's own output), toon or json (the result that an MCP client gets)")
	return c
}

func runScript(c *cobra.Command, f runFlags, args []string) error {
	var mode bridge.Mode
	switch f.format {
	case "text":
	case "toon":
		mode = bridge.ModeTOON
	case "json":
		mode = bridge.ModeJSON
	default:
		return usage("--format %q: allowed are text, toon, json", f.format)
	}
	if err := seal("auto"); err != nil { // for one start it is not worth the while of libcontainer
		slog.Debug("cannot seal", "error", err)
	}
	code, err := readScript(c.Context(), c.Flags().Changed("code"), f.code, args)
	if err != nil {
		return err
	}
	cfg, log, err := load(os.Stderr)
	if err != nil {
		return err
	}
	if c.Flags().Changed("image") {
		if f.image == "" {
			return usage("--image is empty: leave it out for the default, or name an image")
		}
		cfg.Image, cfg.ImageSet = f.image, true
	}
	b, closeBridge, err := newBridge(cfg, log, newBar(os.Stderr))
	if err != nil {
		return err
	}
	var out bridge.Output
	if mode == "" {
		out = bridge.Output{Stdout: forTerminal(os.Stdout), Stderr: forTerminal(os.Stderr)}
	}
	req := bridge.Request{Code: code, Servers: f.servers, Timeout: time.Duration(f.timeout)}
	if len(args) > 0 && args[0] != "-" {
		req.Filename = filepath.Base(args[0])
	}
	result, runErr := b.Run(c.Context(), req, out)
	if err := closeBridge(); err != nil {
		log.Error("cannot clean up", "error", err)
	}
	if mode != "" {
		text, _ := result.Render(mode)
		if _, err := fmt.Fprintln(os.Stdout, text); errors.Is(err, syscall.EPIPE) {
			return &exitError{code: exitPipe}
		} else if err != nil {
			return fmt.Errorf("cannot write the result: %w", err)
		}
	}
	if note := result.Note(); note != "" && mode == "" {
		log.Warn(note)
	}
	return exitOf(result, runErr, mode == "")
}

// exitOf turns a result into the exit code, and into what the script's own output does not say.
func exitOf(result bridge.Result, runErr error, say bool) error {
	if errors.Is(runErr, syscall.EPIPE) {
		return &exitError{code: exitPipe} // "| head" has read enough
	}
	if runErr != nil {
		exit := &exitError{code: exitBridge}
		if say {
			exit.err = runErr
		}
		return exit
	}
	exit := &exitError{}
	switch result.Status {
	case bridge.StatusTimeout:
		exit.code = exitTimeout
	case bridge.StatusOOM:
		exit.code = exitOOM
	case bridge.StatusCancelled:
		exit.code = exitInterrupt
	case bridge.StatusValidationError:
		exit.code = exitUsage
	default:
		switch {
		case result.ExitCode == nil:
			exit.code = exitBridge
		case *result.ExitCode == 0:
			return nil
		default:
			exit.code = *result.ExitCode
			if exit.code < 128 || result.Error == "" {
				return exit // a traceback, or the script's own words, have said it all
			}
		}
	}
	if say {
		exit.err = errors.New(result.Summarize())
	}
	return exit
}

func readScript(ctx context.Context, given bool, code string, args []string) (string, error) {
	switch {
	case given && len(args) > 0:
		return "", usage("a script is either a file or -c CODE, not both")
	case given:
		return code, nil
	case len(args) == 0:
		return "", usage("no script: name a file, give -c CODE, or - to read it from standard input")
	}
	var b []byte
	read := make(chan error, 1)
	go func() { // because a terminal, a pipe and a FIFO may have nothing to say, and signals only end ctx
		var err error
		file := os.Stdin
		if args[0] != "-" {
			if file, err = os.Open(args[0]); err != nil {
				read <- err
				return
			}
			defer file.Close()
		}
		b, err = io.ReadAll(io.LimitReader(file, bridge.MaxCode+1))
		read <- err
	}()
	select {
	case <-ctx.Done():
		return "", &exitError{exitInterrupt, errors.New("interrupted")}
	case err := <-read:
		if err != nil {
			return "", usage("cannot read the script: %w", err)
		}
		return string(b), nil
	}
}
