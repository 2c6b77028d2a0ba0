package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// An EngineImage is an image that an engine keeps.
type EngineImage struct {
	ID     string   // of its content; what a container is run of
	Python string   // absolute path in it
	Env    []string // its own environment
}

// findPython says which Python an image has, and its version.
const findPython = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2], sep='\\n')"

// Image is the image that ref stands for; it is pulled if it is not there, or if again is set. What goes on is told as
// it comes.
func (e *Engine) Image(ctx context.Context, ref string, again bool, tell func(string)) (EngineImage, error) {
	if tell == nil {
		tell = func(string) {}
	}
	kind, _, _ := strings.Cut(ref, ":")
	if slices.Contains([]string{"oci", "oci-archive", "docker-archive"}, kind) || ref == "host" {
		return EngineImage{}, &oci.HostError{
			Missing: fmt.Sprintf("%s keeps its own images here, and cannot be given %s", e.opts.Kind, ref),
			Fix:     fmt.Sprintf("name an image of a registry, or load it (%s load) and name its tag", e.opts.Kind),
		}
	}
	e.mu.Lock()
	image, ok := e.images[ref]
	e.mu.Unlock()
	if ok && !again {
		return image, nil
	}
	if e.machine != nil {
		tell("starting the podman machine")
		if err := e.machine.hold(ctx); err != nil {
			return EngineImage{}, err
		}
		defer e.machine.release()
	}
	name := strings.TrimPrefix(strings.TrimPrefix(ref, "docker:"), "//")
	image, err := e.inspectImage(ctx, name)
	if missing := (*engineError)(nil); again || errors.As(err, &missing) && noSuchImage(missing.words) {
		tell("pulling " + ref)
		if _, err = e.outputTo(ctx, tell, "pull", name); err == nil {
			image, err = e.inspectImage(ctx, name)
		}
	}
	if err != nil {
		return EngineImage{}, e.imageError(ctx, ref, err)
	}
	if image.Python, err = e.python(ctx, image.ID); err != nil {
		return EngineImage{}, e.imageError(ctx, ref, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[ref] = image
	return image, nil
}

func noSuchImage(words string) bool {
	lower := strings.ToLower(words)
	return strings.Contains(lower, "no such image") || strings.Contains(lower, "image not known")
}

func (e *Engine) imageError(ctx context.Context, ref string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("cannot pull image %s: %w", ref, context.Cause(ctx))
	}
	if client := (*engineError)(nil); errors.As(err, &client) {
		if host := e.trouble(ctx, client.words); host != nil {
			return host
		}
		return fmt.Errorf("cannot pull image %s with %s: %w", ref, e.version(ctx), err)
	}
	return fmt.Errorf("cannot use image %s: %w", ref, err)
}

func (e *Engine) inspectImage(ctx context.Context, name string) (EngineImage, error) {
	text, err := e.output(ctx, "image", "inspect", "--", name)
	if err != nil {
		return EngineImage{}, err
	}
	var list []struct {
		ID     string `json:"Id"`
		Config struct{ Env []string }
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return EngineImage{}, fmt.Errorf("%s describes image %s in a way that is not understood: %.100q", e.opts.Kind, name, text)
	}
	id := strings.TrimPrefix(list[0].ID, "sha256:")
	if len(id) < 12 || strings.Trim(id, "0123456789abcdef") != "" {
		return EngineImage{}, fmt.Errorf("%s gives image %s an id that is none: %.100q", e.opts.Kind, name, list[0].ID)
	}
	return EngineImage{ID: id, Env: list[0].Config.Env}, nil
}

// python asks the image itself, in a container without anything.
func (e *Engine) python(ctx context.Context, id string) (string, error) {
	text, err := e.output(
		ctx, "run", "--rm", "--pull", "never", "--log-driver", "none", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--user", "65534:65534", "--memory", "256m", "--pids-limit", "16", "--entrypoint", "python3", id, "-I", "-S", "-c", findPython,
	)
	if err != nil {
		return "", err
	}
	path, version, _ := strings.Cut(strings.TrimSpace(text), "\n")
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || !strings.HasPrefix(path, "/") || strings.Contains(path, "\n") {
		return "", fmt.Errorf("its python3 does not say where it is: %.100q", text)
	}
	if major != 3 || minor < 9 {
		return "", fmt.Errorf("its Python is %s, and 3.9 is the oldest that will do", version)
	}
	return path, nil
}

// inspect is how a container has ended, by the engine's own records.
func (e *Engine) inspect(ctx context.Context, name string) (code int, oom bool, err error) {
	text, err := e.output(ctx, "container", "inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", name)
	if err != nil {
		return 0, false, err
	}
	if _, err := fmt.Sscanf(text, "%d %t", &code, &oom); err != nil {
		return 0, false, fmt.Errorf("%s does not say how container %s has ended: %.100q", e.opts.Kind, name, text)
	}
	return code, oom, nil
}
