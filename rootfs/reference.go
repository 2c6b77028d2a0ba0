package rootfs

import (
	"errors"
	"fmt"
	"strings"

	dref "github.com/containers/image/v5/docker/reference"
)

// The kinds of references. All but host are names of transports, as in policy.json.
const (
	kindHost          = "host"
	kindLayout        = "oci"
	kindArchive       = "oci-archive"
	kindDockerArchive = "docker-archive"
	kindRegistry      = "docker"
)

const usage = "allowed are an image of a registry (NAME[:TAG], NAME@DIGEST or docker://NAME), " +
	"oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG] and host"

// A reference is a parsed image reference.
type reference struct {
	text string // as it was given
	kind string
	path string     // of a local one: the directory or file
	tag  string     // of a local one: which image in it, may be empty
	name dref.Named // of a registry's: with a tag or a digest, never with both
}

// parseRef understands what Ensure does, without a look at any file.
func parseRef(text string) (reference, error) {
	r := reference{text: text}
	if text == kindHost {
		r.kind = kindHost
		return r, nil
	}
	for _, kind := range []string{kindLayout, kindArchive, kindDockerArchive} {
		rest, ok := strings.CutPrefix(text, kind+":")
		if !ok {
			continue
		}
		r.kind = kind
		r.path, r.tag, _ = strings.Cut(rest, ":")
		if r.path == "" {
			return r, fmt.Errorf("%w: %s: needs a path; %s", ErrUnsupportedRef, kind, usage)
		}
		return r, nil
	}
	for _, other := range []string{"docker-daemon:", "containers-storage:", "dir:", "sif:", "http:", "https:"} {
		if strings.HasPrefix(text, other) {
			// Else docker-daemon:python would be tag python of docker.io/library/docker-daemon.
			return r, fmt.Errorf("%w: %s is not read directly, save the image with `podman save --format oci-archive` first; %s",
				ErrUnsupportedRef, other, usage)
		}
	}
	r.kind = kindRegistry
	name, err := parseName(strings.TrimPrefix(text, "docker://"))
	if err != nil {
		return r, fmt.Errorf("%w: %v; %s", ErrUnsupportedRef, err, usage)
	}
	r.name = name
	return r, nil
}

// parseName expands a name as docker does (python is docker.io/library/python:latest). A digest says everything that
// a tag beside it could, so the tag is dropped then.
func parseName(text string) (dref.Named, error) {
	name, err := dref.ParseNormalizedNamed(text)
	if err != nil {
		return nil, err
	}
	if d, ok := name.(dref.Digested); ok {
		if err := d.Digest().Validate(); err != nil {
			return nil, err
		}
		return dref.WithDigest(dref.TrimNamed(name), d.Digest())
	}
	name = dref.TagNameOnly(name)
	if _, ok := name.(dref.Tagged); !ok {
		return nil, errors.New("it has neither a tag nor a digest")
	}
	return name, nil
}
