package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ensureLayout makes the tree of oci:DIR[:TAG].
func ensureLayout(ctx context.Context, c *cache, ref reference) (entry, error) {
	desc, err := resolveLayout(ref.path, ref.tag)
	if err != nil {
		return entry{}, fmt.Errorf("cannot use image %s: %w", ref.text, err)
	}
	if e, ok := c.lookup(desc.Digest); ok {
		return e, nil
	}
	b, err := readBounded(filepath.Join(ref.path, ispec.ImageLayoutFile), maxManifest)
	if err == nil {
		err = checkLayoutFile(b)
	}
	if err != nil {
		return entry{}, fmt.Errorf("cannot use image %s: %s is not an OCI image layout: %w", ref.text, ref.path, err)
	}
	open := func(d digest.Digest) (io.ReadCloser, int64, error) {
		f, fi, err := openRegular(layoutBlob(ref.path, d), math.MaxInt64)
		if err != nil {
			return nil, 0, blameLayout(ref.path, err)
		}
		return f, fi.Size(), nil
	}
	return ensureImage(ctx, c, image{ref: ref.text, manifest: desc, src: blobSource{open: open}})
}

// resolveLayout finds the manifest for this machine. All of a layout is read by us and not by containers/image, which
// reads index.json without a bound, takes the first of several, and waits for ever for a FIFO.
func resolveLayout(dir, tag string) (ispec.Descriptor, error) {
	file := filepath.Join(dir, ispec.ImageIndexFile)
	b, err := readBounded(file, maxIndex)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ispec.Descriptor{}, fmt.Errorf("%s is not an OCI image layout: it has no index.json", dir)
		}
		return ispec.Descriptor{}, err
	}
	index, err := parseIndex(b)
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("cannot read %s: %w", file, err)
	}
	desc, err := chooseTag(index, tag, "oci:DIR:TAG")
	if err != nil {
		return ispec.Descriptor{}, err
	}
	return resolve(desc, func(desc ispec.Descriptor) ([]byte, error) {
		b, err := readBounded(layoutBlob(dir, desc.Digest), maxIndex)
		if err != nil {
			return nil, blameLayout(dir, err)
		}
		return b, checkBytes(b, desc)
	})
}

func checkLayoutFile(b []byte) error {
	var version ispec.ImageLayout
	if err := json.Unmarshal(b, &version); err != nil || version.Version != ispec.ImageLayoutVersion {
		return fmt.Errorf("it is not of version %s", ispec.ImageLayoutVersion)
	}
	return nil
}

func blameLayout(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is missing in %s", dir)
	}
	return err
}

// layoutBlob is the path of a blob. d has been validated: it cannot lead out of dir.
func layoutBlob(dir string, d digest.Digest) string {
	return filepath.Join(dir, ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
