package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the Makefile.
var (
	version = "0.1.0-dev"
	commit  = ""
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, the commit and the runtimes compiled in", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			built := ""
			if commit != "" {
				built = "commit " + commit + "\n"
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "mcp-bridge %s\n%s%s %s/%s\nruntimes: %s; programs here: %s\n",
				version, built, runtime.Version(), runtime.GOOS, runtime.GOARCH, compiledIn(), runtimesHere())
			return err
		},
	}
}

func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}
