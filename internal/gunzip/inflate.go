package gunzip

import "encoding/binary"

// inflate unpacks a part of a block: to its end, to the end of the input that is there, or until there is a chunk.
//
// It works on copies of what it changes, so that the compiler keeps them in registers; and it asks for more input and for
// room once each time, for all that one turn may use: three literals, or a length and a distance.
func (r *Reader) inflate() error {
	r.in.ready()
	var (
		in, out  = r.in.buf, r.out.buf
		pos, at  = r.in.pos, r.out.end
		bitbuf   = r.in.bitbuf
		bitcnt   = r.in.bitcnt
		lens     = &r.huffman.lens
		dists    = &r.huffman.dists
		inLimit  = r.in.end - slack
		outLimit = r.out.given + chunk
		member   = r.out.member
		ended    = false
		err      error
	)
	if r.in.eof != nil {
		inLimit = r.in.end + 7 // zeros follow; if their bits are used, that is an overrun
	}
loop:
	for pos <= inLimit && at < outLimit {
		bitbuf |= binary.LittleEndian.Uint64(in[pos:]) << (bitcnt & 63)
		pos += int(63-bitcnt) >> 3
		bitcnt |= 56

		e := lens[bitbuf&(1<<lenBits-1)]
		if e&literal != 0 {
			bitbuf >>= e & 31
			bitcnt -= uint(e & 31)
			out[at] = byte(e >> 12)
			at++
			if e = lens[bitbuf&(1<<lenBits-1)]; e&literal != 0 {
				bitbuf >>= e & 31
				bitcnt -= uint(e & 31)
				out[at] = byte(e >> 12)
				at++
				if e = lens[bitbuf&(1<<lenBits-1)]; e&literal != 0 {
					bitbuf >>= e & 31
					bitcnt -= uint(e & 31)
					out[at] = byte(e >> 12)
					at++
					continue
				}
			}
		}
		if e&sub != 0 {
			e = lens[uint64(e.value())+bitbuf>>lenBits&(1<<e.extra()-1)]
		}
		bitbuf >>= e & 31
		bitcnt -= uint(e & 31)
		if e&literal != 0 {
			out[at] = byte(e >> 12)
			at++
			continue
		}
		if e&special != 0 {
			ended = e&end != 0
			if !ended {
				err = corrupt("no such code")
			}
			break
		}
		length := e.value() + int(bitbuf&(1<<e.extra()-1)) // at most 258
		bitbuf >>= e.extra()
		bitcnt -= e.extra()

		bitbuf |= binary.LittleEndian.Uint64(in[pos:]) << (bitcnt & 63)
		pos += int(63-bitcnt) >> 3
		bitcnt |= 56
		e = dists[bitbuf&(1<<distBits-1)]
		if e&special != 0 {
			if e&sub == 0 {
				err = corrupt("no such distance")
				break loop
			}
			e = dists[uint64(e.value())+bitbuf>>distBits&(1<<e.extra()-1)]
			if e&special != 0 {
				err = corrupt("no such distance")
				break loop
			}
		}
		bitbuf >>= e & 31
		bitcnt -= uint(e & 31)
		distance := e.value() + int(bitbuf&(1<<e.extra()-1)) // at most 32768
		bitbuf >>= e.extra()
		bitcnt -= e.extra()
		from := at - distance
		if from < member {
			err = corrupt("a distance to before its beginning")
			break
		}
		to := at + length
		if distance >= 16 && length <= 16 {
			// Most are short. What is written too much is written again.
			b := out[from : from+16]
			x, y := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
			b = out[at : at+16]
			binary.LittleEndian.PutUint64(b, x)
			binary.LittleEndian.PutUint64(b[8:], y)
			at = to
			continue
		}
		for at < to { // what was copied is a source too: the distance may be less than the length
			at += copy(out[at:to], out[from:at])
		}
	}
	r.in.pos, r.in.bitbuf, r.in.bitcnt = pos, bitbuf, bitcnt
	r.wrote(at - r.out.end)
	if short := r.in.check(); short != nil {
		return short
	}
	if ended {
		r.state = (*Reader).block
	}
	return err
}
