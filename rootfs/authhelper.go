package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/containers/image/v5/types"
)

// Bounds on a credential helper. One that asks its user to unlock a keyring may take a while.
const (
	helperTime   = 30 * time.Second
	maxHelperOut = 64 << 10
)

// askHelper runs docker-credential-NAME get. No login at all is not an error.
func askHelper(ctx context.Context, name, domain string) (login, error) {
	if name == "" || strings.Trim(name, helperChars) != "" || strings.HasPrefix(name, ".") {
		return login{}, fmt.Errorf("%.40q is no name of a credential helper", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	servers := []string{domain}
	if domain == dockerHub {
		servers = []string{"https://index.docker.io/v1/", dockerHub} // docker's name for it, and podman's
	}
	for _, server := range servers {
		l, err := runHelper(ctx, "docker-credential-"+name, server)
		if err != nil || l.known() {
			return l, err
		}
	}
	return login{}, nil
}

const helperChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func runHelper(ctx context.Context, program, server string) (login, error) {
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.WaitDelay = time.Second // for a grandchild that keeps the pipe
	out := &bounded{max: maxHelperOut}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		switch {
		case errors.Is(err, exec.ErrNotFound):
			return login{}, fmt.Errorf("the credential helper %s is not installed", program)
		case out.over:
			return login{}, fmt.Errorf("the credential helper %s answered more than %d bytes", program, maxHelperOut)
		case ctx.Err() != nil:
			return login{}, fmt.Errorf("the credential helper %s did not answer: %w", program, ctx.Err())
		case strings.Contains(out.buf.String(), "credentials not found"): // the protocol's way to say so
			return login{}, nil
		}
		return login{}, fmt.Errorf("the credential helper %s failed: %v", program, err) // its output may be a secret
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.buf.Bytes(), &answer); err != nil {
		return login{}, fmt.Errorf("the credential helper %s answered something else than a login", program)
	}
	if answer.Username == "<token>" {
		return login{DockerAuthConfig: types.DockerAuthConfig{IdentityToken: answer.Secret}}, nil
	}
	return login{DockerAuthConfig: types.DockerAuthConfig{Username: answer.Username, Password: answer.Secret}}, nil
}
