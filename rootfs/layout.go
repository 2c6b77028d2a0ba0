package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ensureLayout makes the tree of oci:DIR[:TAG].
func ensureLayout(ctx context.Context, c *cache, ref, rest string) (entry, error) {
	dir, tag, _ := strings.Cut(rest, ":")
	desc, err := resolveLayout(dir, tag)
	if err != nil {
		return entry{}, fmt.Errorf("cannot use image %s: %w", ref, err)
	}
	if e, ok := c.lookup(desc.Digest); ok {
		return e, nil
	}
	src, err := openLayout(ctx, dir)
	if err != nil {
		return entry{}, fmt.Errorf("cannot use image %s: %w", ref, err)
	}
	defer src.Close()
	return ensureImage(ctx, c, image{ref: ref, manifest: desc, src: src})
}

// resolveLayout finds the manifest for this machine. index.json is read by us and not by the library, because it
// reads without a bound and takes the first of several.
func resolveLayout(dir, tag string) (ispec.Descriptor, error) {
	b, err := readBounded(filepath.Join(dir, ispec.ImageIndexFile), maxIndex)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ispec.Descriptor{}, fmt.Errorf("%s is not an OCI image layout: it has no index.json", dir)
		}
		return ispec.Descriptor{}, err
	}
	index, err := parseIndex(b)
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, ispec.ImageIndexFile), err)
	}
	desc, err := chooseTag(index, tag)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	for range maxIndexDepth {
		if !isIndex(desc.MediaType) {
			if !isManifest(desc.MediaType) {
				return ispec.Descriptor{}, fmt.Errorf("manifest %s has the unknown type %q", desc.Digest, desc.MediaType)
			}
			return desc, desc.Digest.Validate()
		}
		b, err := readLayoutBlob(dir, desc, maxIndex)
		if err != nil {
			return ispec.Descriptor{}, fmt.Errorf("cannot read index %s: %w", desc.Digest, err)
		}
		index, err := parseIndex(b)
		if err != nil {
			return ispec.Descriptor{}, fmt.Errorf("cannot read index %s: %w", desc.Digest, err)
		}
		if desc, err = choosePlatform(index.Manifests); err != nil {
			return ispec.Descriptor{}, err
		}
	}
	return ispec.Descriptor{}, fmt.Errorf("indexes are nested more than %d deep", maxIndexDepth)
}

func parseIndex(b []byte) (ispec.Index, error) {
	var index ispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return index, err
	}
	if index.SchemaVersion != 2 {
		return index, fmt.Errorf("schema version %d, want 2", index.SchemaVersion)
	}
	return index, nil
}

// chooseTag picks the manifest or index with this tag; without one, there may be only one.
func chooseTag(index ispec.Index, tag string) (ispec.Descriptor, error) {
	var tags []string
	for _, m := range index.Manifests {
		if t := m.Annotations[ispec.AnnotationRefName]; t != "" {
			tags = append(tags, t)
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	has := "it has no tags"
	if len(tags) > 0 {
		has = "it has " + strings.Join(tags[:min(len(tags), 50)], ", ")
	}

	manifests := index.Manifests
	switch {
	case len(manifests) == 0:
		return ispec.Descriptor{}, errors.New("its index.json lists no image")
	case tag != "":
		manifests = slices.DeleteFunc(slices.Clone(manifests), func(m ispec.Descriptor) bool {
			return m.Annotations[ispec.AnnotationRefName] != tag
		})
		if len(manifests) == 0 {
			return ispec.Descriptor{}, fmt.Errorf("no image has the tag %q: %s", tag, has)
		}
	case len(tags) > 1:
		return ispec.Descriptor{}, fmt.Errorf("it holds several images, name one as oci:DIR:TAG: %s", has)
	}
	if len(manifests) == 1 {
		return manifests[0], nil
	}
	desc, err := choosePlatform(manifests)
	if err != nil {
		return desc, fmt.Errorf("%w (%s)", err, has)
	}
	return desc, nil
}

// openLayout opens a layout's blobs.
func openLayout(ctx context.Context, dir string) (types.ImageSource, error) {
	b, err := readBounded(filepath.Join(dir, ispec.ImageLayoutFile), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s is not an OCI image layout: %w", dir, err)
	}
	var version ispec.ImageLayout
	if err := json.Unmarshal(b, &version); err != nil || version.Version != ispec.ImageLayoutVersion {
		return nil, fmt.Errorf("%s is not an OCI image layout of version %s", dir, ispec.ImageLayoutVersion)
	}
	ref, err := layout.NewIndexReference(dir, 0) // any: we ask for blobs by their digest only
	if err != nil {
		return nil, err
	}
	src, err := ref.NewImageSource(ctx, nil)
	if err != nil {
		return nil, err
	}
	return layoutSource{ImageSource: src, dir: dir}, nil
}

// layoutSource looks before it opens: the library would block on a FIFO.
type layoutSource struct {
	types.ImageSource
	dir string
}

func (s layoutSource) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if err := checkLayoutBlob(s.dir, info.Digest); err != nil {
		return nil, 0, err
	}
	return s.ImageSource.GetBlob(ctx, info, cache)
}

func checkLayoutBlob(dir string, d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	fi, err := os.Stat(layoutBlob(dir, d))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is missing in %s", dir)
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	return nil
}

// readLayoutBlob is for nested indexes, which are read before there is a source.
func readLayoutBlob(dir string, desc ispec.Descriptor, limit int64) ([]byte, error) {
	if err := checkLayoutBlob(dir, desc.Digest); err != nil {
		return nil, err
	}
	b, err := readBounded(layoutBlob(dir, desc.Digest), limit)
	if err != nil {
		return nil, err
	}
	return b, checkBytes(b, desc)
}

func layoutBlob(dir string, d digest.Digest) string {
	return filepath.Join(dir, ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
