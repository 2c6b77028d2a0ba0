package bridge

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// A stream of a script is kept up to maxStream bytes: the first half and the last, because what a script says first
// and what it says last are what matters. The rest is counted and named.
const maxStream = 1 << 20

// maxRead is how much is read at once: what a pipe holds.
const maxRead = 64 << 10

// capture keeps the output of one stream. The zero value is ready to use; it is not safe for concurrent use.
type capture struct {
	head, tail []byte
	total      int64
}

// add takes what comes next; p may be used again.
func (c *capture) add(p []byte) {
	c.total += int64(len(p))
	if room := maxStream/2 - len(c.head); room > 0 {
		k := min(room, len(p))
		c.head = append(c.head, p[:k]...)
		p = p[k:]
	}
	c.tail = append(c.tail, p...)
	// Let it grow to twice what is kept before moving, so that each byte is moved at most once.
	if len(c.tail) > maxStream {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-maxStream/2:]...)
	}
}

// cut says whether some of the stream is not kept.
func (c *capture) cut() bool { return c.total > maxStream }

// lines are the lines of the stream, with one in place of what was cut. A script could print that line as well;
// Result.Truncated is the word of the host.
func (c *capture) lines() []string {
	tail := c.tail
	if !c.cut() {
		return linesOf(append(c.head[:len(c.head):len(c.head)], tail...))
	}
	tail = tail[len(tail)-maxStream/2:]
	missing := c.total - int64(len(c.head)) - int64(len(tail))
	out := linesOf(c.head)
	out = append(out, fmt.Sprintf("[... %d bytes left out ...]", missing))
	return append(out, linesOf(tail)...)
}

// copyStream reads r to its end, which is never far: the other end dies with the sandbox. What it reads is kept in c
// and passed on to w, if that is not nil; when w fails (a closed pipe of "| head"), stop is called once. When r gets a
// deadline, what is in it is all there will be.
func copyStream(r *os.File, c *capture, w io.Writer, stop func(error)) {
	buf := make([]byte, 1<<10) // which is enough for most; a large one costs them the clearing of its pages
	read := r.Read
	for {
		n, err := read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = r.SetReadDeadline(time.Time{})
			read = func(b []byte) (int, error) { return readNow(r, b) }
			continue
		}
		if n > 0 {
			c.add(buf[:n])
			if w != nil {
				if _, werr := w.Write(buf[:n]); werr != nil {
					stop(werr)
					w = nil
				}
			}
			if n == len(buf) && n < maxRead {
				buf = make([]byte, min(8*n, maxRead))
			}
		}
		if err != nil {
			return
		}
	}
}

// readNow reads what is there; nothing is the end.
func readNow(f *os.File, b []byte) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	rerr := raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
				return true
			}
		}
	})
	if err = errors.Join(rerr, err); err != nil || n <= 0 {
		return 0, io.EOF
	}
	return n, nil
}
