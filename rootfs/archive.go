package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Archives are read by us: containers/image unpacks an oci-archive into a directory first, and a crafted one leads it
// out of there through a link. Here nothing is unpacked: members are found by their headers and read
// where they are.

// maxMembers bounds the headers of an archive that are read: a layer is one file.
const maxMembers = 100_000

// An imageArchive is an uncompressed tar file and where its members are.
type imageArchive struct {
	file    *os.File
	members map[string]member
}

// A member is a regular file in an archive, or a link to one.
type member struct {
	at, size int64
	link     string // relative to the root
}

// openArchive finds the members that want names.
func openArchive(ctx context.Context, name string, want func(name string) bool) (*imageArchive, error) {
	f, fi, err := openRegular(name, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	a := &imageArchive{file: f, members: make(map[string]member)}
	if err := a.scan(ctx, fi.Size(), want); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

func (a *imageArchive) scan(ctx context.Context, size int64, want func(name string) bool) error {
	if kind := a.compressed(); kind != "" {
		return fmt.Errorf("it is compressed with %s: decompress it first (%s -d)", kind, kind)
	}
	r := tar.NewReader(a.file) // which seeks over what is not read
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no tar archive, or cut short: %w", err)
		}
		if n >= maxMembers {
			return fmt.Errorf("it has more than %d members", maxMembers)
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "/")
		if !want(name) {
			continue
		}
		if _, twice := a.members[name]; twice {
			return fmt.Errorf("it has %q twice", name)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader is at the first byte of the content, for it reads headers in whole blocks. What a sparse
			// member has there is something else.
			for key := range h.PAXRecords {
				if strings.HasPrefix(key, "GNU.sparse.") {
					return fmt.Errorf("its member %q is sparse", name)
				}
			}
			at, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			if h.Size < 0 || at+h.Size > size {
				return fmt.Errorf("it is cut short in %q", name)
			}
			a.members[name] = member{at: at, size: h.Size}
		case tar.TypeSymlink:
			a.members[name] = member{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.members[name] = member{link: strings.TrimPrefix(path.Clean(h.Linkname), "/")}
		case tar.TypeDir:
		default:
			return fmt.Errorf("its member %q is not a regular file", name)
		}
	}
}

func (a *imageArchive) compressed() string {
	var magic [4]byte
	if _, err := a.file.ReadAt(magic[:], 0); err != nil {
		return ""
	}
	return compression(magic[:])
}

// compression names what a stream with these first bytes is compressed with.
func compression(magic []byte) string {
	switch {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		return "gzip"
	case strings.HasPrefix(string(magic), "\x28\xb5\x2f\xfd"):
		return "zstd"
	case strings.HasPrefix(string(magic), "BZh"):
		return "bzip2"
	case strings.HasPrefix(string(magic), "\xfd7zX"):
		return "xz"
	}
	return ""
}

var errNoMember = errors.New("it is missing in the archive")

// open opens a member for reading; docker save makes a layer that an image has twice a link to the first.
func (a *imageArchive) open(name string) (*io.SectionReader, error) {
	m, ok := a.members[name]
	if ok && m.link != "" {
		m, ok = a.members[m.link]
	}
	if !ok || m.link != "" {
		return nil, errNoMember
	}
	return io.NewSectionReader(a.file, m.at, m.size), nil
}

func (a *imageArchive) read(name string, limit int64) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return io.ReadAll(r)
}

// ensureArchive makes the tree of oci-archive:FILE[:TAG].
func ensureArchive(ctx context.Context, c *cache, ref reference) (entry, error) {
	a, err := openArchive(ctx, ref.path, func(name string) bool {
		return name == ispec.ImageLayoutFile || name == ispec.ImageIndexFile || strings.HasPrefix(name, ispec.ImageBlobsDir+"/")
	})
	if err != nil {
		return entry{}, fmt.Errorf("cannot use image %s: %w", ref.text, err)
	}
	defer a.file.Close()
	desc, err := a.resolve(ref.tag)
	if err != nil {
		return entry{}, fmt.Errorf("cannot use image %s: %w", ref.text, err)
	}
	if e, ok := c.lookup(desc.Digest); ok {
		return e, nil
	}
	open := func(d digest.Digest) (io.ReadCloser, int64, error) {
		r, err := a.open(blobName(d))
		if err != nil {
			return nil, 0, err
		}
		return io.NopCloser(r), r.Size(), nil
	}
	return ensureImage(ctx, c, image{ref: ref.text, manifest: desc, src: blobSource{open: open}})
}

func (a *imageArchive) resolve(tag string) (ispec.Descriptor, error) {
	for name := range a.members {
		if a.members[name].link != "" {
			return ispec.Descriptor{}, fmt.Errorf("its member %q is not a regular file", name)
		}
	}
	b, err := a.read(ispec.ImageLayoutFile, maxManifest)
	if err == nil {
		err = checkLayoutFile(b)
	}
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("it is no OCI archive: %s: %w", ispec.ImageLayoutFile, err)
	}
	if b, err = a.read(ispec.ImageIndexFile, maxIndex); err != nil {
		return ispec.Descriptor{}, fmt.Errorf("it is no OCI archive: %s: %w", ispec.ImageIndexFile, err)
	}
	index, err := parseIndex(b)
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("cannot read its %s: %w", ispec.ImageIndexFile, err)
	}
	desc, err := chooseTag(index, tag, "oci-archive:FILE:TAG")
	if err != nil {
		return ispec.Descriptor{}, err
	}
	return resolve(desc, func(desc ispec.Descriptor) ([]byte, error) {
		b, err := a.read(blobName(desc.Digest), maxIndex)
		if err != nil {
			return nil, err
		}
		return b, checkBytes(b, desc)
	})
}

func blobName(d digest.Digest) string {
	return path.Join(ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
