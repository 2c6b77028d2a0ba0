package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
)

// Trust is what stands between the files of a project and the programs that they would start.
type Trust string

// The kinds of trust. Without files that name servers there is nothing to trust, and Trust is empty.
const (
	Untrusted Trust = "untrusted" // the user has not been asked
	Changed   Trust = "changed"   // what the files say is not what the user has trusted
	Granted   Trust = "trusted"
	ByEnv     Trust = "trusted by " + EnvTrustProject
)

// Used says that the servers of the project are used.
func (t Trust) Used() bool { return t == Granted || t == ByEnv }

// Project is the directory that the bridge was started for, and what its files say.
type Project struct {
	Dir     string // without symbolic links
	Files   []string
	Entries []Server // what those files name; of each only Name, Host, File and Shown
	Trust   Trust
	// Fingerprint is of all that is read of those files. Comments, and settings of other things, do not change it.
	Fingerprint string
}

// project is the directory that a client has opened: Claude Code says it, and the others start their servers there. Where
// that is nowhere, paths begin at the root.
func (h Host) project() (dir, real string) {
	dir = cmp.Or(h.Cwd, "/")
	if p := h.Getenv("CLAUDE_PROJECT_DIR"); filepath.IsAbs(p) {
		dir = filepath.Clean(p)
	}
	return dir, h.real(dir)
}

func (h Host) real(dir string) string {
	if h.Real != nil {
		if real, err := h.Real(dir); err == nil {
			return real
		}
	}
	return dir
}

// ProjectAt reads what the files of a directory say, without making servers of it.
func ProjectAt(h Host, dir string) (Project, []Problem) {
	i := newImporter(h)
	i.project, i.real = dir, h.real(dir)
	i.dirs = h.claudeDirs(i.project, i.real)
	all := sources()
	for _, s := range all { // what is the user's is not the project's
		for _, pattern := range s.user {
			for _, p := range h.place(pattern, dir) {
				names, _ := glob(h.Files, p) // what cannot be listed cannot be read either
				for _, name := range names {
					i.read[name] = true
				}
			}
		}
	}
	i.projectFiles(all)
	return i.d.Project, i.d.Problems
}

type projectFile struct {
	loaded
	items []item
}

// projectFiles reads the project's files.
func (i *importer) projectFiles(all []source) (list []projectFile) {
	i.d.Project.Dir = i.real
	sum := sha256.New()
	for _, s := range all {
		for _, f := range i.files(s, s.project) {
			items := i.items(f)
			if len(items) == 0 {
				continue
			}
			list = append(list, projectFile{f, items})
			rel, err := filepath.Rel(i.project, f.file)
			doc, err2 := json.Marshal([]any{rel, f.doc})
			if err := errors.Join(err, err2); err != nil {
				panic("internal error: cannot hash a document: " + err.Error())
			}
			sum.Write(append(doc, '\n'))
			i.d.Project.Files = append(i.d.Project.Files, f.file)
			for _, it := range items {
				i.d.Project.Entries = append(i.d.Project.Entries, Server{Name: it.name, Host: f.host, File: f.file, Shown: wholeOf(it.value)})
			}
		}
	}
	if list != nil {
		i.d.Project.Fingerprint = hex.EncodeToString(sum.Sum(nil))
	}
	return list
}

// useProject makes servers of the project's files, if the user trusts them.
func (i *importer) useProject(all []source) {
	list := i.projectFiles(all)
	p := &i.d.Project
	switch {
	case len(list) == 0:
		return
	case i.c.TrustProject:
		p.Trust = ByEnv
	default:
		trusted, err := ReadTrusted(i.h)
		if err != nil {
			i.problem(i.h.TrustFile(), "cannot be read, so no directory is trusted: %s", cause(err))
		}
		p.Trust = trusted.state(p.Dir, p.Fingerprint)
	}
	for _, f := range list {
		if i.given[f.file] {
			continue // its servers are there already
		}
		i.f, i.mine = f.loaded, false
		if p.Trust.Used() {
			i.useItems(f.items)
			continue
		}
		reason := "the directory is not trusted"
		if p.Trust == Changed {
			reason = "its configuration has changed since the directory was trusted"
		}
		for _, it := range f.items {
			if why := badName(it.name); why != "" {
				i.problem(f.file, "an MCP server cannot be used, because %s: %.150q", why, it.name)
				continue
			}
			i.d.Passed = append(i.d.Passed, Passed{Server{Name: it.name, Host: f.host, File: f.file, Shown: shownOf(it.value)}, reason})
		}
	}
}

// Trusted are the directories whose files may name servers: the fingerprint of each.
type Trusted map[string]string

func (t Trusted) state(dir, fingerprint string) Trust {
	switch t[dir] {
	case "":
		return Untrusted
	case fingerprint:
		return Granted
	}
	return Changed
}

const maxTrusted = 1 << 20

// TrustFile is where the trusted directories are kept, empty if there is no such place. It is never below the current
// directory, as the state is: a project could bring its own.
func (h Host) TrustFile() string { return h.xdg("XDG_CONFIG_HOME", ".config", "trusted.json") }

type trustFile struct {
	Version     int     `json:"version"`
	Directories Trusted `json:"directories"`
}

// ReadTrusted reads which directories the user has trusted. A file that others may have written is not believed.
func ReadTrusted(h Host) (Trusted, error) {
	name := h.TrustFile()
	if name == "" {
		return nil, nil
	}
	b, st, err := readFile(h.Files, name, maxTrusted)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if uid, ok := ownerOf(st); ok && uid != h.UID {
		return nil, fmt.Errorf("it belongs to user %d, not to %d", uid, h.UID)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("others may write to it (mode %04o): chmod 600 it", st.Mode().Perm())
	}
	var f trustFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("its version is %d, and this program knows version 1", f.Version)
	}
	return f.Directories, nil
}

// UpdateTrusted changes which directories are trusted: on the disk, at once or not at all, one after the other.
func UpdateTrusted(h Host, change func(Trusted)) (err error) {
	name := h.TrustFile()
	if name == "" {
		return errors.New("cannot keep what is trusted: neither HOME nor XDG_CONFIG_HOME is set")
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot change %s: %w", name, err)
		}
	}()
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "trusted.lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	trusted, err := ReadTrusted(h)
	if err != nil {
		return err
	}
	trusted = maps.Clone(trusted)
	if trusted == nil {
		trusted = make(Trusted)
	}
	change(trusted)
	b, err := json.MarshalIndent(trustFile{1, trusted}, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.ReplaceDurably(name, atomicfile.Bytes(append(b, '\n')))
}

// Dirs are the trusted directories in order.
func (t Trusted) Dirs() []string { return slices.Sorted(maps.Keys(t)) }
