package rootfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// readIndex reads and verifies an index that stands in another one.
type readIndex func(desc ispec.Descriptor) ([]byte, error)

// resolve finds the manifest for this machine. An index.json, or what a registry has under a tag, leads to it through
// any number of indexes up to maxIndexDepth.
func resolve(desc ispec.Descriptor, read readIndex) (ispec.Descriptor, error) {
	for range maxIndexDepth {
		if err := desc.Digest.Validate(); err != nil {
			return ispec.Descriptor{}, err
		}
		if !isIndex(desc.MediaType) {
			return desc, checkManifestType(desc)
		}
		b, err := read(desc)
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

func checkManifestType(desc ispec.Descriptor) error {
	if strings.HasPrefix(desc.MediaType, dockerSchema1) {
		return fmt.Errorf("manifest %s is of docker's old schema 1; push the image again with a current docker, podman or skopeo", desc.Digest)
	}
	if !isManifest(desc.MediaType) {
		return fmt.Errorf("manifest %s has the unknown type %q", desc.Digest, desc.MediaType)
	}
	return nil
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

// chooseTag picks the manifest or index with this tag; without one, there may be only one. how is what a reference
// with a tag looks like.
func chooseTag(index ispec.Index, tag, how string) (ispec.Descriptor, error) {
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
		return ispec.Descriptor{}, fmt.Errorf("it holds several images, name one as %s: %s", how, has)
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
