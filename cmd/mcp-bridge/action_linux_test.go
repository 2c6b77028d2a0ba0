package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// action is .github/actions/run, and a runner that runs its scripts as GitHub's does.
type action struct {
	dir      string // the workspace
	temp     string
	contexts map[string]string // what expressions stand for, before the first step
	log      bytes.Buffer
	outputs  map[string]string // of the last step
}

// newAction has the defaults of its inputs, and a place to download from that has this program as the release v1.2.3.
func newAction(t *testing.T) *action {
	t.Helper()
	needSandbox(t)
	for _, name := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	name := "mcp-bridge-linux-" + runtime.GOARCH
	mux := http.NewServeMux()
	release := "/owner/mcp-bridge/releases/download/v1.2.3/"
	mux.HandleFunc(release+name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(program) })
	mux.HandleFunc(release+"SHA256SUMS", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%064x  %s.cdx.json\n%x  %[2]s\n", 1, name, sha256.Sum256(program))
	})
	mux.HandleFunc("/spoilt/"+name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(program[1:]) })
	mux.HandleFunc("/spoilt/SHA256SUMS", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%x  %s\n", sha256.Sum256(program), name)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	a := &action{dir: t.TempDir(), temp: t.TempDir(), contexts: map[string]string{
		"github.server_url": server.URL, "github.action_repository": "owner/mcp-bridge", "github.action_ref": "v1.2.3",
	}}
	for name, input := range a.read(t).Inputs {
		a.contexts["inputs."+name] = input.Default
	}
	a.contexts["inputs.image"] = testImage()
	return a
}

type actionStep struct {
	ID, Run, If string
	Env         map[string]string
}

type actionFile struct {
	Inputs map[string]struct{ Default string }
	Runs   struct{ Steps []actionStep }
}

func (*action) read(t *testing.T) (f actionFile) {
	t.Helper()
	text, err := os.ReadFile(repoPath(".github/actions/run/action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

var expression = regexp.MustCompile(`\$\{\{ *([a-z0-9_.-]+) *\}\}`)

// run runs the action with these inputs, given as name, value, and says how its last step ended. The step that pulls is run too.
func (a *action) run(t *testing.T, inputs ...string) (code int) {
	t.Helper()
	contexts := maps.Clone(a.contexts)
	for i := 0; i < len(inputs); i += 2 {
		contexts["inputs."+inputs[i]] = inputs[i+1]
	}
	a.log.Reset()
	for _, step := range a.read(t).Runs.Steps {
		if step.Run == "" {
			continue
		}
		file := filepath.Join(t.TempDir(), "output")
		cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.Run)
		cmd.Dir = a.dir
		cmd.Stdout, cmd.Stderr = &a.log, &a.log
		cmd.Env = append(environment(filepath.Join(a.temp, "state")),
			"GITHUB_ACTION_PATH="+repoPath(".github/actions/run"), "GITHUB_OUTPUT="+file, "GITHUB_SERVER_URL="+a.contexts["github.server_url"],
			"GITHUB_REPOSITORY=somebody/else", "RUNNER_OS=Linux", "RUNNER_TEMP="+a.temp, "RUNNER_ENVIRONMENT=self-hosted",
			"RUNNER_ARCH="+map[string]string{"amd64": "X64", "arm64": "ARM64"}[runtime.GOARCH])
		for name, value := range step.Env {
			cmd.Env = append(cmd.Env, name+"="+expression.ReplaceAllStringFunc(value, func(e string) string {
				return contexts[expression.FindStringSubmatch(e)[1]]
			}))
		}
		err := cmd.Run()
		a.outputs = readOutputs(t, file)
		for name, value := range a.outputs {
			contexts["steps."+step.ID+".outputs."+name] = value
		}
		if err != nil {
			return cmd.ProcessState.ExitCode()
		}
	}
	return 0
}

// readOutputs reads what GitHub reads of GITHUB_OUTPUT.
func readOutputs(t *testing.T, file string) map[string]string {
	t.Helper()
	outputs := make(map[string]string)
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return outputs
	} else if err != nil {
		t.Fatal(err)
	}
	for rest := string(text); rest != ""; {
		line, more, _ := strings.Cut(rest, "\n")
		if name, delimiter, ok := strings.Cut(line, "<<"); ok {
			value, after, ok := strings.Cut(more, "\n"+delimiter+"\n")
			if !ok {
				t.Fatalf("the output %s has no end: %q", name, more)
			}
			outputs[name], rest = value, after
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("no output: %q", line)
		}
		outputs[name], rest = value, more
	}
	return outputs
}

// obeyed are the lines of the log that GitHub takes for commands.
func (a *action) obeyed() (commands []string) {
	stopped := ""
	for line := range strings.Lines(a.log.String()) {
		line = strings.TrimSpace(line)
		switch {
		case stopped != "":
			if line == stopped {
				stopped = ""
			}
		case strings.HasPrefix(line, "::stop-commands::"):
			stopped = "::" + strings.TrimPrefix(line, "::stop-commands::") + "::"
		case strings.HasPrefix(line, "::"):
			commands = append(commands, line)
		}
	}
	return commands
}

func TestAction(t *testing.T) {
	a := newAction(t)
	marker := filepath.Join(a.dir, "marker")
	if err := os.WriteFile(filepath.Join(a.dir, "-a file.py"), []byte("print('of a file')"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		inputs []string
		code   int
		output string
	}{
		{"script", []string{"script", "import os\nprint(6 * 7, sorted(os.environ))"}, 0, "42 ["},
		{"exit code", []string{"script", "print('before'); raise SystemExit(3)"}, 3, "before"},
		{"timeout", []string{"script", "while True: pass", "timeout", "1"}, 124, ""},
		{"a long timeout", []string{"script", "print(1)", "timeout", "10m"}, 0, "1"},
		{"file", []string{"file", "-a file.py"}, 0, "of a file"},
		{"json", []string{"script", "7 * 6", "format", "json"}, 0, `{"status":"success"`},
		{"quotes", []string{"script", "print('''\"; touch " + marker + " #$(touch " + marker + ")`touch " + marker + "`''')"}, 0, `"; touch `},
		{"a command to the runner", []string{"script", "print('::error::no')\nprint('::stop-commands::x\\n::x::\\n::error::no', end='')"}, 0, "::error::no"},
		{"another output", []string{"script", "print('exit-code=9\\nEOF\\ntruncated=true')"}, 0, "exit-code=9\nEOF\ntruncated=true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if code := a.run(t, test.inputs...); code != test.code {
				t.Fatalf("exit code %d, want %d\n%s", code, test.code, &a.log)
			}
			if got := a.outputs["exit-code"]; got != fmt.Sprint(test.code) {
				t.Errorf("output exit-code is %q", got)
			}
			if !strings.HasPrefix(a.outputs["output"], test.output) || a.outputs["truncated"] != "false" {
				t.Errorf("outputs %q, want output to begin with %q", a.outputs, test.output)
			}
			if !strings.Contains(a.log.String(), test.output) {
				t.Errorf("the log has not what was written:\n%s", &a.log)
			}
			if got := a.obeyed(); len(got) > 0 {
				t.Errorf("the script gives the runner commands: %q", got)
			}
		})
	}
	if exists(marker) {
		t.Error("an input was run")
	}
	t.Run("long output", func(t *testing.T) {
		code := a.run(t, "script", "print('x' * 300_000)")
		if got := a.outputs["output"]; code != 0 || got != strings.Repeat("x", 256<<10) || a.outputs["truncated"] != "true" {
			t.Errorf("exit code %d, %d bytes, truncated %s", code, len(got), a.outputs["truncated"])
		}
		if !strings.Contains(a.log.String(), strings.Repeat("x", 300_000)) {
			t.Error("the log has not all")
		}
	})
}

func TestActionRefuses(t *testing.T) {
	a := newAction(t)
	for _, test := range []struct {
		name, want string
		inputs     []string
	}{
		{"nothing to run", "neither script nor file", nil},
		{"two things to run", "it can be one only", []string{"script", "1", "file", "x.py"}},
		{"a file that is not there", `there is no file "-"`, []string{"file", "-"}},
		{"a version that is none", "version is", []string{"script", "1", "version", "../v1\n::error::no"}},
		{"a release that is not there", "cannot download " + a.contexts["github.server_url"] + "/owner/mcp-bridge/releases/latest/download/", []string{"script", "1", "version", "latest"}},
		{"another sum than wanted", "and not 000", []string{"script", "1", "sha256", strings.Repeat("0", 64)}},
		{"no sum", "64 hexadecimal digits", []string{"script", "1", "sha256", "x"}},
		{"a spoilt program", "has the sum", []string{"script", "1", "from", a.contexts["github.server_url"] + "/spoilt/"}},
		{"a place behind a name", "must be a URL", []string{"script", "1", "from", "http://127.0.0.1:1@localhost:2"}},
		{"another sum in capitals", "and not aaa", []string{"script", "1", "sha256", strings.Repeat("A", 64)}},
		{"a place that is none", "must be a URL", []string{"script", "1", "from", "ftp://x"}},
		{"a timeout that is none", "MCP_BRIDGE_TIMEOUT", []string{"script", "1", "timeout", "soon"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(a.temp, "mcp-bridge")); err != nil {
				t.Fatal(err)
			}
			if code := a.run(t, test.inputs...); code == 0 || !strings.Contains(a.log.String(), test.want) {
				t.Errorf("exit code %d, want another and %q:\n%s", code, test.want, &a.log)
			}
			if got := a.obeyed(); len(got) > 1 {
				t.Errorf("more than one command to the runner: %q", got)
			}
			if strings.Contains(test.want, "sum") && exists(filepath.Join(a.temp, "mcp-bridge", "mcp-bridge")) {
				t.Error("the program is installed")
			}
		})
	}
}
