package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// foreignReport is what a client in hack/clients prints.
type foreignReport struct {
	SDK, Server string
	Tools       []string
	Schemas     bool // all tools have both

	Success, Failure, Next foreignResult

	Started   bool   // the run that was cancelled was seen
	Cancelled string // what the client was told
	Gone      bool   // and the run was not seen any more

	Manual struct{ MIMEType, Text string }
}

type foreignResult struct {
	Status   string
	ExitCode *int
	Stdout   []string
	Stderr   []string
	Result   any
	IsError  bool
	Text     string
}

// TestForeignClients: clients that are not ours get on with the bridge. hack/setup test installs them.
func TestForeignClients(t *testing.T) {
	needSandbox(t)
	t.Parallel()
	installed := repoPath(".cache/clients")
	for _, tt := range []struct {
		sdk    string
		needs  string // file below installed
		client []string
	}{
		{"typescript", "node_modules/@modelcontextprotocol/sdk/package.json", []string{"node", repoPath("hack/clients/typescript-client.mjs")}},
		{"python", "venv/bin/python", []string{filepath.Join(installed, "venv/bin/python"), repoPath("hack/clients/python_client.py")}},
	} {
		t.Run(tt.sdk, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(tt.client[0])
			if err != nil {
				skipOrFail(t, err.Error()+": hack/setup test installs it")
			}
			if !exists(filepath.Join(installed, tt.needs)) {
				skipOrFail(t, filepath.Join(installed, tt.needs)+" is missing: hack/setup test installs it")
			}
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			state, before := filepath.Join(t.TempDir(), "state"), cgroups()
			ctx, cancel := context.WithTimeout(t.Context(), 2*hang)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, append(tt.client[1:], exe)...)
			cmd.Dir = installed // where Node finds the SDK
			cmd.Env = environment(state)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, &stderr)
			}
			var r foreignReport
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}

			if r.SDK != tt.sdk || r.Server != "mcp-server-code-execution-mode" || !cmp.Equal(r.Tools, []string{"run_python"}) || !r.Schemas {
				t.Errorf("sdk %q, server %q, tools %q, schemas %v", r.SDK, r.Server, r.Tools, r.Schemas)
			}
			zero, one := 0, 1
			traceback := r.Failure.Stderr
			if len(traceback) < 3 || traceback[0] != "Traceback (most recent call last):" || traceback[len(traceback)-1] != "ZeroDivisionError: division by zero" {
				t.Errorf("the traceback is %q", traceback)
			}
			if !strings.HasPrefix(r.Success.Text, "```toon\n") || !strings.Contains(r.Success.Text, "hello from 42") || !strings.Contains(r.Failure.Text, "ZeroDivisionError") {
				t.Errorf("texts %q, %q", r.Success.Text, r.Failure.Text)
			}
			for name, diff := range map[string]string{
				"success": cmp.Diff(foreignResult{
					Status: "success", ExitCode: &zero, Stdout: []string{"hello from 42"}, Result: map[string]any{"answer": 42.0}, Text: r.Success.Text,
				}, r.Success),
				"failure": cmp.Diff(foreignResult{
					Status: "error", ExitCode: &one, Stdout: []string{"before"}, Stderr: traceback, IsError: true, Text: r.Failure.Text,
				}, r.Failure),
				"next": cmp.Diff(foreignResult{Status: "success", ExitCode: &zero, Result: "still here", Text: r.Next.Text}, r.Next),
			} {
				if diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if !r.Started || r.Cancelled != "cancelled" || !r.Gone {
				t.Errorf("a cancelled run: started %v, %q, gone %v", r.Started, r.Cancelled, r.Gone)
			}
			if r.Manual.MIMEType != "text/markdown" || !strings.HasPrefix(r.Manual.Text, "# The sandbox of run_python") {
				t.Errorf("manual: type %q, %.80q", r.Manual.MIMEType, r.Manual.Text)
			}
			checkNothingLeft(t, os.Getpid(), state, before)
		})
	}
}
