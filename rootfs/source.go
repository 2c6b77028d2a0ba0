package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A blobSource is a types.ImageSource of nothing but blobs: all that unpacking an image asks for, its manifest
// included. The rest of the interface is for copying images.
type blobSource struct {
	open func(d digest.Digest) (io.ReadCloser, int64, error)
	done func() error // may be nil
}

var _ types.ImageSource = blobSource{}

func (s blobSource) GetBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := info.Digest.Validate(); err != nil {
		return nil, 0, err
	}
	return s.open(info.Digest)
}

func (s blobSource) Close() error {
	if s.done == nil {
		return nil
	}
	return s.done()
}

func (blobSource) HasThreadSafeGetBlob() bool      { return true }
func (blobSource) Reference() types.ImageReference { return nil }

var errBlobsOnly = errors.New("internal error: this source has blobs only")

func (blobSource) GetManifest(context.Context, *digest.Digest) ([]byte, string, error) {
	return nil, "", errBlobsOnly
}

func (blobSource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, errBlobsOnly
}

func (blobSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

// openRegular opens a regular file. O_NONBLOCK keeps a FIFO from blocking us for ever.
func openRegular(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}
