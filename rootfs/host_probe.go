package rootfs

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed probe.py
var probeScript string

// probeTimeout is for an interpreter that hangs; importing every extension module takes 0.3 s.
const probeTimeout = 30 * time.Second

// A hostPython is what an interpreter said about itself.
type hostPython struct {
	Executable string   `json:"executable"`
	Version    [3]int   `json:"version"`
	Prefix     string   `json:"prefix"`
	Stdlib     []string `json:"stdlib"`
	Dynload    []string `json:"dynload"`
	Zip        []string `json:"zip"`
	CacheTag   string   `json:"cacheTag"`
	Libs       []string `json:"libs"`
}

// probeHost asks python3, and if that is not there or too old the newest python3.x. Only the interpreter itself knows
// which one is behind a shim or a virtual environment.
func probeHost(ctx context.Context) (hostPython, error) {
	names := []string{"python3"}
	for minor := 30; minor >= minMinor; minor-- {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	var why string
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		p, err := probe(ctx, path)
		if ctx.Err() != nil {
			return p, ctx.Err()
		}
		if err == nil && (p.Version[0] != 3 || p.Version[1] < minMinor) {
			err = fmt.Errorf("it is %d.%d", p.Version[0], p.Version[1])
		}
		if err == nil {
			return p, nil
		}
		why += fmt.Sprintf("; %s: %v", path, err)
	}
	return hostPython{}, fmt.Errorf("cannot make a snapshot of this machine's Python: %w on PATH%s", ErrNoPython, why)
}

func probe(ctx context.Context, python string) (hostPython, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-I", "-S", "-c", probeScript)
	stdout, stderr := &bounded{max: maxProbe}, &bounded{max: 2048, drop: true}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return hostPython{}, fmt.Errorf("cannot run it: %w: %s", err, strings.TrimSpace(stderr.buf.String()))
	}
	// Behind the mark: importing readline prints an escape sequence on some terminals.
	_, answer, ok := strings.Cut(stdout.buf.String(), "mcp-bridge-probe:")
	var p hostPython
	if !ok || json.Unmarshal([]byte(answer), &p) != nil {
		return p, errors.New("it does not answer as Python does")
	}
	for _, path := range append([]string{p.Executable, p.Prefix}, p.Stdlib...) {
		if !filepath.IsAbs(path) {
			return p, fmt.Errorf("it says that it is at %q", path)
		}
	}
	return p, nil
}

// bounded keeps the first max bytes of what a program writes; more is dropped, or an error that ends the program. The
// buffer is not embedded: its ReadFrom would take the place of Write.
type bounded struct {
	buf        bytes.Buffer
	max        int
	drop, over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.max - b.buf.Len()
	if len(p) > room && !b.drop {
		b.over = true
		return 0, fmt.Errorf("more than %d bytes", b.max)
	}
	b.buf.Write(p[:min(len(p), room)])
	return len(p), nil
}
