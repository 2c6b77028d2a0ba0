package wire

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestRetry: a server may ask for a pause, within bounds.
func TestRetry(t *testing.T) {
	for asked, want := range map[string]time.Duration{"0": minRetry, "1": minRetry, "1000": time.Second, "999999999999": time.Minute, "-1": 0, "soon": 0} {
		r := newEventReader(strings.NewReader("retry: " + asked + "\ndata: x\n\n"))
		if _, err := r.next(); err != nil || r.retry != want {
			t.Errorf("%s: %v, %v; want %v", asked, r.retry, err, want)
		}
	}
}

// TestLineEnds: lines may end in three ways, mixed, and a stream may begin with a byte order mark.
func TestLineEnds(t *testing.T) {
	for _, text := range []string{
		"id: 1\ndata: a\ndata: b\n\ndata: c\n\n",
		"id: 1\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n",
		"id: 1\rdata: a\rdata: b\r\rdata: c\r\r",
		"\ufeffid: 1\rdata: a\r\ndata: b\n\r\ndata: c\n\r",
	} {
		for name, reader := range map[string]io.Reader{"at once": strings.NewReader(text), "by bytes": iotest.OneByteReader(strings.NewReader(text))} {
			r := newEventReader(reader)
			first, err := r.next()
			if err != nil || string(first.data) != "a\nb" || r.lastID != "1" {
				t.Errorf("%q, %s: %q, %v", text, name, first, err)
			}
			if second, err := r.next(); err != nil || string(second.data) != "c" {
				t.Errorf("%q, %s: %q, %v", text, name, second, err)
			}
		}
	}
}

// TestCarriageReturnAtOnce: an event whose last line ends with CR is not held until more comes.
func TestCarriageReturnAtOnce(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	go func() { _, _ = io.WriteString(out, "data: a\r\r") }()
	if e, err := newEventReader(in).next(); err != nil || string(e.data) != "a" {
		t.Errorf("%q, %v", e, err)
	}
}
