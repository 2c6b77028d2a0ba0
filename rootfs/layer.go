package rootfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// A layerReader is the uncompressed tar stream of a layer blob. It counts and hashes what it gives, and stops at the
// bounds. Decoding runs in a goroutine of its own, some steps ahead of whoever writes the files. That the blob is the one
// that was asked for is checked by who reads it from its source (feed.go).
type layerReader struct {
	plain   *countReader
	ahead   *readAhead
	decoder func() // frees what the decoder holds
}

// newLayerReader makes a reader of a blob that may unpack to limit bytes, whose hash is wanted.
func newLayerReader(blob io.Reader, algorithm digest.Algorithm, limit int64) (*layerReader, error) {
	l := &layerReader{decoder: func() {}}
	plain, err := l.decode(bufio.NewReaderSize(blob, 64<<10))
	if err != nil {
		return nil, damaged(err)
	}
	l.ahead = startReadAhead(plain)
	l.plain = newCountReader(l.ahead, algorithm, limit)
	return l, nil
}

func (l *layerReader) decode(br *bufio.Reader) (io.Reader, error) {
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(br)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// One goroutine: we have a pipeline of our own, and the decoder's would need twice the memory.
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
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
	l.ahead.stop()
	l.decoder()
}

// finish reads what the archive has behind its end (padding), and returns the digest of the whole. err is how unpacking
// it ended.
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
	return l.plain.digest(), nil
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

// A countReader counts and hashes what passes, and fails above its limit. Its first error stays.
type countReader struct {
	r         io.Reader
	algorithm digest.Algorithm
	hash      hash.Hash
	n         int64
	limit     int64
	err       error
}

func newCountReader(r io.Reader, algorithm digest.Algorithm, limit int64) *countReader {
	return &countReader{r: r, algorithm: algorithm, hash: algorithm.Hash(), limit: limit}
}

func (c *countReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	if c.n > c.limit {
		err = fmt.Errorf("%w: more than %d bytes", errBound, c.limit)
		n = 0
	}
	c.err = err
	return n, err
}

func (c *countReader) digest() digest.Digest { return digest.NewDigest(c.algorithm, c.hash) }

// A readAhead reads in a goroutine. stop ends it and waits for it.
type readAhead struct {
	full  chan chunk
	empty chan []byte
	quit  chan struct{}
	done  chan struct{}
	whole []byte // the buffer that rest is a part of
	rest  []byte
	err   error
}

type chunk struct {
	b   []byte
	err error
}

func startReadAhead(r io.Reader) *readAhead {
	const buffers, size = 4, 256 << 10
	a := &readAhead{
		full:  make(chan chunk, buffers),
		empty: make(chan []byte, buffers),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	for range buffers {
		a.empty <- make([]byte, size)
	}
	go func() {
		defer close(a.done)
		for {
			select {
			case <-a.quit:
				return
			case b := <-a.empty:
				n, err := 0, error(nil)
				for n < len(b) && err == nil {
					var m int
					m, err = r.Read(b[n:])
					n += m
				}
				a.full <- chunk{b[:n], err} // never blocks: there are as many places as buffers
				if err != nil {
					return
				}
			}
		}
	}()
	return a
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.whole != nil {
			a.empty <- a.whole[:cap(a.whole)]
			a.whole = nil
		}
		select {
		case c := <-a.full:
			a.whole, a.rest, a.err = c.b, c.b, c.err
		case <-a.quit:
			a.err = errors.New("internal error: read after stop")
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *readAhead) stop() {
	select {
	case <-a.quit:
	default:
		close(a.quit)
	}
	<-a.done
}
