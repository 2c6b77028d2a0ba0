package rootfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	dref "github.com/containers/image/v5/docker/reference"
)

// policy.json(5) says which images may be used, and whose signatures they need. Checking signatures needs gpg or
// sigstore, which are 13 MB and 15 ms of each container's start; so the file is read for one question only: does the
// rule for this image accept anything? Any other rule refuses the image, for it cannot be kept here. So does a file
// that cannot be read or understood. Without a file everything is accepted: that is what podman's packages install.

// maxPolicy is the size of a policy.json, of a file with logins, of a docker configuration.
const maxPolicy = 4 << 20

const acceptAnything = "insecureAcceptAnything"

// checkPolicy returns nil if an image may be used. etc is /etc, but for tests.
func checkPolicy(etc string, ref reference) error {
	if ref.kind == kindHost {
		return nil // not an image that anybody made
	}
	for _, file := range policyFiles(etc) {
		b, err := readBounded(file, maxPolicy)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = applyPolicy(b, ref)
		}
		if err != nil {
			return fmt.Errorf("the policy %s does not allow it: %w", file, err)
		}
		return nil
	}
	return nil
}

// policyFiles are where a policy may be; the first that is there counts.
func policyFiles(etc string) []string {
	return []string{filepath.Join(homeDir(), ".config/containers/policy.json"), filepath.Join(etc, "containers/policy.json")}
}

func applyPolicy(b []byte, ref reference) error {
	policy, err := strictObject(b)
	if err != nil {
		return err
	}
	for key := range policy {
		if key != "default" && key != "transports" {
			return fmt.Errorf("it has the unknown key %q", key)
		}
	}
	rule, where := policy["default"], "default"
	if rule == nil {
		return errors.New("it has no default")
	}
	if transports, ok := policy["transports"]; ok {
		byKind, err := strictObject(transports)
		if err != nil {
			return fmt.Errorf("transports: %w", err)
		}
		if scopes, ok := byKind[ref.kind]; ok {
			byScope, err := strictObject(scopes)
			if err != nil {
				return fmt.Errorf("transports.%s: %w", ref.kind, err)
			}
			for _, scope := range append(policyScopes(ref), "") {
				if r, ok := byScope[scope]; ok {
					rule, where = r, fmt.Sprintf("transports.%s.%q", ref.kind, scope)
					break
				}
			}
		}
	}
	if err := acceptsAnything(rule); err != nil {
		return fmt.Errorf("its rule %s %w", where, err)
	}
	return nil
}

// acceptsAnything reads a rule: a list of requirements which all have to be met.
func acceptsAnything(rule []byte) error {
	var requirements []json.RawMessage
	if err := json.Unmarshal(rule, &requirements); err != nil {
		return fmt.Errorf("is no list of requirements: %w", err)
	}
	if len(requirements) == 0 {
		return errors.New("is empty")
	}
	for _, r := range requirements {
		requirement, err := strictObject(r)
		if err != nil {
			return err
		}
		var kind string
		if err := json.Unmarshal(requirement["type"], &kind); err != nil {
			return errors.New("has no type")
		}
		if kind == "reject" {
			return errors.New("is reject")
		}
		if kind != acceptAnything || len(requirement) != 1 {
			return fmt.Errorf("is %q, and signatures cannot be checked here: allow it with %s, or use an image that another tool has checked and saved", kind, acceptAnything)
		}
	}
	return nil
}

// policyScopes are what the rules for an image may stand under, the most specific first.
func policyScopes(ref reference) (scopes []string) {
	switch ref.kind {
	case kindRegistry:
		scopes = append([]string{ref.name.String()}, andAbove(ref.name.Name())...)
		// Then *.example.com and *.com, without the port.
		domain, _, _ := strings.Cut(dref.Domain(ref.name), ":")
		for {
			_, rest, ok := strings.Cut(domain, ".")
			if !ok {
				return scopes
			}
			domain = rest
			scopes = append(scopes, "*."+domain)
		}
	case kindLayout, kindArchive:
		path := fullPath(ref.path)
		for path != "/" && path != "." {
			scopes = append(scopes, path)
			path = filepath.Dir(path)
		}
	}
	return scopes // docker-archive has none but ""
}

// fullPath resolves links, because the policy is about the file and not about one of its names.
func fullPath(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path
}

// strictObject splits a JSON object. encoding/json would take the last of two equal keys and does not care about
// their case; of a policy, two programs would read different things.
func strictObject(b []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	object := make(map[string]json.RawMessage)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, errors.New("it is no JSON object")
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("it has the key %q twice", key)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		object[key] = slices.Clone(value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if dec.More() {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

// homeDir is the user's, also where HOME is not set, as under some service managers.
func homeDir() string {
	if home, err := os.UserHomeDir(); err == nil {
		return home
	}
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return "/nonexistent"
}
