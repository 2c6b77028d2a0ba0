package upstream

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// catalogVersion is of the format of a catalog file. Others are removed.
const catalogVersion = 1

// Bounds of a catalog file, and how long one is kept that nobody has written again.
const (
	maxHead    = 16 << 10
	maxFile    = 2 * maxCatalog
	catalogAge = 180 * 24 * time.Hour
)

// A head is the first line of a catalog file: what a list of servers needs.
type head struct {
	Version     int    `json:"version"`
	Modern      bool   `json:"modern,omitempty"`
	Description string `json:"description,omitempty"`
	Tools       int    `json:"tools"`
}

// A record is its second line.
type record struct {
	Tools []Tool `json:"tools"`
}

// A catalogDir is the directory with one file for each configuration of a server. The name of a file is a keyed hash of
// the configuration: other arguments or another token may mean another catalog, and the hash tells nobody what they
// are. Several bridges may share a directory.
type catalogDir struct {
	dir string
	log *slog.Logger

	once sync.Once
	key  []byte
	err  error
}

// file is the name of a server's catalog.
func (d *catalogDir) file(s config.Server) (string, error) {
	if d.dir == "" {
		return "", fs.ErrNotExist
	}
	d.once.Do(func() { d.key, d.err = d.readKey() })
	if d.err != nil {
		return "", d.err
	}
	identity, err := json.Marshal([]any{s.Transport, s.Command, s.Args, s.Env, s.Dir, s.URL, s.Headers, s.OAuth})
	if err != nil {
		return "", err
	}
	h := hmac.New(sha256.New, d.key)
	h.Write(identity)
	return filepath.Join(d.dir, hex.EncodeToString(h.Sum(nil)[:16])+".jsonl"), nil
}

// readKey reads the key, or makes one.
func (d *catalogDir) readKey() ([]byte, error) {
	const size = 32
	name := filepath.Join(d.dir, "key")
	for range 2 {
		f, err := openRegular(name)
		if err == nil {
			key := make([]byte, size)
			_, err = io.ReadFull(f, key)
			f.Close()
			if err == nil {
				return key, nil
			}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			d.remove(name, err)
		}
		key := make([]byte, size)
		_, _ = rand.Read(key) // it never fails
		if err := os.MkdirAll(d.dir, 0o700); err != nil {
			return nil, err
		}
		err = atomicfile.Create(name, atomicfile.Bytes(key))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		// Read it again: another bridge may have been first.
	}
	return nil, fmt.Errorf("cannot read %s", name)
}

// open opens a catalog and reads its head. One that is not good is removed.
func (d *catalogDir) open(s config.Server) (f *os.File, r *bufio.Reader, h head, ok bool) {
	name, err := d.file(s)
	if err != nil {
		return nil, nil, head{}, false
	}
	f, err = openRegular(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, head{}, false
	}
	if err == nil {
		r = bufio.NewReaderSize(f, maxHead)
		var line []byte
		if line, err = r.ReadSlice('\n'); err == nil {
			err = json.Unmarshal(line, &h)
		}
		if err == nil && (h.Version != catalogVersion || h.Tools < 0 || len(h.Description) > 2*maxDescription) {
			err = errors.New("not written by this version")
		}
		if err == nil {
			return f, r, h, true
		}
		f.Close()
	}
	d.remove(name, err)
	return nil, nil, head{}, false
}

func (d *catalogDir) head(s config.Server) *head {
	f, _, h, ok := d.open(s)
	if !ok {
		return nil
	}
	f.Close()
	return &h
}

func (d *catalogDir) read(s config.Server) (head, record, bool) {
	f, b, h, ok := d.open(s)
	if !ok {
		return head{}, record{}, false
	}
	defer f.Close()
	var r record
	content, err := io.ReadAll(io.LimitReader(b, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = errors.New("too long")
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err == nil && !r.valid(h) {
		err = errors.New("its head and its tools do not agree")
	}
	if err != nil {
		d.remove(f.Name(), err)
		return head{}, record{}, false
	}
	return h, r, true
}

// write replaces a server's catalog.
func (d *catalogDir) write(s config.Server, h head, r record) error {
	if d.dir == "" {
		return nil
	}
	name, err := d.file(s)
	if err != nil {
		return err
	}
	h.Version = catalogVersion
	if r.Tools == nil {
		r.Tools = []Tool{}
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	d.sweep()
	return atomicfile.Replace(name, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false) // schemas are kept as they are
		if err := e.Encode(h); err != nil {
			return err
		}
		return e.Encode(r)
	})
}

// openRegular opens a file that is one: no link out of the directory, no pipe that never ends.
func openRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, errors.New("not a regular file"))
	}
	return f, nil
}

func (d *catalogDir) remove(name string, why error) {
	d.log.Warn("a catalog is removed: it cannot be read", "file", name, "error", why)
	if err := os.RemoveAll(name); err != nil {
		d.log.Warn("cannot remove a catalog", "error", err)
	}
}

// sweep removes what is old, and what a bridge left that died while it wrote.
func (d *catalogDir) sweep() {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		age := time.Since(info.ModTime())
		if strings.HasSuffix(e.Name(), ".jsonl") && age > catalogAge || strings.HasPrefix(e.Name(), "new-") && age > time.Hour {
			_ = os.Remove(filepath.Join(d.dir, e.Name())) // another bridge may have been first
		}
	}
}
