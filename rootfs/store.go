// Package rootfs turns an image reference into a cached, read-only directory: resolve, verify, unpack (DESIGN.md
// section 2). It knows nothing of containers: what it hands out is a directory, the interpreter inside it and the
// environment the image asks for. It never runs anything of an image, and it is not a registry client.
//
// # What is trusted
//
// Nothing in an image is. Every byte is hashed while it is read and nothing is published before all of it matched;
// every size is charged before it is written; every path is resolved by the kernel inside the directory that is being
// made. Files belong to whoever made the cache, with the permission bits the image gave to "other", because the
// container's user is neither the image's owner nor its group: no bit is ever widened for it.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
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

	swept sync.Once
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
	if dir, ok := strings.CutPrefix(ref, "oci:"); ref == "host" || ok && dir != "" {
		return nil
	}
	return fmt.Errorf("%w: allowed are oci:DIR[:TAG] and host", ErrUnsupportedRef)
}

// Ensure returns the tree of ref, making it first when it is not in the cache. ref is one of
//
//	oci:DIR[:TAG]  an OCI image layout in a directory
//	host           a snapshot of this machine's Python
//
// What fails half-way leaves nothing. Cancelling ctx ends the work.
func (s *Store) Ensure(ctx context.Context, ref string) (Tree, error) {
	if err := ctx.Err(); err != nil {
		return Tree{}, err
	}
	c, err := s.cache()
	if err != nil {
		return Tree{}, err
	}
	s.swept.Do(c.sweep) // once here, so that leftovers go even where every tree is warm

	var e entry
	if err := Supported(ref); err != nil {
		return Tree{}, fmt.Errorf("cannot use image %q: %w", ref, err)
	}
	if ref == "host" {
		e, err = ensureHost(ctx, c)
	} else {
		e, err = ensureLayout(ctx, c, ref, strings.TrimPrefix(ref, "oci:"))
	}
	if err != nil {
		return Tree{}, err
	}
	return Tree{
		Ref:    ref,
		Digest: e.Digest,
		Path:   filepath.Join(e.dir, "rootfs"),
		Python: e.Python,
		Env:    e.Env,
		Aux:    filepath.Join(e.dir, "aux"),
	}, nil
}

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
