// Package atomicfile writes files of which nobody reads half: they are written under another name, new-*, and then get their
// own. They are the user's alone, 0600. A process that is killed meanwhile leaves the other name.
package atomicfile

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Replace puts a file in the place of name, if there is one.
func Replace(name string, write func(io.Writer) error) error {
	return place(name, write, false, os.Rename)
}

// ReplaceDurably is Replace for what must not be lost with the power: it waits for the disk.
func ReplaceDurably(name string, write func(io.Writer) error) error {
	return place(name, write, true, os.Rename)
}

// Create is Replace for who has to be the first: if there is a file, it stays, and the error is [os.ErrExist].
func Create(name string, write func(io.Writer) error) error {
	return place(name, write, false, os.Link)
}

// Bytes is what writes b.
func Bytes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

func place(name string, write func(io.Writer) error, durable bool, move func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone, if all went well
	b := bufio.NewWriterSize(f, 64<<10)
	err = errors.Join(write(b), b.Flush())
	if durable && err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return move(f.Name(), name)
}
