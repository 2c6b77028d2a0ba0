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
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A layerReader is the uncompressed tar stream of a layer blob. It hashes both sides while it is read and stops at the
// bounds. Decoding and hashing run in a goroutine of their own, one step ahead of whoever writes the files; that
// goroutine is the only one to touch the fields up to ahead until it has ended.
type layerReader struct {
	desc    ispec.Descriptor
	diffID  digest.Digest
	blob    *countReader // compressed side
	plain   *countReader // uncompressed side
	decoder func()       // frees what the decoder holds

	ahead *readAhead
}

var errBound = errors.New("it is over the bounds")

// newLayerReader makes a reader of a blob that may unpack to limit bytes.
func newLayerReader(blob io.Reader, desc ispec.Descriptor, diffID digest.Digest, limit int64) (*layerReader, error) {
	if err := checkLayerType(desc.MediaType); err != nil {
		return nil, err
	}
	if err := diffID.Validate(); err != nil {
		return nil, fmt.Errorf("its diff ID: %w", err)
	}
	l := &layerReader{desc: desc, diffID: diffID, decoder: func() {}}
	// One byte more than announced, so that a blob which is too long is seen.
	l.blob = &countReader{r: io.LimitReader(blob, desc.Size+1), hash: desc.Digest.Algorithm().Hash(), limit: desc.Size}
	br := bufio.NewReaderSize(l.blob, 256<<10)
	plain, err := l.decode(br)
	if err != nil {
		return nil, l.blame(err)
	}
	l.plain = &countReader{r: plain, hash: diffID.Algorithm().Hash(), limit: limit}
	l.ahead = startReadAhead(l.plain)
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

func (l *layerReader) Read(p []byte) (int, error) { return l.ahead.Read(p) }

func (l *layerReader) close() {
	l.ahead.stop()
	l.decoder()
}

// finish reads what apply left (padding), and compares sizes and digests. err is how apply ended.
func (l *layerReader) finish(ctx context.Context, err error) error {
	if err == nil {
		err = l.drain(ctx)
	}
	l.ahead.stop()
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return l.blame(err)
	}
	if err := l.checkBlob(); err != nil {
		return err
	}
	if d := l.plain.digest(l.diffID.Algorithm()); d != l.diffID {
		return fmt.Errorf("its uncompressed content has the digest %s, the config says %s", d, l.diffID)
	}
	return nil
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

// blame finds the cause of a stream that could not be read: if the blob is not the one that was asked for, that is it,
// and not what the decoder or the tar reader stumbled over.
func (l *layerReader) blame(err error) error {
	if errors.Is(err, errBound) {
		return err
	}
	damaged := errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		l.plain == nil || l.plain.err != nil && !errors.Is(l.plain.err, io.EOF)
	if !damaged {
		return err
	}
	if _, cerr := io.Copy(io.Discard, l.blob); cerr != nil && !errors.Is(cerr, errBound) {
		return err
	}
	if cerr := l.checkBlob(); cerr != nil {
		return cerr
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("its archive is cut short: %w", err)
	}
	return err
}

func (l *layerReader) checkBlob() error {
	if l.blob.n != l.desc.Size {
		if l.blob.n > l.desc.Size {
			return fmt.Errorf("it has more than %d bytes, as its descriptor says", l.desc.Size)
		}
		return fmt.Errorf("it is truncated: %d bytes, its descriptor says %d", l.blob.n, l.desc.Size)
	}
	if d := l.blob.digest(l.desc.Digest.Algorithm()); d != l.desc.Digest {
		return fmt.Errorf("its content has the digest %s", d)
	}
	return nil
}

// A countReader counts and hashes what passes, and fails above its limit. Its first error stays.
type countReader struct {
	r     io.Reader
	hash  hash.Hash
	n     int64
	limit int64
	err   error
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

func (c *countReader) digest(a digest.Algorithm) digest.Digest { return digest.NewDigest(a, c.hash) }

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
