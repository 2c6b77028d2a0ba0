package rootfs

import (
	"archive/tar"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A capture is a directory of a staged layer with what comes below it in the archive, made beside the tree. If the tree
// has nothing with its name when the layer's turn comes, the whole is moved there by one rename; and if it has, so are
// the directories in it that are new. A rename per file would cost a fifth of the time of unpacking a compressed image.
//
// That is the same as adding the entries one by one, because
//   - they follow each other: an entry belongs to the capture only if its parent is the directory that was captured last
//     or one of those above it, and anything else closes the capture. So what is moved stands together in the log, and
//     no other entry loses its place;
//   - they only add: files, links and directories with new names, each below a directory that the archive made itself a
//     moment ago. Whiteouts, devices, names that come again, and hard links to another directory close the capture;
//   - their paths lead into the new directory and stay there: it is moved only if the kernel resolves the path of its
//     parent without anything missing. What that path goes through has been there before, and adding does not change it.
type capture struct {
	top   string   // path of its directory in the layer
	at    string   // name of its directory in the staging directory
	stack []string // directories on the way to the one that was captured last, top first
}

// captureDepth is how deep a capture may be: a directory is moved only where that cannot break maxDepth.
const captureDepth = 50

// place is where an entry lies, relative to the staging directory.
func (c *capture) place(path string) string { return c.at + path[len(c.top):] }

// toCapture makes an entry in the open capture, or in a new one. done is false if it belongs to none.
func (s *staged) toCapture(si *stagedItem) (done bool, err error) {
	if c := s.capture; c != nil && c.enter(si.path) {
		err := s.make(c, si)
		if err == nil {
			si.kind = captured
			return true, nil
		}
		if !errors.Is(err, errNotCaptured) {
			return false, err
		}
	}
	s.capture = nil
	if si.typ != tar.TypeDir || si.path == "" {
		return false, nil
	}
	c := &capture{top: si.path, at: "c" + strconv.Itoa(s.captures)}
	s.captures++
	if err := s.make(c, si); err != nil {
		return false, err
	}
	s.capture, si.kind = c, opens
	return true, nil
}

// enter goes to the directory that an entry is in; false if the capture has left it, or never had it.
func (c *capture) enter(path string) bool {
	parent, _ := split(path)
	for len(c.stack) > 0 && c.stack[len(c.stack)-1] != parent {
		c.stack = c.stack[:len(c.stack)-1]
	}
	return len(c.stack) > 0 && len(path) < maxPath-32 // its place has to be a path too
}

var errNotCaptured = errors.New("it closes the capture")

// make makes an entry where the capture has its parent. Everything on the way has been made by us, and is no link.
func (s *staged) make(c *capture, si *stagedItem) (err error) {
	at := c.place(si.path)
	switch si.typ {
	case tar.TypeReg:
		err = s.files.create(s.dir, at, si.item)
	case tar.TypeSymlink:
		err = unix.Symlinkat(si.link, s.dir.fd, at)
	case tar.TypeLink:
		parent, _ := split(si.path)
		if other, _ := split(si.link); other != parent {
			return errNotCaptured
		}
		err = unix.Linkat(s.dir.fd, c.place(si.link), s.dir.fd, at, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) { // a lower layer's, or a directory
			return errNotCaptured
		}
	case tar.TypeDir:
		if len(c.stack) >= captureDepth {
			return errNotCaptured
		}
		if err = unix.Mkdirat(s.dir.fd, at, 0o700); err != nil {
			break
		}
		var st unix.Stat_t
		if st, err = lstat(s.dir, at); err != nil {
			return err
		}
		si.ino = uint64(st.Ino) // the type differs by OS
		c.stack = append(c.stack, si.path)
		return chmodDir(s.dir, at, si.mode)
	default:
		return errNotCaptured
	}
	if errors.Is(err, unix.EEXIST) {
		return errNotCaptured
	}
	return err
}

// A captureReplay adds captures to a tree.
type captureReplay struct {
	s *staged
	t *tree

	opened int
	now    capture
	moved  string            // path of the directory that has been moved with all that is in it
	dirs   map[string]uint64 // the directories in it, and itself
}

func (r *captureReplay) add(si stagedItem) error {
	if si.kind == opens {
		r.now = capture{top: si.path, at: "c" + strconv.Itoa(r.opened)}
		r.opened++
		r.moved = ""
	}
	if r.moved != "" && strings.HasPrefix(si.path, r.moved+"/") {
		parent, name := split(si.path)
		r.adopt(si, r.dirs[parent], name)
		return nil
	}
	r.moved = ""
	if si.typ == tar.TypeDir && r.move(si) {
		return nil
	}
	at := r.now.place(si.path)
	return r.t.add(si.item, func(parent *dir, name string) error {
		return r.t.put(parent, name, func() error { return renameNew(r.s.dir, at, parent, name) })
	})
}

// move moves a directory to its place in the tree if nothing is there. Whatever keeps it from that is left to be found
// when its entries are added one by one.
func (r *captureReplay) move(si stagedItem) bool {
	parentPath, name := split(si.path)
	parent, err := r.t.existing(parentPath)
	if err != nil {
		return false
	}
	defer r.t.release(parent)
	if r.t.dirs[parent.ino].depth+captureDepth > maxDepth || renameNew(r.s.dir, r.now.place(si.path), parent, name) != nil {
		return false
	}
	r.t.moves++
	r.moved, r.dirs = si.path, map[string]uint64{}
	r.adopt(si, parent.ino, name)
	return true
}

// adopt makes an entry that came with its directory known to the tree.
func (r *captureReplay) adopt(si stagedItem, parent uint64, name string) {
	if si.typ == tar.TypeDir {
		r.t.dirs[si.ino] = dirInfo{parent: parent, name: name, depth: r.t.dirs[parent].depth + 1}
		r.dirs[si.path] = si.ino
	}
	r.t.mark(parent, name)
}
