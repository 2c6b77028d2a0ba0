package rootfs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/mcp-bridge/mcp-bridge/internal/gunzip"
)

// A layerReader is the uncompressed tar stream of a layer blob. It counts what it gives, hashes it unless the blob's own
// hash is the same, and stops at the bounds. Decoding and hashing run in a goroutine each, some steps ahead of whoever
// writes the files: an image of one layer keeps two processors busy too. That the blob is the one that was asked for is
// checked by who reads it from its source (feed.go).
type layerReader struct {
	plain   *readAhead
	hash    *hashStage
	decoder func() // frees what the decoder holds
}

// newLayerReader makes a reader of a blob that may unpack to limit bytes.
func newLayerReader(blob io.Reader, is jobLayer, limit int64) (*layerReader, error) {
	l := &layerReader{decoder: func() {}}
	br := bufio.NewReaderSize(blob, chunkSize)
	plain, err := l.decode(br)
	if err != nil {
		return nil, damaged(err)
	}
	l.hash = &hashStage{algorithm: is.Algorithm, left: limit, limit: limit}
	if plain != br || is.Blob != is.Algorithm {
		l.hash.hash = is.Algorithm.Hash()
	}
	l.plain = startReadAhead(plain, l.hash.see)
	return l, nil
}

func (l *layerReader) decode(br *bufio.Reader) (io.Reader, error) {
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch compression(magic) {
	case "gzip":
		return gunzip.NewReader(br), nil
	case "zstd":
		// One goroutine: we have a pipeline of our own, and the decoder's would need twice the memory. No checksums:
		// all of it is hashed anyway.
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.IgnoreChecksum(true))
		if err != nil {
			return nil, err
		}
		l.decoder = z.Close
		return z, nil
	}
	return br, nil
}

func (l *layerReader) Read(p []byte) (int, error) { return l.plain.Read(p) }

func (l *layerReader) close() {
	l.plain.stop()
	l.decoder()
}

// finish reads what the archive has behind its end (padding), and returns the digest of the whole, or "" if that is the
// blob's own. err is how unpacking it ended.
func (l *layerReader) finish(ctx context.Context, err error) (digest.Digest, error) {
	if err == nil {
		err = l.drain(ctx)
	}
	if err != nil {
		// A reader that fails, or an archive that is none: perhaps the blob is not the one that was asked for.
		if readErr := l.plain.err; readErr != nil && !errors.Is(readErr, io.EOF) && !errors.Is(readErr, errBound) ||
			errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = damaged(err)
		}
		return "", err
	}
	if l.hash.hash == nil {
		return "", nil
	}
	return digest.NewDigest(l.hash.algorithm, l.hash.hash), nil
}

func (l *layerReader) drain(ctx context.Context) error {
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := l.Read(buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// errDamaged marks errors that a wrong blob would explain.
var errDamaged = errors.New("it is damaged")

func damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("its archive is cut short: %w", noEOF(err))
	}
	return &damagedError{err}
}

// A damagedError is errDamaged without its words.
type damagedError struct{ err error }

func (e *damagedError) Error() string        { return e.err.Error() }
func (e *damagedError) Unwrap() error        { return e.err }
func (e *damagedError) Is(target error) bool { return target == errDamaged }

// A countReader counts and hashes what passes. Its first error stays.
type countReader struct {
	r        io.Reader
	digester digest.Digester
	n        int64
	err      error
}

func (c *countReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.digester.Hash().Write(p[:n])
	c.err = err
	return n, err
}

// A hashStage counts and hashes what is decoded, and fails above its limit.
type hashStage struct {
	algorithm digest.Algorithm
	hash      hash.Hash // nil for what whoever sends the blob hashes
	left      int64
	limit     int64
}

func (h *hashStage) see(c chunk) chunk {
	if h.left -= int64(len(c.b)); h.left < 0 {
		return chunk{c.b[:0], fmt.Errorf("%w: more than %d bytes", errBound, h.limit)}
	}
	if h.hash != nil {
		h.hash.Write(c.b)
	}
	return c
}

// A readAhead reads in a goroutine, and shows what it has read to another one before it gives it out. stop ends both and
// waits for them.
type readAhead struct {
	read, seen chan chunk
	empty      chan []byte
	quit       chan struct{}
	running    sync.WaitGroup

	now chunk  // its b is what Read has not given out yet
	all []byte // the buffer that it is a part of
	err error  // what Read has said
}

// A chunk is what was read, and how reading ended.
type chunk struct {
	b   []byte
	err error
}

// chunkSize is large enough that handing one over costs nothing. There is a chunk for each of the three that work on one, and
// one that waits, so that the caches of a processor hold them all: 8 MB of them took 7 % longer for an image where memory was
// slow.
const (
	chunkSize = 256 << 10
	chunks    = 4
)

// startReadAhead reads into chunks, which are made when they are needed first.
func startReadAhead(r io.Reader, see func(chunk) chunk) *readAhead {
	a := &readAhead{
		read:  make(chan chunk, chunks), // as many places as chunks: sending never blocks
		seen:  make(chan chunk, chunks),
		empty: make(chan []byte, chunks),
		quit:  make(chan struct{}),
	}
	for range chunks {
		a.empty <- nil
	}
	a.running.Go(func() {
		for {
			select {
			case <-a.quit:
				return
			case b := <-a.empty:
				if b == nil {
					b = make([]byte, chunkSize)
				}
				c := fill(r, b)
				a.read <- c
				if c.err != nil {
					return
				}
			}
		}
	})
	a.running.Go(func() {
		for {
			select {
			case <-a.quit:
				return
			case c := <-a.read:
				c = see(c)
				a.seen <- c
				if c.err != nil {
					return
				}
			}
		}
	})
	return a
}

func fill(r io.Reader, b []byte) chunk {
	n, err := 0, error(nil)
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return chunk{b[:n], err}
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.now.b) == 0 {
		if a.err = a.now.err; a.err != nil {
			return 0, a.err
		}
		if a.all != nil {
			a.empty <- a.all[:cap(a.all)]
			a.all = nil
		}
		select {
		case a.now = <-a.seen:
			a.all = a.now.b
		case <-a.quit:
			a.now.err = errors.New("internal error: read after stop")
		}
	}
	n := copy(p, a.now.b)
	a.now.b = a.now.b[n:]
	return n, nil
}

func (a *readAhead) stop() {
	select {
	case <-a.quit:
	default:
		close(a.quit)
	}
	a.running.Wait()
}
