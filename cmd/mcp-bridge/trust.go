package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

func trustCommand() *cobra.Command {
	var list, remove bool
	c := &cobra.Command{
		Use: "trust [DIR]", Short: "Let the files of a directory name MCP servers, as they are now", Args: cobra.MaximumNArgs(1),
		Long: "Let the files of a directory (the current one, if none is given) name MCP servers, which are programs that run as\n" +
			"you. What is trusted is what those files say now: when it changes, they are passed over until you trust it again.\n" +
			"What the programs themselves do, such as scripts in that directory, is not looked at.",
		Example: "  mcp-bridge trust\n  mcp-bridge trust ~/src/project\n  mcp-bridge trust --list\n  mcp-bridge trust --remove ~/src/project",
		RunE: func(c *cobra.Command, args []string) error {
			if list && (remove || len(args) > 0) {
				return usage("--list stands alone")
			}
			host := thisHost()
			if list {
				return trustList(c.OutOrStdout(), host)
			}
			dir, err := filepath.Abs(strings.Join(args, "")) // one, or the current one
			if err != nil {
				return err
			}
			if remove {
				return trustRemove(c.OutOrStdout(), host, dir)
			}
			return trustAdd(c.OutOrStdout(), c.ErrOrStderr(), host, dir)
		},
	}
	c.Flags().BoolVar(&list, "list", false, "list the trusted directories, and whether their files are still the same")
	c.Flags().BoolVar(&remove, "remove", false, "trust the directory no more")
	return c
}

func trustAdd(out, stderr io.Writer, host config.Host, dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return &exitError{exitNothing, fmt.Errorf("cannot trust %s: %w", dir, err)}
	}
	project, problems := config.ProjectAt(host, real)
	for _, p := range problems {
		fmt.Fprintln(stderr, "mcp-bridge: "+config.Printable(p.String()))
	}
	if len(project.Files) == 0 {
		return &exitError{exitNothing, fmt.Errorf("there is nothing to trust: no file in %s names an MCP server", config.Printable(real))}
	}
	if err := config.UpdateTrusted(host, func(t config.Trusted) { t[project.Dir] = project.Fingerprint }); err != nil {
		return err
	}
	var b strings.Builder
	hidden := false
	fmt.Fprintf(&b, "Trusted %s:\n", config.Printable(project.Dir))
	for _, e := range project.Entries {
		fmt.Fprintf(&b, "  %-24s %s\n", config.Printable(e.Name), config.Printable(e.Shown))
		fmt.Fprintf(&b, "  %-24s in %s\n", "", config.Printable(e.File))
		hidden = hidden || strings.Contains(e.Shown, "…")
	}
	if hidden {
		b.WriteString("What is not shown (…) may be a secret, or what a program is told to do: look into the file.\n")
	}
	_, err = io.WriteString(out, b.String())
	return err
}

func trustRemove(out io.Writer, host config.Host, dir string) error {
	removed := ""
	err := config.UpdateTrusted(host, func(t config.Trusted) {
		for _, name := range []string{dir, realOf(dir)} { // a directory that is gone has no real path
			if _, ok := t[name]; ok {
				removed = name
				delete(t, name)
			}
		}
	})
	switch {
	case err != nil:
		return err
	case removed == "":
		return &exitError{exitNothing, fmt.Errorf("%s was not trusted", config.Printable(dir))}
	}
	_, err = fmt.Fprintf(out, "%s is trusted no more\n", config.Printable(removed))
	return err
}

func realOf(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

func trustList(out io.Writer, host config.Host) error {
	trusted, err := config.ReadTrusted(host)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", host.TrustFile(), err)
	}
	var b strings.Builder
	for _, dir := range trusted.Dirs() {
		state := "trusted"
		if p, _ := config.ProjectAt(host, dir); p.Fingerprint != trusted[dir] {
			state = "changed"
		}
		fmt.Fprintf(&b, "%-8s %s\n", state, config.Printable(dir))
	}
	_, err = io.WriteString(out, b.String())
	return err
}
