package rootfs

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	dref "github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/types"
)

// Logins are looked up where podman and docker keep them. We do it and not containers/image, because it knows no
// credsStore (what Docker Desktop sets), and waits for a credential helper for ever. Nothing here may put a secret
// into an error: they are shown and logged.

// A login is what a registry is told; the zero value is nobody. problem says why one that may exist could not be had:
// a public image needs none, so that is an error only once the registry insists.
type login struct {
	types.DockerAuthConfig
	from    string // a file, for humans
	problem string
}

func (l login) known() bool { return l.DockerAuthConfig != types.DockerAuthConfig{} }

// An authFile is what we read of docker's config.json and podman's auth.json.
type authFile struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

// findLogin looks for the login for a repository, in the order podman does. helpers are the credential-helpers of
// registries.conf; one of them stands for the files.
func findLogin(ctx context.Context, name dref.Named, helpers []string) login {
	var problems []string
	for _, helper := range helpers {
		if helper == sysregistriesv2.AuthenticationFileHelper {
			l := loginFromFiles(ctx, name)
			if l.known() {
				return l
			}
			if l.problem != "" {
				problems = append(problems, l.problem)
			}
			continue
		}
		l, err := askHelper(ctx, helper, dref.Domain(name))
		if l.known() {
			l.from = "docker-credential-" + helper
			return l
		}
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	return login{problem: strings.Join(problems, "; ")}
}

func loginFromFiles(ctx context.Context, name dref.Named) login {
	var problems []string
	for _, path := range authFiles() {
		l, err := loginFromFile(ctx, path, name)
		if err != nil {
			problems = append(problems, fmt.Sprintf("cannot use the logins of %s: %v", path, err))
		}
		if l.known() {
			l.from = path
			return l
		}
	}
	return login{problem: strings.Join(problems, "; ")}
}

// authFiles are where logins may be. REGISTRY_AUTH_FILE is instead of all others.
func authFiles() []string {
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		return []string{f}
	}
	home := homeDir()
	return []string{
		filepath.Join(cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), "/run/containers/"+strconv.Itoa(os.Getuid())), "containers/auth.json"),
		filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "containers/auth.json"),
		filepath.Join(cmp.Or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker")), "config.json"),
	}
}

func loginFromFile(ctx context.Context, path string, name dref.Named) (login, error) {
	b, err := readBounded(path, maxPolicy)
	if errors.Is(err, fs.ErrNotExist) {
		return login{}, nil
	}
	if err != nil {
		return login{}, err
	}
	var f authFile
	if err := json.Unmarshal(b, &f); err != nil {
		return login{}, errors.New("it is no JSON of the right form") // the decoder's error may quote it
	}
	domain := dref.Domain(name)

	// As docker does: what a helper has wins over the file.
	var problem error
	if helper := cmp.Or(f.CredHelpers[domain], f.CredsStore); helper != "" {
		l, err := askHelper(ctx, helper, domain)
		if err == nil && l.known() {
			return l, nil
		}
		problem = err
	}
	for _, key := range authKeys(name) {
		if a, ok := f.Auths[key]; ok {
			if l, err := decodeAuth(a.Auth, a.IdentityToken); l.known() || err != nil {
				return l, errors.Join(err, problem)
			}
		}
	}
	// Old docker kept URLs.
	for key, a := range f.Auths {
		host := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		if host == key {
			continue
		}
		if host, _, _ = strings.Cut(host, "/"); sameRegistry(host, domain) {
			if l, err := decodeAuth(a.Auth, a.IdentityToken); l.known() || err != nil {
				return l, errors.Join(err, problem)
			}
		}
	}
	return login{}, problem
}

// authKeys are what a login may stand under: podman allows one per repository or part of its path.
func authKeys(name dref.Named) []string {
	keys := andAbove(name.Name())
	if dref.Domain(name) == dockerHub {
		keys = append(keys, "index.docker.io", "registry-1.docker.io")
	}
	return keys
}

// andAbove is a name and what it is below of: a/b/c, a/b and a.
func andAbove(name string) (names []string) {
	for {
		names = append(names, name)
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return names
		}
		name = name[:i]
	}
}

const dockerHub = "docker.io"

func sameRegistry(host, domain string) bool {
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = dockerHub
	}
	return host == domain
}

// decodeAuth reads base64(user:password). Docker leaves it empty where a helper has the secret.
func decodeAuth(auth, identityToken string) (login, error) {
	l := login{DockerAuthConfig: types.DockerAuthConfig{IdentityToken: identityToken}}
	if auth == "" {
		return l, nil
	}
	b, err := base64.StdEncoding.DecodeString(auth)
	if err != nil {
		return login{}, errors.New("an auth in it is not base64")
	}
	name, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return login{}, errors.New("an auth in it is not USER:PASSWORD")
	}
	l.Username, l.Password = name, strings.Trim(password, "\x00")
	return l, nil
}
