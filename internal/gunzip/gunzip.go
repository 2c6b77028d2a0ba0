// Package gunzip reads gzip streams (RFC 1952) about twice as fast as compress/gzip: most of the time of pulling an
// image goes into that, and one layer can be read by one processor only. It knows nothing of headers but how to skip
// them. It accepts what compress/gzip accepts, which the fuzz test compares it with.
package gunzip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrCorrupt says that a stream is no gzip stream, or is damaged. One that is cut short ends with io.ErrUnexpectedEOF.
var ErrCorrupt = errors.New("corrupt gzip stream")

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

// A Reader gives what a gzip stream of any number of members unpacks to. It is not safe for concurrent use.
type Reader struct {
	in  input
	out output

	huffman huffman
	state   func(*Reader) error // what comes next
	stored  int                 // bytes that a stored block still has
	last    bool                // it is the last block of its member
	size    uint32              // of the member, modulo 2^32
	crc     uint32
	err     error // what reading ended with, said when all before it has been given out
}

// NewReader makes a reader of a gzip stream. It reads more of r than it needs, and the first byte when it is first read.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: newInput(r), out: newOutput(), state: (*Reader).header}
}

func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.out.given == r.out.end {
		if r.err != nil {
			return 0, r.err
		}
		r.out.slide()
		for r.err == nil && r.out.end-r.out.given < chunk {
			r.err = r.state(r)
		}
		// Even if it failed: what came before was right.
		fresh := r.out.buf[r.out.sum:r.out.end]
		r.crc = crc32.Update(r.crc, crc32.IEEETable, fresh)
		r.out.sum = r.out.end
	}
	n := copy(p, r.out.buf[r.out.given:r.out.end])
	r.out.given += n
	return n, nil
}

// Flags of a header.
const (
	flagCRC = 1 << (iota + 1)
	flagExtra
	flagName
	flagComment
)

// maxText is how long a name or a comment may be, as in compress/gzip.
const maxText = 512

// header skips the header of a member. The stream ends where another one could begin.
func (r *Reader) header() error {
	if err := r.in.need(1); errors.Is(err, io.ErrUnexpectedEOF) && r.out.member >= 0 {
		return io.EOF
	}
	b, err := r.in.take(10)
	if err != nil {
		return err
	}
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 {
		return corrupt("no gzip header")
	}
	flags := b[3]
	sum := crc32.ChecksumIEEE(b)
	skip := func(n int) ([]byte, error) {
		b, err := r.in.take(n)
		sum = crc32.Update(sum, crc32.IEEETable, b)
		return b, err
	}
	if flags&flagExtra != 0 {
		if b, err = skip(2); err != nil {
			return err
		}
		for n := int(binary.LittleEndian.Uint16(b)); n > 0; {
			if b, err = skip(min(n, 1024)); err != nil {
				return err
			}
			n -= len(b)
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		for n := 0; flags&flag != 0; n++ {
			if b, err = skip(1); err != nil {
				return err
			}
			if b[0] == 0 {
				break
			}
			if n+1 >= maxText {
				return corrupt("a text in its header is too long")
			}
		}
	}
	if flags&flagCRC != 0 {
		if b, err = r.in.take(2); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(b) != uint16(sum) { // the lower half
			return corrupt("a header with another checksum")
		}
	}
	r.out.member = r.out.end
	r.out.sum, r.crc, r.size = r.out.end, 0, 0
	r.state = (*Reader).block
	return nil
}

// trailer compares what the member was to unpack to.
func (r *Reader) trailer() error {
	r.in.align()
	b, err := r.in.take(8)
	if err != nil {
		return err
	}
	r.crc = crc32.Update(r.crc, crc32.IEEETable, r.out.buf[r.out.sum:r.out.end])
	if binary.LittleEndian.Uint32(b) != r.crc || binary.LittleEndian.Uint32(b[4:]) != r.size {
		return corrupt("another checksum or length")
	}
	r.out.sum, r.state = r.out.end, (*Reader).header
	return nil
}

// block reads the head of a block (RFC 1951, 3.2.3).
func (r *Reader) block() error {
	if r.last {
		r.last, r.state = false, (*Reader).trailer
		return nil
	}
	head, err := r.in.bits(3)
	if err != nil {
		return err
	}
	r.last = head&1 != 0
	switch head >> 1 {
	case 0:
		r.in.align()
		b, err := r.in.take(4)
		if err != nil {
			return err
		}
		n := binary.LittleEndian.Uint16(b)
		if n != ^binary.LittleEndian.Uint16(b[2:]) {
			return corrupt("a block with two lengths")
		}
		r.stored, r.state = int(n), (*Reader).copyStored
	case 1:
		r.huffman.setFixed()
		r.state = (*Reader).inflate
	case 2:
		if err := r.huffman.read(&r.in); err != nil {
			return err
		}
		r.state = (*Reader).inflate
	default:
		return corrupt("a block of unknown type")
	}
	return nil
}

// copyStored gives out a part of a stored block.
func (r *Reader) copyStored() error {
	if r.stored == 0 {
		r.state = (*Reader).block
		return nil
	}
	if err := r.in.need(1); err != nil {
		return err
	}
	n := copy(r.out.buf[r.out.end:min(r.out.end+r.stored, len(r.out.buf))], r.in.rest())
	r.in.pos += n
	r.stored -= n
	r.wrote(n)
	return nil
}

func (r *Reader) wrote(n int) {
	r.out.end += n
	r.size += uint32(n) // modulo 2^32
}
