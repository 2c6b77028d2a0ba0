//go:build linux

package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// scopeTimeout bounds how long the first run may wait for systemd. It takes some 20 ms.
const scopeTimeout = 5 * time.Second

// askSystemd has containers where systemd lets them be: in the cgroup of the unit that we run in, if that is delegated,
// else in a scope of our own, which makes limits possible in an ssh session, whose own cgroup is root's.
func askSystemd(ctx context.Context, own string) (_ cgroupParent, err error) {
	late := fmt.Errorf("systemd did not answer within %v: %w", scopeTimeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, scopeTimeout, late)
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil { // of which the error of a connection need not tell
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	conn, err := connect(ctx)
	if err != nil {
		return cgroupParent{}, err
	}
	defer conn.Close()
	u := ownUnit(ctx, conn)
	var errs []error
	// Deeper below, another program of the unit has made its own order.
	if u.delegated && (u.cgroup == own || u.cgroup == path.Dir(own)) {
		cg, err := useUnified(u.cgroup, true)
		if err == nil {
			return cg, nil
		}
		errs = append(errs, err) // it may be without a controller
	}
	if err := enterScope(ctx, conn, u.slice); err != nil {
		return cgroupParent{}, errors.Join(append(errs, err)...)
	}
	if own, err = ownUnified(); err == nil && path.Base(own) != scopeName() {
		err = fmt.Errorf("systemd has started the scope %s, and this process is in %s", scopeName(), own)
	}
	var cg cgroupParent
	if err == nil {
		cg, err = useUnified(own, true)
	}
	if err != nil {
		return cgroupParent{}, errors.Join(append(errs, err)...)
	}
	return cg, nil
}

// connect connects to the systemd that makes our scopes: for root the system's, else the user's. That is found without
// a variable of the environment, for what starts MCP servers may give them none.
func connect(ctx context.Context) (*dbus.Conn, error) {
	if os.Geteuid() == 0 {
		conn, err := dbus.NewSystemdConnectionContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot ask systemd for a cgroup: %w", err)
		}
		return conn, nil
	}
	private, bus := managerSockets()
	if private == "" && bus == "" {
		return nil, fmt.Errorf("there is no user instance of systemd to ask for a cgroup (nothing in %s)", runtimeDir())
	}
	auth := []godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) {
		if private == "" {
			return godbus.Connect(bus, godbus.WithContext(ctx), godbus.WithAuth(auth...))
		}
		conn, err := godbus.Dial(private, godbus.WithContext(ctx))
		if err == nil {
			if err = conn.Auth(auth); err != nil { // and no Hello, which is for a bus
				conn.Close()
			}
		}
		return conn, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask the user's systemd for a cgroup: %w", err)
	}
	return conn, nil
}

func runtimeDir() string {
	return cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Geteuid()))
}

// managerSockets are the addresses of the user's systemd, as systemctl finds it, and of the bus where it may be: a host
// may be without a bus, and a program with a runtime directory of its own, as in a snap, without the former.
func managerSockets() (private, bus string) {
	address := func(name string) string {
		name = filepath.Join(runtimeDir(), name)
		st, err := os.Stat(name)
		if err != nil || st.Mode().Type() != os.ModeSocket {
			return ""
		}
		if owner, ok := st.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
			return ""
		}
		return "unix:path=" + godbus.EscapeBusAddressValue(name)
	}
	return address("systemd/private"), cmp.Or(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), address("bus"))
}

// A unit is what its systemd says of the one that we run in; the zero value if it has none.
type unit struct {
	cgroup, slice string
	delegated     bool
}

func ownUnit(ctx context.Context, conn *dbus.Conn) (u unit) {
	name, err := conn.GetUnitNameByPID(ctx, 0) // who asks
	if err != nil {
		return unit{}
	}
	kind := map[string]string{".service": "Service", ".scope": "Scope"}[path.Ext(name)]
	if kind == "" {
		return unit{}
	}
	get := func(property string, to any) {
		if p, err := conn.GetUnitTypePropertyContext(ctx, name, kind, property); err == nil {
			_ = p.Value.Store(to)
		}
	}
	get("Slice", &u.slice)
	get("ControlGroup", &u.cgroup)
	get("Delegate", &u.delegated)
	if strings.HasPrefix(name, "user@") { // to the user's systemd, not to us
		u.delegated = false
	}
	return u
}

func scopeName() string { return fmt.Sprintf("%s%d.scope", cgroupPrefix, os.Getpid()) }

// enterScope asks systemd to move this process to a transient scope with a delegated cgroup, as `systemd-run --scope -p
// Delegate=yes` would have started it in: in the slice where it is, so that what limits that limits the containers too.
// The scope ends with this process.
func enterScope(ctx context.Context, conn *dbus.Conn, slice string) error {
	name := scopeName()
	properties := []dbus.Property{
		dbus.PropDescription("mcp-bridge and its sandboxes"),
		dbus.PropPids(0), // who asks, whatever its number is where systemd is
		{Name: "Delegate", Value: godbus.MakeVariant(true)},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}
	if slice != "" {
		properties = append(properties, dbus.PropSlice(slice))
	}
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, name, "fail", properties, done); err != nil {
		return fmt.Errorf("cannot start the scope %s: %w", name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("cannot start the scope %s: systemd says %s", name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot start the scope %s: %w", name, ctx.Err())
	}
}
