package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// benchReport is what of the JSON of mcp-bridge bench is looked at.
type benchReport struct {
	Machine  map[string]any `json:"machine"`
	Sections []struct {
		Name string `json:"name"`
		Rows []struct {
			Name    string    `json:"name"`
			Samples []float64 `json:"samples"`
			CPU     float64   `json:"cpu"`
			Errors  int       `json:"errors"`
		} `json:"rows"`
		LeftOut []struct{ Name, Reason string } `json:"leftOut"`
	} `json:"sections"`
}

// rows are those of a section, and what was left out of it.
func (r benchReport) rows(section string) (rows []string, left map[string]string) {
	left = make(map[string]string)
	for _, s := range r.Sections {
		if s.Name != section {
			continue
		}
		for _, row := range s.Rows {
			rows = append(rows, row.Name)
		}
		for _, l := range s.LeftOut {
			left[l.Name] = l.Reason
		}
	}
	return rows, left
}

// benchCmd is `mcp-bridge bench`, by a test binary of that name, because it starts itself again.
func benchCmd(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the contestants need root")
	}
	needSandbox(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "mcp-bridge")
	copySelf(t, program)
	cmd := exec.Command(program, append([]string{"bench", "--image", testImage()}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir(), "MCP_BRIDGE_ALLOW_WEAK_LIMITS=1"}
	before, dirs := cgroups(), benchDirs()
	t.Cleanup(func() {
		if err := eventually(func() error { return noneAlive(descendants(cmd.Process.Pid)) }); err != nil {
			t.Error(err)
		}
		if err := noNewCgroups(before); err != nil {
			t.Error(err)
		}
		if now := benchDirs(); !slices.Equal(now, dirs) {
			t.Errorf("directories before %v, after %v", dirs, now)
		}
		if m := mounts(os.Getpid()); len(m) > 0 {
			t.Errorf("mounts are left: %v", m)
		}
	})
	return cmd
}

func benchDirs() []string {
	dirs, _ := filepath.Glob("/var/tmp/mcp-bridge-bench-*")
	return dirs
}

// TestBench: every section is measured, with all contestants that are here, and written in every form.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	jsonFile, plot, doc := filepath.Join(dir, "samples.json"), filepath.Join(dir, "plot.svg"), filepath.Join(dir, "doc.md")
	if err := os.WriteFile(doc, []byte("above\n<!-- bench -->\n<!-- /bench -->\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := benchCmd(t, "--rounds", "1", "--json", jsonFile, "--plot", plot, "--markdown", doc)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	b, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var r benchReport
	decode(t, b, &r)
	for section, want := range map[string][]string{
		"cold":       {"python3 alone, no sandbox", "mcp-bridge, libcontainer", "mcp-bridge, libcontainer, unfiltered", "mcp-bridge, direct"},
		"process":    {"mcp-bridge run, libcontainer", "mcp-bridge, libcontainer, to its answer to initialize", "mcp-bridge run, direct", "mcp-bridge, direct, to its answer to initialize"},
		"call":       {"mcp-bridge, libcontainer", "mcp-bridge, libcontainer, no pool", "mcp-bridge, direct", "mcp-bridge, direct, no pool"},
		"tool":       {"mcp-bridge, libcontainer", "mcp-bridge, libcontainer, no pool", "mcp-bridge, direct", "mcp-bridge, direct, no pool"},
		"import":     {"mcp-bridge, libcontainer", "mcp-bridge, libcontainer, no pool", "mcp-bridge, direct", "mcp-bridge, direct, no pool"},
		"many":       {"mcp-bridge, libcontainer", "mcp-bridge, libcontainer, no pool", "mcp-bridge, direct", "mcp-bridge, direct, no pool"},
		"throughput": {"python3 alone, no sandbox", "mcp-bridge, libcontainer", "mcp-bridge, direct"},
		"burst":      {"mcp-bridge, libcontainer", "mcp-bridge, libcontainer, no pool", "mcp-bridge, direct", "mcp-bridge, direct, no pool"},
		"idle":       {"mcp-bridge, libcontainer: RSS of the server", "mcp-bridge, libcontainer: CPU when idle, with its sandboxes", "mcp-bridge, direct: RSS of the server", "mcp-bridge, direct: CPU when idle, with its sandboxes"},
	} {
		for program, names := range map[string][]string{
			"crun": {"crun run", "crun run, unfiltered"}, "runc": {"runc run"}, "bwrap": {"bwrap"},
			"podman": {"podman run --rootfs", "the original's way"},
		} {
			for _, name := range names {
				in := map[string]string{
					"crun run": "cold process throughput", "crun run, unfiltered": "cold process throughput", "runc run": "cold throughput",
					"bwrap": "cold throughput", "podman run --rootfs": "cold process throughput", "the original's way": "call tool import",
				}[name]
				if !slices.Contains(strings.Fields(in), section) {
					continue
				}
				_, left := r.rows(section)
				_, err := exec.LookPath(program)
				switch reason := left[name]; {
				case err != nil && reason == "":
					t.Errorf("%s: %s is not here, and not left out for a reason", section, name)
				case err == nil && (reason == "" || os.Getenv("CI") == "true"):
					want = append(want, name)
				default:
					t.Logf("%s: %s does not work here: %s", section, name, reason)
				}
			}
		}
		rows, left := r.rows(section)
		for _, name := range want {
			if !slices.Contains(rows, name) {
				t.Errorf("%s has no %q, but %q, and left out are %q", section, name, rows, left)
			}
		}
	}
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			want := 1
			if s.Name == "burst" {
				want = 100
			}
			if len(row.Samples) != want || row.Errors != 0 || s.Name != "idle" && slices.Min(row.Samples) <= 0 {
				t.Errorf("%s, %s: %d errors, samples %v", s.Name, row.Name, row.Errors, row.Samples)
			}
			if measured := s.Name == "cold" || s.Name == "throughput"; measured && row.CPU <= 0 {
				t.Errorf("%s, %s: no CPU time", s.Name, row.Name)
			}
		}
	}
	text, err := os.ReadFile(doc)
	if err != nil || string(text) != "above\n<!-- bench -->\n"+stdout.String()+"<!-- /bench -->\nbelow\n" {
		t.Errorf("%v, the document is\n%s", err, text)
	}
	svg, err := os.ReadFile(plot)
	if err != nil || xml.Unmarshal(svg, new(struct{})) != nil {
		t.Errorf("%v, the plot is\n%s", err, svg)
	}

	// The same machine is compared with, another one is not.
	cmd = benchCmd(t, "--rounds", "1", "--only", "cold", "--compare", jsonFile)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "now / then") {
		t.Errorf("%v\n%s", err, out)
	}
	r.Machine["cpu"] = "another"
	b, err = json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(jsonFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = benchCmd(t, "--rounds", "1", "--only", "cold", "--compare", jsonFile)
	if out, err := cmd.CombinedOutput(); exitCode(err) != 2 || !strings.Contains(string(out), "cannot compare across machines") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestBenchInterrupted: in the middle of a section everything ends, and nothing is left.
func TestBenchInterrupted(t *testing.T) {
	for _, section := range []string{"cold", "call", "burst"} {
		t.Run(section, func(t *testing.T) {
			cmd := benchCmd(t, "--rounds", "10000", "--only", section)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := ""
			for lines := bufio.NewScanner(stderr); lines.Scan(); said += lines.Text() + "\n" {
				if strings.HasPrefix(lines.Text(), "bench: "+section+": ") {
					// As Ctrl-C on a terminal: to all of the group.
					if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
						t.Error(err)
					}
				}
			}
			if err := within(t, "the end of the benchmark", cmd.Wait); exitCode(err) != 130 {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}

func TestBenchBadFlags(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--rounds", "10001"}, {"--only", "lukewarm"}, {"--compare", "/nowhere/at/all"}} {
		cmd := bridgeCommand(t, environment(t.TempDir()), append([]string{"bench"}, args...)...)
		if out, err := cmd.CombinedOutput(); exitCode(err) != 2 {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}
