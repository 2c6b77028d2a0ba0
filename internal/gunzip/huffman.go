package gunzip

import "math/bits"

// An entry of a table says what a code means:
//
//	bits 0-4    how long the code is
//	bits 8-11   how many extra bits follow it; of a subtable: the bits that it is looked up by
//	bits 12-27  the literal, the length or distance without its extra bits, or where the subtable begins
//	bits 28-31  the flags
type entry uint32

const (
	literal entry = 1 << 31
	special entry = 1 << 30 // one of the following
	sub     entry = 1 << 29
	end     entry = 1 << 28 // of the block; special without sub or end: no code
)

func (e entry) length() uint { return uint(e & 31) }
func (e entry) extra() uint  { return uint(e >> 8 & 15) }
func (e entry) value() int   { return int(e >> 12 & 0xffff) }

const (
	maxCode  = 15 // bits of a code
	lenBits  = 10 // by which codes of literals and lengths are looked up; longer ones go on in a subtable
	distBits = 8
	headBits = 7 // the longest code that describes the other two
	maxLens  = 286
	maxDists = 30

	// A subtable has at least two codes, and as many entries as the longest code needs.
	lenTable  = 1<<lenBits + maxLens/2<<(maxCode-lenBits)
	distTable = 1<<distBits + maxDists/2<<(maxCode-distBits)
)

// huffman has the codes of a block.
type huffman struct {
	lens  [lenTable]entry
	dists [distTable]entry
	head  [1 << headBits]entry
	fixed bool // lens and dists are those of RFC 1951, 3.2.6
}

// What the symbols mean: RFC 1951, 3.2.5.
var (
	lenBase   = [...]int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lenExtra  = [...]int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase  = [...]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra = [...]int{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	headOrder = [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

func lenEntry(symbol int) entry {
	switch i := symbol - 257; {
	case i < -1:
		return literal | entry(symbol)<<12
	case i == -1:
		return special | end
	case i < len(lenBase):
		return entry(lenBase[i])<<12 | entry(lenExtra[i])<<8
	}
	return special
}

func distEntry(symbol int) entry {
	if symbol < len(distBase) {
		return entry(distBase[symbol])<<12 | entry(distExtra[symbol])<<8
	}
	return special
}

func headEntry(symbol int) entry { return entry(symbol) << 12 }

// build makes the table of a canonical code (RFC 1951, 3.2.2), which is looked up by its first bits. False says that
// there is no such code: one that is too full, or not full. As in compress/gzip, no code at all will do as long as it is
// not used, and so will one of a single bit.
func build(table []entry, first uint, lengths []uint8, meaning func(symbol int) entry) bool {
	var count, next [maxCode + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	code, longest := 0, 0
	for n := 1; n <= maxCode; n++ {
		code = (code + count[n-1]) << 1
		next[n] = code
		if count[n] > 0 {
			longest = n
		}
		if code+count[n] > 1<<n {
			return false
		}
	}
	full := longest == 0 || next[longest]+count[longest] == 1<<longest
	if !full && (longest != 1 || count[1] != 1) {
		return false
	}
	for i := range table[:1<<first] {
		table[i] = special
	}
	free := 1 << first // where the next subtable begins
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		// Codes come with their first bit first, which is the lowest here.
		code := uint(bits.Reverse16(uint16(next[n]))) >> (16 - n) // at most 15 bits
		next[n]++
		e := meaning(symbol) | entry(n)
		if uint(n) <= first {
			for i := code; i < 1<<first; i += 1 << n {
				table[i] = e
			}
			continue
		}
		head := &table[code&(1<<first-1)]
		more := uint(longest) - first // positive: n is longer
		if *head == special {
			*head = special | sub | entry(free)<<12 | entry(more)<<8
			free += 1 << more
		}
		for i := code >> first; i < 1<<more; i += 1 << (uint(n) - first) {
			table[head.value()+int(i)] = e
		}
	}
	return true
}

func (h *huffman) setFixed() {
	if h.fixed {
		return
	}
	var lens [288]uint8
	for i := range lens {
		switch {
		case i < 144, i >= 280:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		default:
			lens[i] = 7
		}
	}
	var dists [32]uint8
	for i := range dists {
		dists[i] = 5
	}
	build(h.lens[:], lenBits, lens[:], lenEntry)
	build(h.dists[:], distBits, dists[:], distEntry)
	h.fixed = true
}

// read reads the codes of a block that brings its own (RFC 1951, 3.2.7).
func (h *huffman) read(in *input) error {
	h.fixed = false
	counts, err := in.bits(14)
	if err != nil {
		return err
	}
	nlen, ndist, nhead := int(counts&31)+257, int(counts>>5&31)+1, int(counts>>10)+4
	if nlen > maxLens || ndist > maxDists {
		return corrupt("a block with too many codes")
	}
	var heads [19]uint8
	for _, symbol := range headOrder[:nhead] {
		n, err := in.bits(3)
		if err != nil {
			return err
		}
		heads[symbol] = uint8(n)
	}
	if !build(h.head[:], headBits, heads[:], headEntry) {
		return corrupt("a block with an impossible code of codes")
	}
	var lengths [maxLens + maxDists]uint8
	for i := 0; i < nlen+ndist; {
		in.ready()
		in.refill()
		e := h.head[in.bitbuf&(1<<headBits-1)]
		if e&special != 0 {
			if err := in.check(); err != nil {
				return err
			}
			return corrupt("a block with a length of a code that is none")
		}
		if _, err := in.bits(e.length()); err != nil {
			return err
		}
		value, repeat, extra := uint8(e.value()), 1, uint(0) // below 19
		switch value {
		case 16:
			if i == 0 {
				return corrupt("a block that repeats what is not there")
			}
			value, repeat, extra = lengths[i-1], 3, 2
		case 17:
			value, repeat, extra = 0, 3, 3
		case 18:
			value, repeat, extra = 0, 11, 7
		}
		n, err := in.bits(extra)
		if err != nil {
			return err
		}
		repeat += int(n)
		if i+repeat > nlen+ndist {
			return corrupt("a block that repeats more than there is")
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	if !build(h.lens[:], lenBits, lengths[:nlen], lenEntry) || !build(h.dists[:], distBits, lengths[nlen:nlen+ndist], distEntry) {
		return corrupt("a block with an impossible code")
	}
	return nil
}
