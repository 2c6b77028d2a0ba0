package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// thisHost is the machine and the process, as internal/config wants to know them.
func thisHost() config.Host {
	// Empty is allowed of both: nothing needs them if the variables say more.
	home, _ := os.UserHomeDir()
	cwd, _ := os.Getwd()
	program, _ := os.Executable() // a sealed copy has no path, and entries are recognised by their names then
	return config.Host{
		Getenv: os.Getenv, Home: home, Cwd: cwd, Root: os.Geteuid() == 0, CPUs: runtime.NumCPU(),
		Writable: func(dir string) bool { return unix.Access(dir, unix.W_OK) == nil },
		OS:       runtime.GOOS, UID: os.Geteuid(), Program: program, Files: config.Disk(), Real: filepath.EvalSymlinks,
	}
}

// discover finds the user's MCP servers, and logs what is passed over. It takes some milliseconds, so it is for when
// the servers are needed.
func discover(cfg config.Config, log *slog.Logger) config.Discovery {
	d := config.Discover(thisHost(), cfg)
	for _, p := range d.Problems {
		log.Warn("a problem with the configuration of MCP servers", "problem", config.Printable(p.String()))
	}
	if p := d.Project; p.Trust == config.Untrusted || p.Trust == config.Changed {
		log.Warn("MCP servers of this directory are passed over, because nobody has trusted it as it is now",
			"state", string(p.Trust), "servers", printables(names(p.Entries)), "files", printables(p.Files), "trust", trustLine(p.Dir))
	}
	for _, s := range d.Servers {
		if s.Unavailable != "" {
			log.Debug("an MCP server cannot be used", "server", config.Printable(s.Name), "file", config.Printable(s.File), "reason", config.Printable(s.Unavailable))
		}
	}
	return d
}

func names(list []config.Server) []string {
	all := make([]string, len(list))
	for n, s := range list {
		all[n] = s.Name
	}
	return all
}

func printables(list []string) string { return config.Printable(strings.Join(list, ", ")) }

// trustLine is the command that trusts a directory.
func trustLine(dir string) string {
	return "mcp-bridge trust " + config.Printable(config.ShellWord(dir))
}

func serversCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "servers", Short: "List the MCP servers that scripts can use, where they were found, and why one is not usable", Args: cobra.NoArgs,
		Long: "List every MCP server that the configurations of your programs name, in the order of their precedence. None is\n" +
			"started, and nothing that could be a secret is shown. docs/servers.md says where they are looked for.",
		RunE: func(c *cobra.Command, _ []string) error { return servers(c.OutOrStdout(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print {servers, problems, project}")
	return c
}

// The states of an entry.
const (
	stateOK          = "ok"
	stateUnavailable = "unavailable"
	statePassed      = "passed over"
)

type serverRow struct {
	Name      string `json:"name"`
	Host      string `json:"host"`
	File      string `json:"file"`
	Transport string `json:"transport,omitempty"`
	What      string `json:"what"`
	State     string `json:"state"`
	Reason    string `json:"reason,omitempty"`
}

type serversReport struct {
	Servers  []serverRow `json:"servers"`
	Problems []string    `json:"problems"`
	Project  struct {
		Dir     string   `json:"dir"`
		Files   []string `json:"files,omitempty"`
		Servers []string `json:"servers,omitempty"`
		Trust   string   `json:"trust,omitempty"`
		Command string   `json:"command,omitempty"`
	} `json:"project"`
}

func servers(out io.Writer, asJSON bool) error {
	cfg, _, err := load(os.Stderr)
	if err != nil {
		return err
	}
	r := report(discover(cfg, slog.New(slog.DiscardHandler))) // all of it is printed
	write := r.text
	if asJSON {
		write = func(w io.Writer) error { return writeJSON(w, r) }
	}
	if err := write(out); err != nil {
		return fmt.Errorf("cannot write the servers: %w", err)
	}
	for _, s := range r.Servers {
		if s.State == stateOK {
			return nil
		}
	}
	return &exitError{code: exitNothing}
}

func report(d config.Discovery) serversReport {
	r := serversReport{Servers: []serverRow{}, Problems: []string{}}
	add := func(s config.Server, state, reason string) {
		r.Servers = append(r.Servers, serverRow{s.Name, s.Host, s.File, string(s.Transport), s.Shown, state, reason})
	}
	for _, s := range d.Servers {
		state := stateOK
		if s.Unavailable != "" {
			state = stateUnavailable
		}
		add(s, state, s.Unavailable)
	}
	for _, p := range d.Passed {
		add(p.Server, statePassed, p.Reason)
	}
	for _, p := range d.Problems {
		r.Problems = append(r.Problems, p.String())
	}
	r.Project.Dir, r.Project.Files, r.Project.Servers, r.Project.Trust = d.Project.Dir, d.Project.Files, names(d.Project.Entries), string(d.Project.Trust)
	if p := d.Project; p.Trust == config.Untrusted || p.Trust == config.Changed {
		r.Project.Command = trustLine(p.Dir)
	}
	return r
}

func (r serversReport) text(w io.Writer) error {
	home, _ := os.UserHomeDir()
	tilde := func(text string) string {
		if home != "" && home != "/" {
			text = strings.ReplaceAll(text, home+"/", "~/")
		}
		return config.Printable(text)
	}
	var b strings.Builder
	rows := [][]string{{"NAME", "HOST", "TRANSPORT", "STATE", "WHAT"}}
	for _, s := range r.Servers {
		rows = append(rows, []string{s.Name, s.Host, s.Transport, s.State, s.What})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for n, cell := range row {
			row[n] = config.Printable(cell)
			widths[n] = min(max(widths[n], len([]rune(row[n]))), 32)
		}
	}
	for n, row := range rows {
		for col, cell := range row[:len(row)-1] {
			fmt.Fprintf(&b, "%-*s  ", widths[col], cell)
		}
		b.WriteString(row[len(row)-1] + "\n")
		if n == 0 {
			continue
		}
		s := r.Servers[n-1]
		if s.Reason != "" {
			fmt.Fprintf(&b, "    %s\n", tilde(s.Reason))
		}
		if s.State != stateOK {
			fmt.Fprintf(&b, "    in %s\n", tilde(s.File))
		}
	}
	if len(r.Servers) == 0 {
		b.Reset()
		b.WriteString("No MCP servers were found; docs/servers.md says where they are looked for.\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "\nproblem: %s\n", tilde(p))
	}
	if r.Project.Command != "" {
		fmt.Fprintf(&b, "\nThe servers of %s are passed over, because its files are %s. If you know what they start: %s\n",
			config.Printable(r.Project.Dir), map[string]string{"untrusted": "not trusted", "changed": "not as they were when you trusted them"}[r.Project.Trust], r.Project.Command)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
