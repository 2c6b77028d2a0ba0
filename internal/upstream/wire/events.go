package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// An event of a stream of server-sent events.
type event struct {
	name string
	data []byte
}

// minRetry is the least pause between two streams of a server, whatever it asks for.
const minRetry = 250 * time.Millisecond

// An eventReader reads server-sent events. It remembers what a stream that is resumed needs.
type eventReader struct {
	lines  *bufio.Reader
	begun  bool // something has been read
	lastID string
	retry  time.Duration // what the server asked for, 0 if it did not
}

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{lines: bufio.NewReaderSize(&newlines{r: r}, 32<<10)}
}

var byteOrderMark = []byte("\ufeff")

// newlines makes all ends of lines that server-sent events may have "\n": CR LF, LF, or CR alone, which must not wait for
// what comes behind it (WHATWG HTML, 9.2.6).
type newlines struct {
	r  io.Reader
	cr bool // the last byte was a CR
}

func (l *newlines) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	kept := p[:0]
	for _, c := range p[:n] {
		if c != '\n' || !l.cr {
			kept = append(kept, c)
		}
		if l.cr = c == '\r'; l.cr {
			kept[len(kept)-1] = '\n'
		}
	}
	return len(kept), err
}

// next reads one event that has data.
func (r *eventReader) next() (event, error) {
	var e event
	size := 0
	for {
		line, err := r.line(maxMessage - size)
		if err != nil {
			return event{}, err // an event that is cut off does not count
		}
		size += len(line)
		if !r.begun {
			line, r.begun = bytes.TrimPrefix(line, byteOrderMark), true
		}
		if len(line) == 0 {
			if e.data != nil {
				return e, nil
			}
			e, size = event{}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if e.data == nil {
				e.data = append([]byte{}, value...)
			} else {
				e.data = append(append(e.data, '\n'), value...)
			}
		case "event":
			e.name = string(value)
		case "id":
			r.lastID = string(value)
		case "retry":
			if ms, err := strconv.Atoi(string(value)); err == nil && ms >= 0 {
				r.retry = max(minRetry, time.Duration(min(ms, 60_000))*time.Millisecond)
			}
		}
	}
}

// line reads one without its end.
func (r *eventReader) line(limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.lines.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, fmt.Errorf("an event is longer than %d MiB", maxMessage>>20)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return line[:len(line)-1], nil
	}
}
