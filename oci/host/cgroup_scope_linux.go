//go:build linux

package host

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// scopeTimeout bounds how long the first run may wait for systemd. It takes some 20 ms.
const scopeTimeout = 5 * time.Second

// enterScope asks the user's systemd to move this process to a transient scope with a delegated cgroup, as `systemd-run
// --user --scope -p Delegate=yes` would have started it in. It is what makes limits possible in an ssh session, whose
// own cgroup is root's. The scope ends with this process.
func enterScope(ctx context.Context) error {
	if os.Getenv("XDG_RUNTIME_DIR") == "" && os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
		return fmt.Errorf("there is no user session of systemd to ask for a cgroup (XDG_RUNTIME_DIR is not set)")
	}
	ctx, cancel := context.WithTimeout(ctx, scopeTimeout)
	defer cancel()
	conn, err := dbus.NewUserConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask the user's systemd for a cgroup: %w", err)
	}
	defer conn.Close()
	name := fmt.Sprintf("%s%d.scope", cgroupPrefix, os.Getpid())
	done := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, name, "fail", []dbus.Property{
		dbus.PropDescription("mcp-bridge and its sandboxes"),
		dbus.PropPids(uint32(os.Getpid())),
		{Name: "Delegate", Value: godbus.MakeVariant(true)},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}, done)
	if err != nil {
		return fmt.Errorf("cannot start the scope %s: %w", name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("cannot start the scope %s: systemd says %s", name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot start the scope %s: systemd did not answer within %v", name, scopeTimeout)
	}
}
