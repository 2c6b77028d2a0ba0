package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
)

// A download is a blob of a registry. A broken connection is mended: first by containers/image, which asks for the
// rest with a Range; where the registry knows no ranges, by us, who read from the start and skip what we have. What
// it all adds up to is verified by whoever reads it, as always.
type download struct {
	ctx  context.Context // of one call of GetBlob, as in net/http's body
	from *registrySource
	info types.BlobInfo

	body io.ReadCloser // nil: not connected
	bctx context.Context
	dog  *watchdog
	at   int64 // bytes that were delivered

	failures int   // in a row
	mark     int64 // at, when failures began
	err      error // stays
}

// enoughProgress is what has to arrive before failures are forgiven: a registry that sends one byte each time would
// keep us for ever.
const enoughProgress = 1 << 20

// begin connects, and returns the size that the registry announces.
func (d *download) begin() (size int64, err error) {
	err = d.from.patience.try(d.ctx, func() error {
		size, err = d.connect()
		return err
	})
	return size, d.explain(err)
}

func (d *download) connect() (int64, error) {
	d.bctx, d.dog = d.from.patience.watch(d.ctx)
	body, size, err := d.from.ImageSource.GetBlob(d.dog.traced(d.bctx, d.from.endpoint.insecure), d.info, none.NoCache)
	d.dog.sleep()
	if err != nil {
		err = d.dog.blame(d.bctx, err)
		d.dog.end()
		return 0, err
	}
	d.body = body
	return size, nil
}

// reconnect skips what has been delivered.
func (d *download) reconnect() error {
	size, err := d.connect()
	if err != nil {
		return err
	}
	if size >= 0 && d.info.Size >= 0 && size != d.info.Size {
		return fmt.Errorf("it has %d bytes now, its descriptor says %d", size, d.info.Size)
	}
	_, err = io.CopyN(io.Discard, readerFunc(d.read), d.at)
	return err
}

func (d *download) read(p []byte) (int, error) {
	d.dog.wag(d.dog.quiet)
	n, err := d.body.Read(p)
	d.dog.sleep()
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.dog.blame(d.bctx, err)
	}
	return n, err
}

func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		err := error(nil)
		if d.body == nil {
			err = d.reconnect()
		}
		if err == nil {
			var n int
			n, err = d.read(p)
			d.at += int64(n)
			if errors.Is(err, io.EOF) && d.at < d.info.Size {
				err = io.ErrUnexpectedEOF // where the length was not announced, this looks like an end
			}
			if errors.Is(err, io.EOF) {
				d.err = io.EOF
				return n, d.err
			}
			if n > 0 {
				if err != nil {
					d.fail(err)
				}
				return n, nil
			}
		}
		if err != nil {
			d.fail(err)
		}
	}
	return 0, d.err
}

// fail prepares another attempt, or gives up.
func (d *download) fail(err error) {
	d.disconnect()
	if d.at-d.mark >= enoughProgress {
		d.failures = 0
	}
	d.mark = d.at
	d.failures++
	switch {
	case d.ctx.Err() != nil:
		d.err = d.ctx.Err()
	case !transient(err):
		d.err = d.explain(err)
	case d.failures >= attempts:
		d.err = fmt.Errorf("the connection broke %d times, last after %d bytes: %w", d.failures, d.at, d.explain(err))
	default:
		d.err = d.from.patience.pause(d.ctx, d.failures)
	}
}

func (d *download) disconnect() {
	if d.body != nil {
		d.body.Close()
		d.dog.end()
		d.body = nil
	}
}

func (d *download) explain(err error) error {
	if err == nil || d.ctx.Err() != nil {
		return err
	}
	return explainPull(err, d.from.endpoint, d.from.login, "blob "+d.info.Digest.String())
}

func (d *download) Close() error {
	d.disconnect()
	return nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
