package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPolicy(t *testing.T) {
	const (
		any    = `[{"type":"insecureAcceptAnything"}]`
		reject = `[{"type":"reject"}]`
		signed = `[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]`
	)
	const digest = "@sha256:abababababababababababababababababababababababababababababababab"
	for name, tt := range map[string]struct {
		policy string
		ref    string
		want   string // part of the error; empty: allowed
	}{
		"anything":                      {`{"default":` + any + `}`, "python", ""},
		"reject":                        {`{"default":` + reject + `}`, "python", "rule default is reject"},
		"signed":                        {`{"default":` + signed + `}`, "python", `"signedBy", and signatures cannot be checked here`},
		"anything and signed":           {`{"default":[{"type":"insecureAcceptAnything"},{"type":"signedBy"}]}`, "python", "signedBy"},
		"sigstore":                      {`{"default":[{"type":"sigstoreSigned"}]}`, "python", "sigstoreSigned"},
		"host is not an image":          {`{"default":` + reject + `}`, "host", ""},
		"transport's default":           {`{"default":` + reject + `,"transports":{"docker":{"":` + any + `}}}`, "python", ""},
		"another transport's default":   {`{"default":` + reject + `,"transports":{"docker":{"":` + any + `}}}`, "oci:/x", "rule default is reject"},
		"docker-archive":                {`{"default":` + reject + `,"transports":{"docker-archive":{"":` + any + `}}}`, "docker-archive:/x", ""},
		"a registry":                    {`{"default":` + reject + `,"transports":{"docker":{"r.io":` + any + `}}}`, "r.io/a/b:1", ""},
		"a registry's name is expanded": {`{"default":` + reject + `,"transports":{"docker":{"docker.io/library":` + any + `}}}`, "python", ""},
		"not a part of a name":          {`{"default":` + reject + `,"transports":{"docker":{"r.io/a":` + any + `}}}`, "r.io/ab:1", "default is reject"},
		"the most specific":             {`{"default":` + any + `,"transports":{"docker":{"r.io":` + any + `,"r.io/a":` + reject + `}}}`, "r.io/a/b:1", `transports.docker."r.io/a" is reject`},
		"a tag":                         {`{"default":` + any + `,"transports":{"docker":{"r.io/a:1":` + reject + `}}}`, "r.io/a:1", `"r.io/a:1" is reject`},
		"another tag":                   {`{"default":` + any + `,"transports":{"docker":{"r.io/a:1":` + reject + `}}}`, "r.io/a:2", ""},
		"a digest":                      {`{"default":` + any + `,"transports":{"docker":{"r.io/a` + digest + `":` + reject + `}}}`, "r.io/a" + digest, "is reject"},
		"a wildcard":                    {`{"default":` + any + `,"transports":{"docker":{"*.io":` + reject + `}}}`, "x.r.io:5000/a:1", `"*.io" is reject`},
		"a host before a wildcard":      {`{"default":` + reject + `,"transports":{"docker":{"*.io":` + reject + `,"r.io:5000":` + any + `}}}`, "r.io:5000/a:1", ""},
		"a directory":                   {`{"default":` + any + `,"transports":{"oci":{"/tmp":` + reject + `}}}`, "oci:/tmp/x/y:t", `oci."/tmp" is reject`},
		"a file":                        {`{"default":` + any + `,"transports":{"oci-archive":{"/tmp/x.tar":` + reject + `}}}`, "oci-archive:/tmp/../tmp/x.tar", "is reject"},

		"empty file":         {``, "python", "no JSON object"},
		"not JSON":           {`default: x`, "python", "no JSON object"},
		"no default":         {`{}`, "python", "no default"},
		"default in capital": {`{"Default":` + any + `}`, "python", `unknown key "Default"`},
		"unknown key":        {`{"default":` + any + `,"x":1}`, "python", `unknown key "x"`},
		"key twice":          {`{"default":` + any + `,"default":` + reject + `}`, "python", `"default" twice`},
		"scope twice":        {`{"default":` + any + `,"transports":{"docker":{"r.io":` + reject + `,"r.io":` + any + `}}}`, "r.io/x", `"r.io" twice`},
		"rule is empty":      {`{"default":[]}`, "python", "is empty"},
		"rule is no list":    {`{"default":{"type":"insecureAcceptAnything"}}`, "python", "no list"},
		"rule is null":       {`{"default":null}`, "python", "is empty"},
		"no type":            {`{"default":[{}]}`, "python", "no type"},
		"more than a type":   {`{"default":[{"type":"insecureAcceptAnything","keyPath":"/k"}]}`, "python", "insecureAcceptAnything"},
		"type twice":         {`{"default":[{"type":"insecureAcceptAnything","type":"reject"}]}`, "python", `"type" twice`},
		"transports a list":  {`{"default":` + any + `,"transports":[]}`, "python", "transports: "},
		"scopes a list":      {`{"default":` + any + `,"transports":{"docker":[]}}`, "python", "transports.docker: "},
		"cut short":          {`{"default":` + any, "python", "no JSON"},
		"something behind":   {`{"default":` + any + `} {}`, "python", "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			etc := t.TempDir()
			file := filepath.Join(etc, "containers/policy.json")
			if err := writeTestFile(file, tt.policy); err != nil {
				t.Fatal(err)
			}
			ref, err := parseRef(tt.ref)
			if err != nil {
				t.Fatal(err)
			}
			err = checkPolicy(etc, ref)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file)):
				t.Errorf("got %v, want an error with %q and the file", err, tt.want)
			}
		})
	}
}

// TestPolicyFiles: the user's file is read instead of the system's; what cannot be read allows nothing; and a policy
// is for images in the cache too.
func TestPolicyFiles(t *testing.T) {
	home := isolate(t)
	l := newLayout(t)
	ref := l.index(l.image(testImage{layers: [][]byte{python(t)}}))
	s := registryStore(t)
	ensure := func() error {
		_, err := s.Ensure(t.Context(), ref)
		return err
	}
	if err := ensure(); err != nil {
		t.Errorf("no file at all: %v", err)
	}
	system, users := filepath.Join(s.etc, "containers/policy.json"), filepath.Join(home, ".config/containers/policy.json")
	if err := writeTestFile(system, `{"default":[{"type":"reject"}]}`); err != nil {
		t.Fatal(err)
	}
	wantError(t, ensure(), system, "default is reject")
	if err := writeTestFile(users, `{"default":[{"type":"insecureAcceptAnything"}]}`); err != nil {
		t.Fatal(err)
	}
	if err := ensure(); err != nil {
		t.Errorf("the user's: %v", err)
	}
	if err := os.Remove(users); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(users, 0o755); err != nil {
		t.Fatal(err)
	}
	wantError(t, ensure(), users, "not a regular file")
}

func TestPolicyScopes(t *testing.T) {
	ref, err := parseRef("a.b.c:5000/x/y:t")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a.b.c:5000/x/y:t", "a.b.c:5000/x/y", "a.b.c:5000/x", "a.b.c:5000", "*.b.c", "*.c"}
	if diff := cmp.Diff(want, policyScopes(ref)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
