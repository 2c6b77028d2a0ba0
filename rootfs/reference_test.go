package rootfs

import (
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	d := "sha256:" + strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"host":                                 "host  ",
		"oci:dir":                              "oci dir ",
		"oci:/a/b:r.io/x:3":                    "oci /a/b r.io/x:3",
		"oci-archive:f.tar:t":                  "oci-archive f.tar t",
		"docker-archive:f.tar:a/b:1":           "docker-archive f.tar a/b:1",
		"python":                               "docker docker.io/library/python:latest",
		"python:3.12-slim":                     "docker docker.io/library/python:3.12-slim",
		"docker://python:3.12-slim":            "docker docker.io/library/python:3.12-slim",
		"docker:24":                            "docker docker.io/library/docker:24",
		"hostess":                              "docker docker.io/library/hostess:latest",
		"index.docker.io/python":               "docker docker.io/library/python:latest",
		"a/b":                                  "docker docker.io/a/b:latest",
		"ghcr.io/x/y@" + d:                     "docker ghcr.io/x/y@" + d,
		"ghcr.io/x/y:tag@" + d:                 "docker ghcr.io/x/y@" + d,
		"localhost:5000/x:1":                   "docker localhost:5000/x:1",
		"[::1]:5000/x:1":                       "", // the grammar of containers/image has no IPv6: localhost is the name
		"r.io/x@sha512:" + d[7:] + d[7:]:       "docker r.io/x@sha512:" + d[7:] + d[7:],
		"docker://docker://x":                  "",
		"ghcr.io/x/y@md5:" + d[7:39]:           "",
		"Ghcr.io/X/y":                          "",
		"x\ny":                                 "",
		"x@" + d + "00":                        "",
		"containers-storage:localhost/x":       "",
		strings.Repeat("a", 300) + "/" + "x:1": "",
	} {
		r, err := parseRef(text)
		got := r.kind + " " + r.path + " " + r.tag
		if r.name != nil {
			got = r.kind + " " + r.name.String()
		}
		if want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
		if (Supported(text) == nil) != (want != "") {
			t.Errorf("%q: Supported says %v", text, Supported(text))
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, seed := range []string{"host", "oci:a:b", "python:3", "docker://r.io:5/x@sha256:00", "docker-archive:x:y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRef(text)
		if err != nil {
			return
		}
		if r.kind == kindRegistry {
			again, err := parseRef(r.name.String())
			if err != nil || again.name.String() != r.name.String() {
				t.Errorf("%q became %q, which becomes %v, %v", text, r.name, again.name, err)
			}
			memoFile(memoKey(r.name))
		}
		policyScopes(r)
	})
}
