package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// Diagnose says step by step what there is of the engine. It starts nothing that is not running.
func (e *Engine) Diagnose(ctx context.Context) []host.Check {
	name := string(e.opts.Kind)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	version, err := e.output(ctx, "--version")
	if err != nil {
		fix := "find out why \"" + name + " --version\" fails, or have MCP_BRIDGE_RUNTIME name another runtime" // or that of a HostError: to install it
		return []host.Check{failedCheck(name, err, fix)}
	}
	checks := []host.Check{{Step: name, Status: host.OK, Detail: printableLine(version)}}
	if e.machine != nil {
		c, running := e.diagnoseMachine(ctx)
		checks = append(checks, c)
		if err := shared(e.opts.StateDir, home()); err != nil {
			checks = append(checks, failedCheck("state", err, ""))
		}
		if !running {
			return checks
		}
	}
	args := []string{"info", "--format", "{{.Host.CgroupsVersion}}"}
	if e.opts.Kind == Docker {
		args[2] = "{{.CgroupVersion}}"
	}
	cgroup, err := e.output(ctx, args...)
	switch {
	case err != nil:
		var client *engineError
		if errors.As(err, &client) {
			if known := e.trouble(ctx, client.words); known != nil {
				err = known
			}
		}
		checks = append(checks, failedCheck("engine", err, name+" info"))
	case e.weak() != "":
		checks = append(checks, host.Check{Step: "engine", Status: host.Weak, Detail: "podman limits containers by rlimits only: " + e.weak(), Fix: weakFix})
	default:
		checks = append(checks, host.Check{Step: "engine", Status: host.OK, Detail: "it answers; cgroup " + printableLine(cgroup)})
	}
	return checks
}

// diagnoseMachine does not start one.
func (e *Engine) diagnoseMachine(ctx context.Context) (c host.Check, running bool) {
	list, err := e.machines(ctx)
	switch {
	case err != nil:
		return failedCheck("machine", err, ""), false
	case len(list) == 0:
		return host.Check{Step: "machine", Status: host.OK, Detail: "there is none; the first run makes and starts one, which downloads some 700 MB", Fix: "podman machine init --now, to have it ready"}, false
	}
	var names []string
	for _, m := range list {
		state := "stopped"
		switch {
		case m.Running:
			state, running = "running", true
		case m.Starting:
			state = "starting"
		}
		names = append(names, fmt.Sprintf("%s is %s", printableLine(m.Name), state))
	}
	detail := strings.Join(names, ", ")
	if !running {
		detail += "; a run starts it"
	}
	return host.Check{Step: "machine", Status: host.OK, Detail: detail}, running
}

func failedCheck(step string, err error, fix string) host.Check {
	c := host.Check{Step: step, Status: host.Failed, Detail: printableLine(err.Error()), Fix: fix}
	if h := (*oci.HostError)(nil); errors.As(err, &h) {
		c.Detail, c.Fix = printableLine(h.Missing), h.Fix
	}
	return c
}
