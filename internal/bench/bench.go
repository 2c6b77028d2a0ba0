// Package bench measures what a sandbox costs, by mcp-bridge and by what one could take instead, on one machine, in
// turns, on the same tree: cold starts, whole programs, calls over MCP, throughput, and what idles. It makes tables, a
// plot and JSON of that. It knows no launcher by name: who calls it brings them.
package bench

import (
	"io"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Options of [Run].
type Options struct {
	// Program is mcp-bridge itself, as a file: it is started as a whole program and as an MCP server.
	Program string
	// Version and Commit of it, for the report.
	Version, Commit string
	// Launchers are measured in this process.
	Launchers []Launcher
	// Tree is the root directory that all run in, Python the interpreter in it, Image what Program calls it and Cache the
	// cache directory where it finds it.
	Tree, Python, Image, Cache string
	// Dir is an empty directory for what is needed meanwhile, which containers' users may pass through.
	Dir string
	// Rounds is how often each contestant has its turn.
	Rounds int
	// Only are the sections to measure; none means all.
	Only []string
	// Older, if not nil, is what the report will be compared with. It must be of this machine.
	Older *Report
	// Progress is told what is going on.
	Progress io.Writer
}

// A Launcher is a contestant that runs in this process.
type Launcher struct {
	Name     string
	Launcher oci.Launcher
	// Runtime is the value of MCP_BRIDGE_RUNTIME by which the whole program uses it; empty if it cannot be told to.
	Runtime string
	// Note says what is different about it, for the reader of the table.
	Note string
}

// Sections are the names that Options.Only may have, in their order.
func Sections() []string {
	names := make([]string, len(sections))
	for i, s := range sections {
		names[i] = s.name
	}
	return names
}

// A Report is everything that was measured, and where.
type Report struct {
	Machine Machine   `json:"machine"`
	Date    time.Time `json:"date"`
	Commit  string    `json:"commit,omitempty"`
	Image   string    `json:"image"`
	// Load is how many others wanted a CPU when it began, in the mean of a minute: more than none falsify it.
	Load     float64   `json:"load"`
	Versions []Version `json:"versions"`
	Sections []Section `json:"sections"`
}

// A Version is what a contestant says of itself.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// A Section is one table.
type Section struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// How it was measured, in a sentence or two.
	How string `json:"how"`
	// Unit of the samples, unless a row has its own.
	Unit string `json:"unit"`
	// Against are the names of the rows that all others are compared with.
	Against []string `json:"against,omitempty"`
	Rows    []Row    `json:"rows"`
	LeftOut []Left   `json:"leftOut,omitempty"`
}

// A Row is what was measured of one contestant.
type Row struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit,omitempty"`
	Samples []float64 `json:"samples"`
	// CPU is user and system time of one run, in ms, of all its processes; 0 if it was not measured.
	CPU float64 `json:"cpu,omitempty"`
	// Errors is how many runs failed where that does not end the measuring.
	Errors int    `json:"errors,omitempty"`
	Note   string `json:"note,omitempty"`
}

// A Left is a contestant that does not work here, and why.
type Left struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Names of rows; others are compared with some of them. Those of mcp-bridge begin with ours.
const (
	ours         = "mcp-bridge"
	bareName     = "python3 alone, no sandbox"
	crunName     = "crun run"
	podmanName   = "podman run --rootfs"
	originalName = "the original's way"
)

// section is what is known of a section before it is measured.
type section struct{ name, title, unit string }

// The sections.
var (
	cold       = section{"cold", "Cold start", "ms"}
	process    = section{"process", "The whole program", "ms"}
	call       = section{"call", "run_python over MCP, print(1)", "ms"}
	callTool   = section{"tool", "run_python over MCP, with a tool call in it", "ms"}
	callMany   = section{"many", "run_python over MCP, with a call of a tool of a large server", "ms"}
	callImport = section{"import", "run_python over MCP, with imports of the standard library", "ms"}
	throughput = section{"throughput", "Throughput, every run in a fresh container", "runs/s"}
	burst      = section{"burst", "100 simultaneous calls over one MCP session", "ms"}
	idle       = section{"idle", "Idle", ""}
	sections   = []section{cold, process, call, callTool, callMany, callImport, throughput, burst, idle}
)

// empty is a section without rows yet.
func (s section) empty(how string, against ...string) Section {
	return Section{Name: s.name, Title: s.title, Unit: s.unit, How: how, Against: against}
}
