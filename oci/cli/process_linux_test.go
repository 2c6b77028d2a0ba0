package cli

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestProcess: who has ended is not killed, for its number may be another process group's. Here it is still that of one that it
// has left behind, which shows.
func TestProcess(t *testing.T) {
	var out bytes.Buffer
	c := &process{Cmd: exec.Command("/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")}
	c.SysProcAttr, c.Stdout = &syscall.SysProcAttr{Setpgid: true}, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		t.Fatal(err)
	}
	c.kill()
	left, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	state, _ := os.ReadFile("/proc/" + strconv.Itoa(left) + "/stat")
	if f := strings.Fields(string(state)); len(f) < 3 || f[2] == "Z" {
		t.Errorf("a process of the group is %q", state)
	}
	_ = syscall.Kill(left, syscall.SIGKILL)

	c = &process{Cmd: exec.Command("/bin/sleep", "60")}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.kill()
	if err := c.wait(); err == nil {
		t.Error("one that was killed has ended well")
	}
}
