package rootfs

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
)

// .files lists what an entry consists of, a line of JSON each, sorted. It is written by Settle and by the first Verify,
// and not when an image is unpacked: hashing every file once more would cost a quarter of that time.
const filesFn = ".files"

type fileRecord struct {
	Path   string `json:"p"`
	Mode   string `json:"m"`           // as ls has it
	Size   int64  `json:"s,omitempty"` // of a regular file
	Time   int64  `json:"t,omitempty"` // its modification, in nanoseconds
	Sha256 string `json:"h,omitempty"`
	Target string `json:"l,omitempty"` // of a link
}

// A Damage is something in an image that is not as it was recorded.
type Damage struct {
	Image string // digest
	Path  string // in the image
	What  string
}

func (d Damage) String() string { return fmt.Sprintf("%s: %s: %s", d.Image, d.Path, d.What) }

// Verify compares the images in the cache with what was recorded of them: names, types, modes, sizes, times and targets
// of links, and if full the contents too. Compiled modules that were added later (see Warm) are no damage. An image of
// which nothing was recorded is recorded now, and a warning says so.
func (s *Store) Verify(ctx context.Context, full bool) ([]Damage, error) {
	c, err := s.cache()
	if err != nil {
		return nil, err
	}
	all, err := c.entries()
	if err != nil {
		return nil, err
	}
	var damages []Damage
	for _, e := range all {
		if e.err != nil {
			damages = append(damages, Damage{e.name, "", "it has no record: " + e.err.Error()})
			continue
		}
		found, err := c.verify(ctx, e.entry, full)
		if err != nil {
			return damages, fmt.Errorf("cannot verify image %s: %w", e.Digest, err)
		}
		damages = append(damages, found...)
	}
	return damages, nil
}

func (c *cache) verify(ctx context.Context, e entry, full bool) ([]Damage, error) {
	want, err := readFiles(filepath.Join(e.dir, filesFn))
	if errors.Is(err, fs.ErrNotExist) {
		err := c.recordFiles(ctx, e)
		switch {
		case err == nil:
			c.log.Warn("nothing had been recorded of an image that was never pulled, only run: it is recorded now, as it is", "image", e.Ref, "digest", e.Digest)
		case isOthers(err):
			c.log.Warn("nothing has been recorded of an image, and the cache cannot be written: whether it is as it was cannot be said", "image", e.Ref, "digest", e.Digest)
			err = nil
		}
		return nil, err
	}
	if err != nil {
		return []Damage{{e.Digest, filesFn, err.Error()}}, nil
	}
	var damages []Damage
	bad := func(path, what string) { damages = append(damages, Damage{e.Digest, path, what}) }
	root := filepath.Join(e.dir, "rootfs")
	err = walkFiles(ctx, root, func(got fileRecord) error {
		w, ok := want[got.Path]
		delete(want, got.Path)
		if !ok {
			if !strings.Contains("/"+got.Path+"/", "/__pycache__/") {
				bad(got.Path, "it was added")
			}
			return nil
		}
		hash := w.Sha256
		w.Sha256 = ""
		switch {
		case w != got:
			bad(got.Path, "it was changed")
		case full && hash != "":
			now, err := hashFile(filepath.Join(root, got.Path))
			if err != nil {
				bad(got.Path, err.Error())
			} else if now != hash {
				bad(got.Path, "its content is another one")
			}
		}
		return nil
	})
	for path := range want {
		bad(path, "it is missing")
	}
	slices.SortFunc(damages, func(a, b Damage) int { return strings.Compare(a.Path, b.Path) })
	return damages, err
}

// walkFiles calls f for everything below root, without hashes.
func walkFiles(ctx context.Context, root string, f func(fileRecord) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		r := fileRecord{Path: strings.TrimPrefix(p, root+"/"), Mode: fi.Mode().String()}
		switch {
		case fi.Mode().IsRegular():
			r.Size, r.Time = fi.Size(), fi.ModTime().UnixNano()
		case fi.Mode().Type() == fs.ModeSymlink:
			if r.Target, err = os.Readlink(p); err != nil {
				return err
			}
		}
		return f(r)
	})
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// recordFiles writes .files.
func (c *cache) recordFiles(ctx context.Context, e entry) error {
	root := filepath.Join(e.dir, "rootfs")
	return atomicfile.Replace(filepath.Join(e.dir, filesFn), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		return walkFiles(ctx, root, func(r fileRecord) error {
			if r.Mode[0] == '-' {
				h, err := hashFile(filepath.Join(root, r.Path))
				if err != nil {
					return err
				}
				r.Sha256 = h
			}
			return enc.Encode(r)
		})
	})
}

func readFiles(path string) (map[string]fileRecord, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]fileRecord{}
	for dec := json.NewDecoder(bufio.NewReader(f)); ; {
		var r fileRecord
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("it cannot be read: %w", err)
		}
		if len(all) >= maxEntries {
			return nil, fmt.Errorf("%w: more than %d files", errBound, maxEntries)
		}
		all[r.Path] = r
	}
}
