package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// A bar is one line on a terminal that is written again and again; elsewhere, and where it is nil, it is silent. It is
// safe for concurrent use.
type bar struct {
	w     io.Writer // nil: no terminal
	width int       // of the terminal

	mu   sync.Mutex
	last int
}

func newBar(f *os.File) *bar {
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil // /dev/null is such a device too
	}
	b := &bar{w: f, width: int(size.Col)}
	if b.width == 0 {
		b.width = 80 // nobody has said
	}
	return b
}

const barWidth = 24

// image shows how far an image is.
func (b *bar) image(ref string, p rootfs.Progress) { b.show(describe(ref, p), p.Done, p.Total) }

func (b *bar) show(text string, done, total int64) {
	if b == nil {
		return
	}
	if total > 0 {
		full := int(min(done, total) * barWidth / total)
		text = "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] " + text
	}
	// A line that does not fit becomes two, of which only the last could be written again.
	if line := []rune(text); len(line) >= b.width {
		text = string(line[:b.width-1])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := len([]rune(text))
	fmt.Fprint(b.w, "\r"+text+strings.Repeat(" ", max(b.last-now, 0)))
	b.last = now
}

func (b *bar) clear() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last > 0 {
		fmt.Fprint(b.w, "\r"+strings.Repeat(" ", b.last)+"\r")
		b.last = 0
	}
}
