package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// The exit codes of mcp-bridge; those of run are the script's own besides.
const (
	exitNothing   = 1 // there is none of what was asked for
	exitDamaged   = 1 // of verify: something is not as it was recorded
	exitWeak      = 1 // of doctor; 0 is full strength
	exitSick      = 2
	exitUsage     = 2   // the command line or an environment variable is wrong
	exitTimeout   = 124 // as of timeout(1)
	exitBridge    = 125 // as of docker run and podman run
	exitOOM       = 137
	exitInterrupt = 130
	exitPipe      = 141 // as of a program that SIGPIPE ends
)

// An exitError ends the program with a code. Its message, if any, has not been printed yet.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usage is an error of the command line that cobra does not see.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// ending gives a command's own errors their exit code, where they have none; those without are cobra's then, which are about
// the command line.
func ending(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := run(c, args)
		switch exit := (*exitError)(nil); {
		case err == nil || errors.As(err, &exit):
			return err
		case c.Context().Err() != nil:
			return &exitError{exitInterrupt, errors.New("interrupted")}
		}
		return &exitError{exitBridge, err}
	}
}

// exitCodes is the end of a command's help: what its exit codes mean.
func exitCodes(command string) string {
	own, ok := map[string]map[int]string{
		"run": {
			0: "the script succeeded; what is not listed here is the script's own", exitTimeout: "it timed out", exitBridge: "mcp-bridge could not run it",
			exitOOM: "it ran out of memory", exitPipe: "nobody reads its output",
		},
		"pull":   {0: "the image is ready", exitBridge: "it cannot be had"},
		"images": {},
		"prune":  {},
		"verify": {
			0: "all is as it was", exitDamaged: "something is damaged (mcp-bridge prune --all removes it, and the next run unpacks it again)",
			exitBridge: "the cache cannot be read",
		},
		"servers": {0: "at least one can be used", exitNothing: "none can"},
		"search":  {0: "something was found", exitNothing: "nothing fits"},
		"stubs":   {},
		"tools":   {},
		"trust":   {exitNothing: "there is nothing to trust or to remove", exitBridge: "the list of trusted directories cannot be read or written"},
		"login":   {exitNothing: "it has failed"},
		"logout":  {exitNothing: "there are no tokens, or they could not be removed"},
		"doctor": {
			0: "runs work at full strength", exitWeak: "they work only with " + config.EnvAllowWeakLimits + "=1, or by another runtime than the first choice",
			exitSick: "they do not work; or the command line is wrong", exitBridge: "the answer could not be written",
		},
		"bench": {exitUsage: "the command line is wrong, or the report to compare with is of another machine", exitBridge: "something could not be measured"},
	}[command]
	if !ok {
		return ""
	}
	all := map[int]string{
		0: "it is done", exitUsage: "the command line or an environment variable is wrong", exitBridge: "mcp-bridge could not do it", exitInterrupt: "it was interrupted",
	}
	maps.Copy(all, own)
	text := "\n\nExit codes:"
	for _, code := range slices.Sorted(maps.Keys(all)) {
		text += fmt.Sprintf("\n  %-4d %s", code, all[code])
	}
	return text
}
