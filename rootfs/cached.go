package rootfs

import "path/filepath"

// Cached is Ensure for who would rather do without: the tree of ref if it is in the cache, and that can be seen at once.
// It asks no registry, makes nothing, and reads no archive.
func (s *Store) Cached(text string) (Tree, bool) {
	c, err := s.cache()
	if err != nil {
		return Tree{}, false
	}
	ref, err := parseRef(text)
	if err != nil || checkPolicy(s.etcDir(), ref) != nil {
		return Tree{}, false
	}
	var e entry
	var ok bool
	switch ref.kind {
	case kindRegistry:
		e, ok = c.remembered(ref.name)
	case kindLayout:
		if desc, err := resolveLayout(ref.path, ref.tag); err == nil {
			e, ok = c.lookup(desc.Digest)
		}
	case kindHost:
		if key, err := hostKey(); err == nil && canSnapshot {
			if d, found := readNote(filepath.Join(c.dir, refsDir, "host-"+key)); found {
				e, ok = c.lookup(d)
			}
		}
	}
	return e.tree(text), ok
}
