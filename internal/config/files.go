package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

const (
	maxFile  = 4 << 20 // bytes of one file; see maxHistory for the exception
	maxNames = 1024    // entries of a directory in which servers are looked for
)

var (
	errNotFile = errors.New("it is not a regular file")
	errTooBig  = errors.New("it is too large")
)

// Disk is the file system of this machine from its root, as [Host] wants it: what is no file or directory is not
// opened, because a pipe or a device could keep the bridge waiting for ever.
func Disk() fs.FS { return disk{} }

type disk struct{}

func (disk) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	return os.Stat("/" + name)
}

func (d disk) Open(name string) (fs.File, error) {
	// Before it is opened, because to open a device can be an action; and after, because it may be another by then.
	if st, err := d.Stat(name); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() && !st.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotFile}
	}
	f, err := os.OpenFile("/"+name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() && !st.IsDir() {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: errNotFile}, err, f.Close())
	}
	return f, nil
}

// ownerOf is who a file belongs to, and whether that is known.
func ownerOf(st fs.FileInfo) (uid int, ok bool) {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid), true
	}
	return 0, false
}

// below is an absolute path as fs.FS wants it.
func below(name string) string {
	if name = strings.TrimPrefix(path.Clean(name), "/"); name != "" {
		return name
	}
	return "."
}

// readFile reads a regular file of at most most bytes.
func readFile(files fs.FS, name string, most int64) ([]byte, fs.FileInfo, error) {
	f, err := files.Open(below(name))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, nil, errNotFile
	}
	if st.Size() > most {
		return nil, nil, tooBig(most)
	}
	b := bytes.NewBuffer(make([]byte, 0, st.Size()+bytes.MinRead))
	_, err = b.ReadFrom(io.LimitReader(f, most+1))
	if err == nil && int64(b.Len()) > most {
		err = tooBig(most)
	}
	return b.Bytes(), st, err
}

func tooBig(most int64) error {
	return fmt.Errorf("%w (more than %d MiB)", errTooBig, most>>20)
}

// absent says that there simply is no such file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// cause is an error without the path, which stands beside it.
func cause(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// anything stands for the "*" of a pattern, so that a directory of the user's may have one in its name.
const anything = "\x00"

// glob lists the files that a pattern names, in the order of their names. One element of it may have an [anything].
func glob(files fs.FS, pattern string) ([]string, error) {
	elements := strings.Split(pattern, "/")
	for i, e := range elements {
		if !strings.Contains(e, anything) {
			continue
		}
		dir, rest := strings.Join(elements[:i], "/"), strings.Join(elements[i+1:], "/")
		names, err := list(files, dir)
		var found []string
		for _, name := range names {
			// As in a shell, what is hidden is not meant: editors keep their copies there.
			if ok, _ := path.Match(strings.ReplaceAll(e, anything, "*"), name); ok && !strings.HasPrefix(name, ".") {
				found = append(found, path.Join(dir, name, rest))
			}
		}
		return found, err
	}
	return []string{pattern}, nil
}

// list is the sorted names in a directory that is not too full.
func list(files fs.FS, dir string) ([]string, error) {
	f, err := files.Open(below(dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, syscall.ENOTDIR
	}
	entries, err := d.ReadDir(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > maxNames {
		return nil, fmt.Errorf("there are more than %d files, and none of them is read", maxNames)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names, nil
}
