package rootfs

import (
	"context"
	"errors"
	"io"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
)

// A blobSource is a types.ImageSource of nothing but blobs: all that unpacking an image asks for, its manifest
// included. The rest of the interface is for copying images.
type blobSource struct {
	open func(d digest.Digest) (io.ReadCloser, int64, error)
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

func (blobSource) Close() error                    { return nil }
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
