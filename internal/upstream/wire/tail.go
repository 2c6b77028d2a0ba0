package wire

import (
	"bytes"
	"strings"
	"sync"
)

// maxTail is how much of what a server says to stderr is kept, and maxShown how much of that an error shows.
const (
	maxTail  = 8 << 10
	maxShown = 1 << 10
)

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(b) >= maxTail {
		t.last = append(t.last[:0], b[len(b)-maxTail:]...)
		return len(b), nil
	}
	if over := len(t.last) + len(b) - maxTail; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	t.last = append(t.last, b...)
	return len(b), nil
}

// String is what an error shows: whole lines if there are any.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := bytes.TrimSpace(t.last)
	if over := len(b) - maxShown; over > 0 {
		b = b[over:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 && i < len(b)/2 {
			b = b[i+1:]
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
