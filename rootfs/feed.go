package rootfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// unpackLayers makes the root of layers. Several are read at the same time, in their order, and verified here while they
// go to the unpacker; what it finds inside of them is compared at the end. What that has to be is said by configure, which
// reads the config meanwhile. It returns how many bytes the files have.
func (im image) unpackLayers(ctx context.Context, c *cache, st staging, layers []ispec.Descriptor, configure func(ctx context.Context) ([]digest.Digest, error)) (int64, error) {
	j := job{Root: st.root, Scratch: filepath.Join(st.dir, "layers")}
	for _, l := range layers {
		err := checkLayerType(l.MediaType)
		if err == nil {
			err = checkDescriptor(l)
		}
		if err != nil {
			return 0, fmt.Errorf("cannot unpack layer %s: %w", l.Digest, err)
		}
		j.Layers = append(j.Layers, jobLayer{Size: l.Size, Blob: l.Digest.Algorithm()})
	}
	if err := mkdirMode(j.Scratch, 0o700); err != nil {
		return 0, err
	}
	var diffIDs []digest.Digest
	result, err := im.feedAll(ctx, j, layers, st.lock, func(ctx context.Context) (job, error) {
		var err error
		if diffIDs, err = configure(ctx); err != nil {
			return j, err
		}
		complete := j
		complete.Layers = slices.Clone(j.Layers)
		for i, d := range diffIDs {
			if err := d.Validate(); err != nil {
				return j, fmt.Errorf("cannot unpack layer %s: its diff ID: %w", layers[i].Digest, err)
			}
			complete.Layers[i].Algorithm = d.Algorithm()
		}
		return complete, nil
	})
	if err != nil {
		return 0, err
	}
	for i, d := range result.DiffIDs {
		if d == "" { // it was not compressed, and has been hashed here
			d = layers[i].Digest
		}
		if d != diffIDs[i] {
			return 0, fmt.Errorf("cannot unpack layer %s: its uncompressed content has the digest %.100s, the config says %s", layers[i].Digest, d, diffIDs[i])
		}
	}
	if result.Skipped > 0 {
		c.log.Info("devices, FIFOs and the like of an image were left out", "image", im.ref, "count", result.Skipped)
	}
	// Empty but for a compromised unpacker.
	return result.Bytes, os.RemoveAll(j.Scratch)
}

// feedAll runs an unpacker and gives it all layers. While its process starts, and the first bytes of layers come, complete
// finds out what is missing in the job.
func (im image) feedAll(ctx context.Context, j job, layers []ispec.Descriptor, lock *os.File, complete func(ctx context.Context) (job, error)) (jobResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	streams, u, err := startUnpacker(ctx, j, max(1, min(len(layers), maxStreams)), lock)
	if err != nil {
		return jobResult{}, err
	}
	f := &feeder{im: im, layers: layers, ended: make(chan struct{})}
	g, gctx := errgroup.WithContext(ctx)
	// An error of ours ends the unpacker; its end ends the writes to it.
	defer context.AfterFunc(gctx, func() { cancel(context.Cause(gctx)) })()
	g.Go(func() error {
		j, err := complete(gctx)
		if err == nil {
			u.begin(j)
		}
		return err
	})
	for _, s := range streams {
		g.Go(func() error {
			to, err := newPipeWriter(s)
			if err != nil {
				s.Close()
				return fmt.Errorf("cannot write to the unpacker: %w", err)
			}
			defer to.close()
			return f.feed(gctx, to)
		})
	}
	var result jobResult
	result, f.unpackErr = u.wait()
	close(f.ended)
	if f.unpackErr != nil && !errors.Is(f.unpackErr, errDamaged) {
		cancel(errUnpackerEnded) // nothing that is still to come would change this
	}
	// A blob that is not what it should be explains everything else.
	if err := g.Wait(); err != nil && !errors.Is(err, errUnpackerEnded) {
		if cause := context.Cause(ctx); ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = cause
		}
		return jobResult{}, err
	}
	if err := f.unpackErr; err != nil {
		var a *answerError
		if errors.As(err, &a) && a.Layer >= 0 {
			return jobResult{}, fmt.Errorf("cannot unpack layer %s: %w", layers[a.Layer].Digest, err)
		}
		return jobResult{}, err
	}
	// The unpacker's word is not enough: one that strangers have taken over could end before it has read what it is given,
	// and then nobody has looked at the rest.
	if n := int(f.verified.Load()); n != len(layers) {
		return jobResult{}, fmt.Errorf("internal error: the unpacker ended when %d of %d layers were verified", n, len(layers))
	}
	return result, nil
}

// A feeder gives layers to an unpacker.
type feeder struct {
	im        image
	layers    []ispec.Descriptor
	next      atomic.Int64  // the layer that is to be read next
	verified  atomic.Int64  // how many layers were what they should be, to their end
	ended     chan struct{} // closed when the unpacker has ended
	unpackErr error         // how; read it after ended
}

// feed writes layers to one stream until there are none left.
func (f *feeder) feed(ctx context.Context, to *pipeWriter) error {
	for {
		n := int(f.next.Add(1)) - 1
		if n >= len(f.layers) {
			return nil
		}
		if err := f.layer(ctx, to, n); errors.Is(err, errUnpackerEnded) {
			return nil
		} else if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("cannot unpack layer %s: %w", f.layers[n].Digest, err)
		}
	}
}

// errUnpackerEnded says that somebody else knows what happened.
var errUnpackerEnded = errors.New("the unpacker has ended")

func (f *feeder) layer(ctx context.Context, to *pipeWriter, n int) error {
	desc := f.layers[n]
	rc, err := f.im.open(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	// One byte more than announced, so that a blob which is too long is seen.
	blob := &countReader{r: io.LimitReader(rc, desc.Size+1), digester: desc.Digest.Algorithm().Digester()}
	binary.BigEndian.PutUint32(to.buffer(), uint32(n))
	werr := to.write(4)
	for left := desc.Size; werr == nil && left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf := to.buffer()
		m, err := blob.Read(buf[:min(left, int64(len(buf)))])
		left -= int64(m)
		if m > 0 {
			werr = to.write(m)
		}
		if err != nil {
			break // said by check
		}
	}
	if werr != nil {
		if !errors.Is(werr, unix.EPIPE) {
			return werr
		}
		<-f.ended
		var a *answerError
		if !errors.As(f.unpackErr, &a) || !a.Damaged || a.Layer != n {
			return errUnpackerEnded
		}
	}
	if err := checkBlob(blob, desc); err != nil {
		return err
	}
	f.verified.Add(1)
	return nil
}

// checkBlob reads the rest of a blob, and says if it is the one that was asked for.
func checkBlob(blob *countReader, desc ispec.Descriptor) error {
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return err
	}
	if blob.n != desc.Size {
		if blob.n > desc.Size {
			return fmt.Errorf("it has more than %d bytes, as its descriptor says", desc.Size)
		}
		return fmt.Errorf("it is truncated: %d bytes, its descriptor says %d", blob.n, desc.Size)
	}
	if d := blob.digester.Digest(); d != desc.Digest {
		return fmt.Errorf("its content has the digest %s", d)
	}
	return nil
}

func checkDescriptor(desc ispec.Descriptor) error {
	if desc.Size < 0 {
		return fmt.Errorf("its descriptor says %d bytes", desc.Size)
	}
	return desc.Digest.Validate()
}
