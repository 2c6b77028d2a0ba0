package rootfs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptrace"
	"strings"
	"syscall"
	"time"
)

// A patience is how long we put up with a registry. The zero value is the usual one; tests have less.
type patience struct {
	silence time.Duration // without a byte
	backoff time.Duration // before the second attempt; twice that before the third
}

// attempts is how often one thing is tried. What a registry says of 429 and Retry-After, containers/image heeds: five
// times, with at most a minute between two.
const attempts = 4

// pause waits before another attempt; n counts the failed ones.
func (p patience) pause(ctx context.Context, n int) error {
	d := cmp.Or(p.backoff, 500*time.Millisecond) << (n - 1)
	t := time.NewTimer(d + rand.N(d/4+1)) // so that many do not come back at once
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// try calls f until it succeeds, fails for good, or has failed too often.
func (p patience) try(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == attempts || ctx.Err() != nil || !transient(err) {
			return err
		}
		if err := p.pause(ctx, n); err != nil {
			return err
		}
	}
}

// transient says whether another attempt may do better: the registry had a bad moment, or a connection broke. A name
// that does not resolve, a host that cannot be reached and a bad certificate stay what they are, and who has the host's
// Python to fall back on must not wait for that four times.
func transient(err error) bool {
	var silent silentError
	if errors.As(err, &silent) || errors.Is(err, context.Canceled) {
		return false
	}
	if s := httpStatus(err); s != 0 {
		return s == 408 || s >= 500 && s != 501
	}
	for _, broken := range []error{io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, broken) {
			return true
		}
	}
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == proxyDial) {
		return false
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	return strings.Contains(err.Error(), "http2: ") || strings.Contains(err.Error(), "stream error: ") // not exported by net/http
}

// A silentError says that a registry sent nothing for so long.
type silentError time.Duration

func (e silentError) Error() string { return fmt.Sprintf("no byte came for %v", time.Duration(e)) }

// A watchdog ends a context when nothing is heard for a while.
type watchdog struct {
	timer  *time.Timer
	quiet  time.Duration
	cancel context.CancelCauseFunc
}

func (p patience) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{quiet: cmp.Or(p.silence, time.Minute), cancel: cancel}
	w.timer = time.AfterFunc(w.quiet, func() { cancel(silentError(w.quiet)) })
	return ctx, w
}

// errPlain says that a registry with TLS wants us to go on without it. Its blobs are verified; but tokens, and which image
// it is, are nobody's business.
var errPlain = errors.New("it sends us on to a server without TLS; if that is meant, set insecure for it in registries.conf")

// traced returns a context for requests whose progress the watchdog hears. After an answer it waits longer: it may
// have been a 429, and the pause that it asks for is at most a minute. containers/image follows every redirect: unless it
// is an insecure registry, a connection without TLS is closed before anything is written to it.
func (w *watchdog) traced(ctx context.Context, insecure bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			w.wag(w.quiet)
			if _, ok := got.Conn.(*tls.Conn); !ok && !insecure {
				w.cancel(errPlain)
				got.Conn.Close()
			}
		},
		GotFirstResponseByte: func() { w.wag(2 * w.quiet) },
	})
}

func (w *watchdog) wag(d time.Duration) { w.timer.Reset(d) }
func (w *watchdog) sleep()              { w.timer.Stop() }

func (w *watchdog) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// blame returns the reason for err, if it came from the watchdog.
func (w *watchdog) blame(ctx context.Context, err error) error {
	var silent silentError
	if cause := context.Cause(ctx); err != nil && (errors.As(cause, &silent) || errors.Is(cause, errPlain)) {
		return cause
	}
	return err
}
