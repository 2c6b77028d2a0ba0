package gunzip

import (
	"encoding/binary"
	"errors"
	"io"
)

// slack is more than the loop of inflate reads at once: twice 8 bytes, from up to 7 bytes behind the end on, whose bits
// may be pending.
const slack = 32

// An input is a stream that is read bit by bit, from the lowest bit of each byte on. Behind its end are slack zero bytes
// in the buffer, so that nobody has to look for it before each bit; who has used some of them finds out by overrun.
type input struct {
	r   io.Reader
	buf []byte // [pos:end] has been read and not used
	pos int
	end int
	eof error // what r ended with

	bitbuf uint64 // the lowest bitcnt bits are of bytes before pos; those above are zero, or of the bytes behind
	bitcnt uint
}

func newInput(r io.Reader) input { return input{r: r, buf: make([]byte, 64<<10+slack)} }

// rest is what has been read. No bits may be pending.
func (in *input) rest() []byte { return in.buf[in.pos:in.end] }

// need reads until n bytes are there. err is io.ErrUnexpectedEOF if there are no more, or the stream's own.
func (in *input) need(n int) error {
	if in.end-in.pos >= n {
		return nil
	}
	from := max(in.pos-8, 0) // what align may go back to
	in.end = copy(in.buf, in.buf[from:in.end])
	in.pos -= from
	for idle := 0; in.end-in.pos < n && in.eof == nil; idle++ {
		m, err := in.r.Read(in.buf[in.end : len(in.buf)-slack])
		in.end += m
		if m > 0 {
			idle = 0
		} else if err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		in.eof = err
	}
	clear(in.buf[in.end : in.end+slack])
	switch {
	case in.end-in.pos >= n:
		return nil
	case errors.Is(in.eof, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return in.eof
}

// take returns the next n bytes, until the next call. No bits may be pending.
func (in *input) take(n int) ([]byte, error) {
	if err := in.need(n); err != nil {
		return nil, err
	}
	b := in.buf[in.pos : in.pos+n]
	in.pos += n
	return b, nil
}

// ready sees to it that slack bytes can be read: of the stream, or behind its end.
func (in *input) ready() { _ = in.need(slack) } // who needs what is missing finds out by check

// overrun says if bits from behind the end have been used.
func (in *input) overrun() bool { return in.pos-int(in.bitcnt/8) > in.end }

// refill makes at least 56 bits pending. ready has been called.
func (in *input) refill() {
	in.bitbuf |= binary.LittleEndian.Uint64(in.buf[in.pos:]) << in.bitcnt
	in.pos += int((63 - in.bitcnt) / 8)
	in.bitcnt |= 56
}

// bits returns the next n bits, at most 32.
func (in *input) bits(n uint) (uint32, error) {
	if in.bitcnt < n {
		in.ready()
		in.refill()
	}
	v := uint32(in.bitbuf & (1<<n - 1))
	in.bitbuf >>= n
	in.bitcnt -= n
	return v, in.check()
}

// check is the error of an overrun.
func (in *input) check() error {
	if !in.overrun() {
		return nil
	}
	if in.eof != nil && !errors.Is(in.eof, io.EOF) {
		return in.eof
	}
	return io.ErrUnexpectedEOF
}

// align goes to the next whole byte.
func (in *input) align() {
	in.pos -= int(in.bitcnt / 8)
	in.bitbuf, in.bitcnt = 0, 0
}

const (
	window = 32 << 10 // how far back a distance goes
	chunk  = 64 << 10 // what is unpacked before it is given out
	match  = 258      // the longest
)

// An output is what has been unpacked: the window, and what has not been given out yet.
type output struct {
	buf    []byte
	given  int // [given:end] has not been given out
	sum    int // [sum:end] is not in the checksum yet
	end    int
	member int // where the member began, or the window if that is later; -1: none has
}

// newOutput leaves room for one match more than a chunk, and for one that is copied by the word.
func newOutput() output {
	return output{buf: make([]byte, 4*chunk+window+match+slack), member: -1}
}

// slide makes room for a chunk. All has been given out.
func (o *output) slide() {
	if o.end+chunk+match+slack <= len(o.buf) {
		return
	}
	from := max(o.end-window, 0)
	copy(o.buf, o.buf[from:o.end])
	if o.member >= 0 {
		o.member = max(o.member-from, 0)
	}
	o.end -= from
	o.given, o.sum = o.end, o.end
}
