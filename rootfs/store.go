// Package rootfs turns an image reference into a cached, read-only directory: resolve, pull, verify, unpack.
// It knows nothing of containers: what it hands out is a directory, the interpreter inside it and the
// environment the image asks for. It never runs anything of an image. Registries are spoken to by containers/image.
//
// # What is trusted
//
// Nothing in an image is. Every byte is hashed while it is read and nothing is published before all of it matched;
// every size is charged before it is written; every path is resolved by the kernel inside the directory that is being
// made. Files belong to whoever made the cache, with the permission bits the image gave to "other", because the
// container's user is neither the image's owner nor its group: no bit is ever widened for it.
package rootfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
)

// ErrNoPython says that an image, or for "host" this machine, has no python3 of version 3.9 or newer on its PATH or
// in the usual directories.
var ErrNoPython = errors.New("no python3 >= 3.9 found")

// ErrUnsupportedRef says that a reference is of a kind which this package cannot make a directory of.
var ErrUnsupportedRef = errors.New("unsupported image reference")

// A Store is a cache of root directories. It is safe for concurrent use, and several processes may share its
// directory. The zero value with Dir set is ready.
type Store struct {
	// Dir is the cache directory; it is made when missing. Its parents have to let the container's user through
	// where containers run as an unprivileged range of uids (real root).
	Dir string
	// Logger gets what a person may want to know (entries left out, leftovers removed). Nil: nothing is logged.
	Logger *slog.Logger

	swept    sync.Once
	flights  flights
	findings findings
	patience patience // for tests
	etc      string   // instead of /etc; for tests
}

// A Tree is a root directory in the cache. Trees are immutable; nothing is removed from them while the entry exists.
type Tree struct {
	Ref    string   // what was asked for
	Digest string   // of the image's manifest; for "host" a sha256 over what identifies the snapshot
	Path   string   // absolute path of the read-only root directory
	Python string   // absolute path of the interpreter inside the tree, such as /usr/local/bin/python3
	Env    []string // the image's environment: KEY=VALUE, each key once
	Aux    string   // absolute path of a directory beside the root for files derived from it; 0700
}

// Supported says whether ref is of a kind that Ensure knows, without looking for the image.
func Supported(ref string) error {
	_, err := parseRef(ref)
	return err
}

// Ensure returns the tree of ref, making it first when it is not in the cache. ref is one of
//
//	NAME[:TAG], NAME@DIGEST    an image in a registry, as podman and docker write it; docker:// may stand before it
//	oci:DIR[:TAG]              an OCI image layout in a directory
//	oci-archive:FILE[:TAG]     one in a tar archive (podman save --format oci-archive)
//	docker-archive:FILE[:REF]  what docker save makes
//	host                       a snapshot of this machine's Python
//
// A registry's image that is in the cache is taken from there without asking the registry: what a tag stands for is
// asked once, and again by Refresh. What policy.json does not allow is refused, in the cache or not.
//
// Calls for the same ref at the same time share the work. What fails half-way leaves nothing. Cancelling ctx ends the
// call, and the work if nobody else waits for it.
func (s *Store) Ensure(ctx context.Context, ref string) (Tree, error) {
	return s.ensure(ctx, ref, false)
}

// Refresh is Ensure, but asks the registry what a tag stands for now. It fails if the registry cannot be asked.
func (s *Store) Refresh(ctx context.Context, ref string) (Tree, error) {
	return s.ensure(ctx, ref, true)
}

func (s *Store) ensure(ctx context.Context, text string, refresh bool) (Tree, error) {
	if err := ctx.Err(); err != nil {
		return Tree{}, err
	}
	c, err := s.cache()
	if err != nil {
		return Tree{}, err
	}
	s.swept.Do(c.sweep) // once here, so that leftovers go even where every tree is warm

	if !refresh {
		if e, ok := s.findings.recall(text); ok {
			return e.tree(text), nil
		}
	}
	ref, err := parseRef(text)
	var seen []stamp
	if err == nil {
		seen = s.witnesses(c, ref)
		err = checkPolicy(s.etcDir(), ref)
	}
	if err != nil {
		return Tree{}, fmt.Errorf("cannot use image %q: %w", text, err)
	}
	if ref.kind == kindRegistry && !refresh {
		if e, ok := c.remembered(ref.name); ok {
			s.findings.note(text, e, seen)
			return e.tree(text), nil
		}
	}
	key := text
	if refresh {
		key = "refresh " + text
	}
	e, err := s.flights.do(ctx, key, func(ctx context.Context) (entry, error) { return s.make(ctx, c, ref) })
	if err != nil {
		return Tree{}, err
	}
	if seen != nil {
		s.findings.note(text, e, seen)
	}
	return e.tree(text), nil
}

func (s *Store) make(ctx context.Context, c *cache, ref reference) (entry, error) {
	switch ref.kind {
	case kindHost:
		return ensureHost(ctx, c)
	case kindLayout:
		return ensureLayout(ctx, c, ref)
	case kindArchive:
		return ensureArchive(ctx, c, ref)
	case kindDockerArchive:
		return ensureDockerArchive(ctx, c, ref)
	case kindRegistry:
		return s.ensureRegistry(ctx, c, ref)
	}
	return entry{}, fmt.Errorf("internal error: a reference of kind %q", ref.kind)
}

func (e entry) tree(ref string) Tree {
	return Tree{
		Ref:    ref,
		Digest: e.Digest,
		Path:   filepath.Join(e.dir, "rootfs"),
		Python: e.Python,
		Env:    e.Env,
		Aux:    filepath.Join(e.dir, "aux"),
	}
}

func (s *Store) etcDir() string { return cmp.Or(s.etc, defaultEtc) }

func (s *Store) cache() (*cache, error) {
	if s.Dir == "" {
		return nil, errors.New("cannot use an image cache without a directory")
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the image cache %s: %w", s.Dir, err)
	}
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &cache{dir: dir, log: log}, nil
}
