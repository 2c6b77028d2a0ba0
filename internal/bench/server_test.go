package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// role makes the test binary play a server.
const role = "BENCH_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "echo":
		if err := ServeEcho(context.Background(), os.Stdin, os.Stdout, 2); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "mute":
		fmt.Fprintln(os.Stderr, "no words")
		os.Exit(3)
	case "long":
		fmt.Println(strings.Repeat("x", 2*maxLine))
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	os.Exit(0)
}

func play(t *testing.T, as string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), role+"="+as)
	return cmd
}

func TestEcho(t *testing.T) {
	c, err := connect(t.Context(), play(t, "echo"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			text := fmt.Sprintf("\"%d\"\n\u2028", i)
			r, err := c.call(t.Context(), "echo", raw(map[string]any{"text": text}))
			if err != nil || r.IsError || len(r.Content) != 1 || r.Content[0].Text != text {
				t.Errorf("%d: %+v, %v", i, r, err)
			}
		})
	}
	wg.Wait()
	if _, err := c.call(t.Context(), "shout", raw(map[string]any{})); err == nil {
		t.Error("a tool that is not there was called")
	}
	if r, err := c.call(t.Context(), "echo", json.RawMessage(`"x"`)); err != nil || !r.IsError {
		t.Errorf("bad arguments: %+v, %v", r, err)
	}
	if tools := c.ask(t.Context(), "tools/list", json.RawMessage(`{}`)); tools.err != nil || strings.Count(string(tools.result), `"inputSchema"`) != 3 || !strings.Contains(string(tools.result), `"echo"`) {
		t.Errorf("tools %s, %v", tools.result, tools.err)
	}
	if _, err := c.runPython(t.Context(), arguments("print(1)")); err == nil {
		t.Error("run_python works in a server that has none")
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if _, err := c.call(t.Context(), "echo", raw(map[string]any{"text": ""})); err == nil {
		t.Error("a server that has ended was called")
	}
}

// TestBadServers: nobody waits for what cannot come, and the reason is told.
func TestBadServers(t *testing.T) {
	for as, want := range map[string]string{"mute": "no words", "long": ""} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := connect(ctx, play(t, as))
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", as, err)
		}
		cancel()
	}
	if _, err := connect(t.Context(), exec.Command("/nowhere/at/all")); err == nil {
		t.Error("a program that is not there was started")
	}
}

// TestFrames: what the entrypoint sends, answered as the original does.
func TestFrames(t *testing.T) {
	sent := strings.Join([]string{
		`{"type":"stdout","data":"a"}`, `not JSON`, `{"type":"rpc","tool":"echo","arguments":{"text":"x"}}`,
		`{"type":"rpc","tool":"fail","arguments":{}}`, `{"type":"stderr","data":"b"}`, `{"type":"end","status":"success"}`, `{"type":"stdout","data":"c"}`,
	}, "\n") + "\n"
	var answers strings.Builder
	tool := func(_ context.Context, name string, arguments json.RawMessage) (string, error) {
		if name == "fail" {
			return "", fmt.Errorf("failed")
		}
		return string(arguments), nil
	}
	status, printed := Original{}.frames(t.Context(), strings.NewReader(sent), &answers, tool)
	if status != "success" || printed != "ab" {
		t.Errorf("status %q, printed %q", status, printed)
	}
	if want := `{"result":"{\"text\":\"x\"}"}` + "\n" + `{"error":"failed"}` + "\n"; answers.String() != want {
		t.Errorf("answers %s", &answers)
	}
	if status, _ := (Original{}).frames(t.Context(), strings.NewReader(`{"type":"stdout","data":"a"}`+"\n"), &answers, tool); status != "error" {
		t.Errorf("a container that just ends: %q", status)
	}
}
