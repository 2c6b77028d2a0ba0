package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/types"
)

func TestFindLogin(t *testing.T) {
	user := func(name string) types.DockerAuthConfig { return types.DockerAuthConfig{Username: name, Password: "p"} }
	// base64 of NAME:p
	const a, b = "YTpw", "Yjpw"
	const files = "containers-auth.json"
	tests := map[string]struct {
		files   map[string]string // below HOME
		helpers map[string]string // name: script
		env     map[string]string
		conf    []string // credential-helpers of registries.conf
		image   string
		want    types.DockerAuthConfig
		from    string // a part
		problem string // a part
	}{
		"nothing":           {},
		"docker":            {files: map[string]string{".docker/config.json": `{"auths":{"r.io":{"auth":"` + a + `"}}}`}, want: user("a"), from: ".docker/config.json"},
		"podman":            {files: map[string]string{".config/containers/auth.json": `{"auths":{"r.io":{"auth":"` + a + `"}}}`}, want: user("a")},
		"podman, logged in": {files: map[string]string{"run/containers/auth.json": `{"auths":{"r.io":{"auth":"` + a + `"}}}`}, want: user("a")},
		"podman before docker": {files: map[string]string{
			".docker/config.json":          `{"auths":{"r.io":{"auth":"` + b + `"}}}`,
			".config/containers/auth.json": `{"auths":{"r.io":{"auth":"` + a + `"}}}`,
		}, want: user("a")},
		"DOCKER_CONFIG": {
			files: map[string]string{"d/config.json": `{"auths":{"r.io":{"auth":"` + a + `"}}}`, ".docker/config.json": `{"auths":{"r.io":{"auth":"` + b + `"}}}`},
			env:   map[string]string{"DOCKER_CONFIG": "d"}, want: user("a"),
		},
		"REGISTRY_AUTH_FILE": {
			files: map[string]string{"f": `{"auths":{"r.io":{"auth":"` + a + `"}}}`, ".config/containers/auth.json": `{"auths":{"r.io":{"auth":"` + b + `"}}}`},
			env:   map[string]string{"REGISTRY_AUTH_FILE": "f"}, want: user("a"),
		},
		"REGISTRY_AUTH_FILE alone": {
			files: map[string]string{"f": `{}`, ".config/containers/auth.json": `{"auths":{"r.io":{"auth":"` + b + `"}}}`},
			env:   map[string]string{"REGISTRY_AUTH_FILE": "f"},
		},
		"of a part of the path": {files: map[string]string{".docker/config.json": `{"auths":{"r.io":{"auth":"` + b + `"},"r.io/ns":{"auth":"` + a + `"},"r.io/n":{"auth":"` + b + `"}}}`}, want: user("a")},
		"another registry":      {files: map[string]string{".docker/config.json": `{"auths":{"r.io:443":{"auth":"` + a + `"},"xr.io":{"auth":"` + a + `"},"https://xr.io/v1":{"auth":"` + a + `"}}}`}},
		"an old URL":            {files: map[string]string{".docker/config.json": `{"auths":{"https://r.io/v1/":{"auth":"` + a + `"}}}`}, want: user("a")},
		"Docker Hub":            {image: "python", files: map[string]string{".docker/config.json": `{"auths":{"https://index.docker.io/v1/":{"auth":"` + a + `"}}}`}, want: user("a")},
		"Docker Hub, podman":    {image: "python", files: map[string]string{".config/containers/auth.json": `{"auths":{"docker.io":{"auth":"` + a + `"}}}`}, want: user("a")},
		"an identity token":     {files: map[string]string{".docker/config.json": `{"auths":{"r.io":{"identitytoken":"t"}}}`}, want: types.DockerAuthConfig{IdentityToken: "t"}},
		"credsStore": {
			files:   map[string]string{".docker/config.json": `{"auths":{"r.io":{}},"credsStore":"desktop"}`},
			helpers: map[string]string{"desktop": `read s; [ "$1 $s" = "get r.io" ] && echo '{"ServerURL":"r.io","Username":"a","Secret":"p"}'`}, want: user("a"),
		},
		"credsStore, Docker Hub": {
			image:   "python",
			files:   map[string]string{".docker/config.json": `{"credsStore":"desktop"}`},
			helpers: map[string]string{"desktop": `read s; [ "$s" = "https://index.docker.io/v1/" ] && echo '{"Username":"a","Secret":"p"}'`}, want: user("a"),
		},
		"credHelpers before credsStore": {
			files:   map[string]string{".docker/config.json": `{"credHelpers":{"r.io":"one"},"credsStore":"two"}`},
			helpers: map[string]string{"one": `echo '{"Username":"<token>","Secret":"t"}'`, "two": `exit 1`}, want: types.DockerAuthConfig{IdentityToken: "t"},
		},
		"credHelpers of another registry": {
			files:   map[string]string{".docker/config.json": `{"credHelpers":{"s.io":"one"}}`},
			helpers: map[string]string{"one": `echo '{"Username":"a","Secret":"p"}'`},
		},
		"a helper without it, the file has it": {
			files:   map[string]string{".docker/config.json": `{"auths":{"r.io":{"auth":"` + a + `"}},"credsStore":"x"}`},
			helpers: map[string]string{"x": `echo credentials not found in native keychain; exit 1`}, want: user("a"),
		},
		"a helper without it": {
			files:   map[string]string{".docker/config.json": `{"credsStore":"x"}`},
			helpers: map[string]string{"x": `echo credentials not found in native keychain; exit 1`},
		},
		"a helper of registries.conf": {conf: []string{"x", files}, helpers: map[string]string{"x": `echo '{"Username":"a","Secret":"p"}'`}, want: user("a"), from: "docker-credential-x"},
		"a helper that is missing":    {files: map[string]string{".docker/config.json": `{"credsStore":"x"}`}, problem: "docker-credential-x is not installed"},
		"a helper that fails": {
			files:   map[string]string{".docker/config.json": `{"credsStore":"x"}`},
			helpers: map[string]string{"x": `echo geheim; echo geheim >&2; exit 3`}, problem: "docker-credential-x failed: exit status 3",
		},
		"a helper that says something else": {
			files:   map[string]string{".docker/config.json": `{"credsStore":"x"}`},
			helpers: map[string]string{"x": `echo geheim`}, problem: "something else than a login",
		},
		"a helper without an end": {
			files:   map[string]string{".docker/config.json": `{"credsStore":"x"}`},
			helpers: map[string]string{"x": `yes geheim`}, problem: "more than 65536 bytes",
		},
		"a helper elsewhere":      {files: map[string]string{".docker/config.json": `{"credsStore":"../../x"}`}, problem: "no name of a credential helper"},
		"a damaged file":          {files: map[string]string{".docker/config.json": `{"auths":{"r.io":"geheim"`}, problem: ".docker/config.json: it is no JSON"},
		"a damaged login":         {files: map[string]string{".docker/config.json": `{"auths":{"r.io":{"auth":"?geheim"}}}`}, problem: "not base64"},
		"a login without a colon": {files: map[string]string{".docker/config.json": `{"auths":{"r.io":{"auth":"Z2VoZWlt"}}}`}, problem: "not USER:PASSWORD"},
		"a damaged file, and a good one": {
			files: map[string]string{".config/containers/auth.json": `{`, ".docker/config.json": `{"auths":{"r.io":{"auth":"` + a + `"}}}`}, want: user("a"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			home := isolate(t)
			bin := t.TempDir()
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			for name, value := range tt.env {
				t.Setenv(name, filepath.Join(home, value))
			}
			for name, body := range tt.files {
				if err := writeTestFile(filepath.Join(home, name), body); err != nil {
					t.Fatal(err)
				}
			}
			for name, script := range tt.helpers {
				if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			image := tt.image
			if image == "" {
				image = "r.io/ns/x"
			}
			parsed, err := parseName(image)
			if err != nil {
				t.Fatal(err)
			}
			if tt.conf == nil {
				tt.conf = []string{files}
			}
			l := findLogin(t.Context(), parsed, tt.conf)
			if l.DockerAuthConfig != tt.want || !strings.Contains(l.from, tt.from) {
				t.Errorf("got %+v", l)
			}
			if tt.problem == "" && l.problem != "" || !strings.Contains(l.problem, tt.problem) || strings.Contains(l.problem, "geheim") {
				t.Errorf("problem %q, want %q", l.problem, tt.problem)
			}
		})
	}
}
