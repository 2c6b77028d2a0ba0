package rootfs

import (
	"context"
	"io"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
)

// A source has the blobs of an image, which are all that unpacking it asks for, its manifest included.
type source interface {
	GetBlob(ctx context.Context, info types.BlobInfo) (io.ReadCloser, int64, error)
}

// A blobSource is a source on this machine.
type blobSource struct {
	open func(d digest.Digest) (io.ReadCloser, int64, error)
}

func (s blobSource) GetBlob(ctx context.Context, info types.BlobInfo) (io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := info.Digest.Validate(); err != nil {
		return nil, 0, err
	}
	return s.open(info.Digest)
}
