package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// A tarEntry is an entry of an archive, as it was found.
type tarEntry struct {
	item
	name string // what the archive calls it
}

// eachItem calls add for every entry of the tar stream r, after it has been charged. The content of one for which add calls
// files.create becomes that file's. A goroutine parses some entries ahead.
func eachItem(ctx context.Context, r io.Reader, q *quota, files *fileWriter, add func(it item) error) error {
	p := parser{r: tar.NewReader(r), empty: files.empty, parsed: make(chan *batch, batches), quit: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })
	defer func() {
		close(p.quit)
		running.Wait()
		for len(p.parsed) > 0 {
			b := <-p.parsed
			b.reset()
			files.empty <- b
		}
		files.abandon()
	}()
	for {
		b := <-p.parsed
		end := b.err
		err := files.apply(b, func(e tarEntry) error {
			// Before anything else: a header can declare a terabyte of nothing (a sparse file).
			if err := q.charge(e.size); err != nil {
				return err
			}
			if e.typ == tar.TypeXGlobalHeader {
				return nil
			}
			return add(e.item)
		})
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = end
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A parser finds the entries of an archive.
type parser struct {
	r      *tar.Reader
	empty  chan *batch
	parsed chan *batch // as many places as batches: sending never blocks
	quit   chan struct{}

	now *batch
	err error
}

// run parses all of the archive. Its last batch says how it ended, unless it has been told to quit.
func (p *parser) run(ctx context.Context) {
	for n := 0; p.err == nil; n++ {
		p.next(ctx, n)
	}
	if p.room() != nil {
		p.now.err = p.err
		p.parsed <- p.now
	}
}

func (p *parser) next(ctx context.Context, n int) {
	if p.err = ctx.Err(); p.err != nil {
		return
	}
	hdr, err := p.r.Next()
	if err != nil {
		if p.err = err; !errors.Is(err, io.EOF) {
			p.err = fmt.Errorf("cannot read its archive after %d entries: %w", n, err)
		}
		return
	}
	// Nobody has bounded them yet: a name can have a megabyte, of which an error shows less.
	e := tarEntry{item: item{typ: hdr.Typeflag}, name: strings.Clone(hdr.Name[:min(len(hdr.Name), maxPath)])}
	if hdr.Typeflag != tar.TypeXGlobalHeader {
		if e.item, err = newItem(hdr); err != nil {
			p.err = entryError(e.name, err)
			return
		}
	}
	for left, first := e.size, true; ; first = false {
		room := p.room()
		if room == nil {
			return
		}
		n, err := io.ReadFull(p.r, room[:min(left, int64(len(room)))])
		left -= int64(n)
		if err != nil {
			p.err = entryError(e.name, fmt.Errorf("cannot read its content: %w", noEOF(err)))
		}
		last := left == 0 || err != nil
		p.now.b = p.now.b[:len(p.now.b)+n]
		p.now.parts = append(p.now.parts, part{tarEntry: e, first: first, last: last, size: n})
		if last {
			return
		}
	}
}

// room is where the next part goes: nil if it shall not come any more.
func (p *parser) room() []byte {
	if p.now != nil && (len(p.now.b) == cap(p.now.b) || len(p.now.parts) >= batchParts) {
		p.parsed <- p.now
		p.now = nil
	}
	if p.now == nil {
		select {
		case p.now = <-p.empty:
		case <-p.quit:
			p.err = errors.New("internal error: told to quit")
			return nil
		}
		if p.now.b == nil {
			p.now.b = make([]byte, 0, chunkSize)
		}
	}
	return p.now.b[len(p.now.b):cap(p.now.b)]
}
