package wire

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ownNetwork marks the process of a test that has a network namespace of its own.
const ownNetwork = "MCP_BRIDGE_TEST_OWN_NETWORK"

// TestSilence: a network that swallows everything, as one does that a laptop has left, costs the calls that were under way,
// and none of those that come when there is a network again.
func TestSilence(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSilence$", "-test.v")
		cmd.Env = append(os.Environ(), ownNetwork+"=1", "SSL_CERT_FILE="+filepath.Join(t.TempDir(), "cert.pem"))
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if cmd.Process == nil && os.Getenv("CI") != "true" {
			t.Skip("no network namespace of its own: ", err)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := loopback(true); errors.Is(err, unix.EPERM) && os.Getenv("CI") != "true" {
		t.Skip("no rights over a network namespace of its own: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	for name, modern := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(answer))
			server.EnableHTTP2 = modern
			server.StartTLS()
			defer server.CloseClientConnections()
			cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			if err := os.WriteFile(os.Getenv("SSL_CERT_FILE"), cert, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c, err := DialHTTP(ctx, Endpoint{URL: server.URL}, Options{Silence: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 2 {
				if answer, err := c.Request(ctx, "tools/call", json.RawMessage(`{"name":"x"}`), nil); err != nil || string(answer) != "{}" {
					t.Fatal(string(answer), err)
				}
				change(t, false)
				_, err = c.Request(ctx, "tools/call", json.RawMessage(`{"name":"x"}`), nil)
				if err == nil || ctx.Err() != nil {
					t.Fatal("without a network: ", err)
				}
				change(t, true)
			}
		})
	}
}

// answer is an MCP server that keeps the stream of its own messages open.
func answer(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
	}
	switch {
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case json.NewDecoder(r.Body).Decode(&m) != nil || m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	default:
		result := "{}"
		if m.Method == "initialize" {
			result = `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}`
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}
}

func change(t *testing.T, up bool) {
	t.Helper()
	if err := loopback(up); err != nil {
		t.Fatal(err)
	}
}

// loopback makes or unmakes the only network there is.
func loopback(up bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	flags.SetUint16(0)
	if up {
		flags.SetUint16(unix.IFF_UP)
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, flags)
}
