package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

//go:embed original.py
var originalEntrypoint []byte

// An Original is an MCP server that runs scripts the way the original bridge does by its public README: a `podman run`
// for each call, with its flags; the entrypoint in a directory that becomes /ipc; JSON frames over the container's
// standard streams; clients of MCP servers that stay. Where the README says nothing the quicker way is taken, and this
// is Go where the original is Python: it is a lower bound of the original's time, not the original.
type Original struct {
	// Podman is the program with its options for all commands.
	Podman []string
	// Tree and Python are what scripts run with: the same tree as everybody's, in place of an image.
	Tree, Python string
	// Dir is for the directories that become /ipc.
	Dir string
	// Server is the command of the one MCP server, "bench".
	Server []string
}

// Serve serves run_python until in ends.
func (o Original) Serve(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	var mu sync.Mutex
	var upstream *client
	tool := func(ctx context.Context, name string, arguments json.RawMessage) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if upstream == nil {
			c, err := connect(ctx, exec.Command(o.Server[0], o.Server[1:]...))
			if err != nil {
				return "", err
			}
			upstream = c
		}
		r, err := upstream.call(ctx, name, arguments)
		switch {
		case err != nil:
			return "", err
		case r.IsError || len(r.Content) == 0:
			return "", fmt.Errorf("%s failed: %.300q", name, r.Content)
		}
		return r.Content[0].Text, nil
	}
	err = serve(ctx, in, out, served{
		"run_python", `{"type":"object","properties":{"code":{"type":"string"},"servers":{"type":"array"}},"required":["code"]}`,
		func(ctx context.Context, arguments json.RawMessage) (any, error) { return o.run(ctx, arguments, tool) },
		false, // it takes as long as a podman run
		0,
	})
	if upstream != nil {
		err = errors.Join(err, upstream.close())
	}
	return err
}

// A frame is what the entrypoint sends.
type frame struct {
	Type, Data, Tool, Status string
	Arguments                json.RawMessage
}

func (o Original) run(ctx context.Context, request json.RawMessage, tool func(context.Context, string, json.RawMessage) (string, error)) (_ any, err error) {
	var asked struct {
		Code    string   `json:"code"`
		Servers []string `json:"servers"`
	}
	if err := json.Unmarshal(request, &asked); err != nil {
		return nil, fmt.Errorf("cannot read the arguments: %v", err)
	}
	if asked.Servers == nil {
		asked.Servers = []string{}
	}
	ipc, err := os.MkdirTemp(o.Dir, "ipc-")
	if err != nil {
		return nil, fmt.Errorf("cannot make /ipc: %v", err)
	}
	defer os.RemoveAll(ipc)
	for _, err := range []error{
		os.Chmod(ipc, 0o755),
		os.WriteFile(filepath.Join(ipc, "entrypoint.py"), originalEntrypoint, 0o644),
		os.WriteFile(filepath.Join(ipc, "request.json"), raw(asked), 0o644),
	} {
		if err != nil {
			return nil, fmt.Errorf("cannot fill /ipc: %v", err)
		}
	}
	name := "mcp-bridge-bench-" + strings.ToLower(rand.Text())
	cmd := exec.CommandContext(ctx, o.Podman[0], o.command(name, ipc)...)
	cmd.Cancel = func() error { // to end podman would leave the container
		remove := exec.Command(o.Podman[0], append(o.Podman[1:len(o.Podman):len(o.Podman)], "rm", "--force", "--time", "0", name)...) // ctx has ended
		return errors.Join(remove.Run(), cmd.Process.Kill())
	}
	isolate(cmd)
	cmd.WaitDelay = endPatience / 2
	stderr := &tail{}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start podman: %v", err)
	}
	status, printed := o.frames(ctx, stdout, stdin, tool)
	_, _ = io.Copy(io.Discard, stdout)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("podman run: %v: %s", err, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(printed, "\n"), "\n")
	text := fmt.Sprintf("```toon\nstatus: %s\nstdout[%d]: %s\n```", status, len(lines), strings.Join(lines, ","))
	return map[string]any{
		"isError": status != "success", "content": []any{map[string]any{"type": "text", "text": text}},
		"structuredContent": map[string]any{"status": status, "stdout": lines},
	}, nil
}

// frames reads what the entrypoint sends until it says how it ended, and answers its calls.
func (o Original) frames(ctx context.Context, stdout io.Reader, stdin io.Writer, tool func(context.Context, string, json.RawMessage) (string, error)) (status, printed string) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxLine)
	status = "error"
	var text strings.Builder
	for lines.Scan() {
		var f frame
		if json.Unmarshal(lines.Bytes(), &f) != nil {
			continue
		}
		switch f.Type {
		case "stdout", "stderr":
			if text.Len() < maxLine {
				text.WriteString(f.Data)
			}
		case "rpc":
			answer := map[string]any{}
			if value, err := tool(ctx, f.Tool, f.Arguments); err != nil {
				answer["error"] = err.Error()
			} else {
				answer["result"] = value
			}
			_, _ = stdin.Write(append(raw(answer), '\n')) // or it has ended, which is read next
		case "end":
			return f.Status, text.String()
		}
	}
	return status, text.String()
}

// command is podman's, with the flags of the original's README. The ulimits are podman's own where it may not raise them.
func (o Original) command(name, ipc string) []string {
	args := append([]string{}, o.Podman[1:]...)
	return append(
		args, "run", "--rm", "--interactive", "--name", name, "--network", "none", "--read-only", "--cap-drop", "ALL",
		"--security-opt", "no-new-privileges", "--memory", "512m", "--pids-limit", "128", "--user", "65534:65534",
		"--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=64m", "--tmpfs", "/workspace:rw,noexec,nosuid,nodev,size=128m", "--workdir", "/workspace",
		"--volume", ipc+":/ipc:ro", "--log-driver", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
		"--env", "MCP_AVAILABLE_SERVERS=bench", "--rootfs", o.Tree, o.Python, "-u", "/ipc/entrypoint.py",
	)
}
