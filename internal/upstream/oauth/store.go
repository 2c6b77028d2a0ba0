package oauth

import (
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
)

// grantVersion is of the format of the file.
const grantVersion = 1

// A grant is a login as it is kept. It has everything that renewing it takes, so that a token never goes to another
// issuer than the one that gave it, whatever the server says later.
type grant struct {
	Version            int      `json:"version"`
	URL                string   `json:"url"`
	Resource           string   `json:"resource"`
	Issuer             string   `json:"issuer"`
	TokenEndpoint      string   `json:"tokenEndpoint"`
	RevocationEndpoint string   `json:"revocationEndpoint,omitempty"`
	Client             client   `json:"client"`
	Scopes             []string `json:"scopes,omitempty"` // that were asked for
	Wanted             []string `json:"wanted,omitempty"` // that the server has asked for since
	Access             string   `json:"accessToken,omitempty"`
	Refresh            string   `json:"refreshToken,omitempty"`
	life
	configured bool // the client is one of the configuration, which keeps its secret
}

// A life is how long an access token is good, as far as that is known.
type life struct {
	Renew   time.Time `json:"renew,omitzero"`   // when to; zero: when the server refuses it
	Expires time.Time `json:"expires,omitzero"` // not used from then on
}

func (l life) fresh(now time.Time) bool { return l.Renew.IsZero() || now.Before(l.Renew) }
func (l life) good(now time.Time) bool  { return l.fresh(now) || now.Before(l.Expires) }

// tokens is the answer of a token endpoint.
type tokens struct {
	Access  string          `json:"access_token"`
	Type    string          `json:"token_type"`
	Refresh string          `json:"refresh_token"`
	Expires json.RawMessage `json:"expires_in"` // seconds; some write them as a text, and what is none says nothing
}

// check refuses what could not be sent.
func (t tokens) check() error {
	if !strings.EqualFold(t.Type, "bearer") {
		return errors.New("the authorization server gave no bearer token")
	}
	if t.Access == "" || strings.ContainsFunc(t.Access, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the authorization server gave a token that is none")
	}
	return nil
}

// life is that of the access token.
func (t tokens) life(now time.Time) life {
	seconds, err := strconv.ParseFloat(strings.Trim(string(t.Expires), `"`), 64)
	if err != nil || !(seconds > 0 && seconds < 1e9) {
		return life{}
	}
	span := time.Duration(seconds * float64(time.Second))
	return life{Renew: now.Add(span - min(span/4, time.Minute)), Expires: now.Add(span)}
}

// take puts new tokens in the place of old ones. A refresh token that is not replaced stays good (RFC 6749, 6).
func (g *grant) take(t tokens, now time.Time) error {
	if err := t.check(); err != nil {
		return err
	}
	g.Access, g.life = t.Access, life{}
	if t.Refresh != "" {
		g.Refresh = t.Refresh
	}
	if g.Refresh != "" { // else the server says when it has ended
		g.life = t.life(now)
	}
	return nil
}

// file is the name of a server's login. Each client of the configuration has its own.
func (s Server) file(dir string) string {
	sum := sha256.Sum256([]byte(s.URL + "\n" + s.ClientID))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
}

// mine refuses what is another user's or open to others.
func mine(info fs.FileInfo) error {
	if sys, ok := info.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return errors.New("it belongs to another user")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others have rights to it (mode %04o): chmod go= it, and log in again if they may have read it", info.Mode().Perm())
	}
	return nil
}

// checkDir makes the directory of the tokens, and refuses one that is not the user's alone.
func checkDir(dir string) error {
	if dir == "" {
		return errors.New("there is no place for tokens: neither HOME nor XDG_DATA_HOME is set")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err == nil {
		err = mine(info)
	}
	if err != nil {
		return fmt.Errorf("cannot keep tokens in %s: %w", dir, err)
	}
	return nil
}

// canKeep says why a login could not be kept in dir.
func canKeep(dir string) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".login-*")
	if err == nil {
		defer os.Remove(f.Name())
		_, err = f.Write(make([]byte, 16<<10)) // larger than most
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot keep tokens in %s: %w", dir, err)
	}
	return nil
}

// read reads a login; fs.ErrNotExist if there is none.
func read(s Server, dir string) (_ *grant, err error) {
	if dir == "" {
		return nil, fs.ErrNotExist
	}
	name := s.file(dir)
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a login: %w", err)
	}
	defer f.Close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot use the login in %s: %w", name, err)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	if err := mine(info); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, 2*maxBody+1))
	if err != nil {
		return nil, err
	}
	var g grant
	if len(content) > 2*maxBody || json.Unmarshal(content, &g) != nil || g.Version != grantVersion || g.URL != s.URL {
		return nil, errors.New("it is not what this version has written for that server: log in again")
	}
	if s.ClientID != "" {
		g.configured, g.Client.Secret = true, s.ClientSecret
	}
	return &g, nil
}

// write replaces a login, on the disk, at once or not at all: a refresh token that was used is worth nothing.
func (g *grant) write(name string) error {
	kept := *g
	if g.configured {
		kept.Client.Secret = ""
	}
	content, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.ReplaceDurably(name, atomicfile.Bytes(append(content, '\n')))
}

// lockPatience is longer than a renewal takes. Who holds the lock of a login for so long has been stopped, or is one of several
// that get no answer; they give way to a new login when they have one (renew).
var lockPatience = 35 * time.Second // but for the tests

// keep puts a new login in the place of the one before.
func (g *grant) keep(ctx context.Context, s Server, dir string) error {
	within, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	err := locked(within, s, dir, g.write)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return g.write(s.file(dir)) // the user has gone to some pains
	}
	return err
}

// locked runs f while no other bridge changes the login.
func locked(ctx context.Context, s Server, dir string, f func(file string) error) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	name := s.file(dir)
	lock, err := os.OpenFile(strings.TrimSuffix(name, ".json")+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks it
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f(name)
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("cannot lock a login: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
