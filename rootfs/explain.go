package rootfs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/containers/image/v5/docker"
	dref "github.com/containers/image/v5/docker/reference"
	"github.com/docker/distribution/registry/api/errcode"
)

// A pullError says in one line what a registry did not do and what the user can do about it. The cause below it is for
// programs: its text may be as long as the registry likes, and have a signed URL in it.
type pullError struct {
	text  string
	cause error
}

func (e pullError) Error() string { return e.text }
func (e pullError) Unwrap() error { return e.cause }

// explainPull explains why what (a name or a blob) cannot be had at e with the login l.
func explainPull(err error, e endpoint, l login, what string) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return pullError{explanation(err, dref.Domain(e.name), l, what), err}
}

func explanation(err error, host string, l login, what string) string {
	var silent silentError
	var op *net.OpError
	var dns *net.DNSError
	var tlsErr *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	logIn := fmt.Sprintf("log in with `podman login %s` or `docker login %s`", host, host)
	if l.problem != "" {
		logIn += " (" + oneLine(l.problem) + ")"
	}
	switch status := httpStatus(err); {
	case errors.As(err, &silent):
		return fmt.Sprintf("%s is silent: %v; check the network, or try again later", host, silent)
	case status == 401 && l.known():
		return fmt.Sprintf("%s does not accept the login from %s for %s (401): %s", host, l.from, what, logIn)
	case status == 401 && host == dockerHub:
		return fmt.Sprintf("%s has no public %s (401): check the name, or %s", host, what, logIn)
	case status == 401:
		return fmt.Sprintf("%s asks for a login for %s (401): %s", host, what, logIn)
	case status == 403:
		return fmt.Sprintf("%s denies access to %s (403): check the name, or %s as somebody who may read it", host, what, logIn)
	case status == 404:
		return fmt.Sprintf("%s has no %s (404): check the name and the tag", host, what)
	case status == 429:
		return fmt.Sprintf("%s has had too many requests (429): wait, or %s for a higher limit", host, logIn)
	case status >= 500:
		return fmt.Sprintf("%s failed with status %d for %s: try again later", host, status, what)
	case status != 0:
		return fmt.Sprintf("%s answered status %d for %s: %s", host, status, what, oneLine(err.Error()))
	case errors.As(err, &op) && op.Op == proxyDial:
		return fmt.Sprintf("%s cannot be reached through the proxy (%s): check HTTPS_PROXY and NO_PROXY", host, oneLine(rootCause(err)))
	case errors.As(err, &dns):
		return fmt.Sprintf("the host %s cannot be found (DNS: %s): check its name and the network", oneLine(dns.Name), oneLine(dns.Err))
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("%s speaks plain HTTP, which is for this machine only: set insecure = true for it in registries.conf if you trust the network", host)
	case errors.As(err, &tlsErr), errors.As(err, &unknown):
		return fmt.Sprintf("the certificate of %s is not trusted (%s): put its CA into /etc/containers/certs.d/%s/ca.crt", host, oneLine(rootCause(err)), host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s: is the registry running, and is the name right?", host)
	case isNet(err):
		return fmt.Sprintf("%s cannot be reached (%s): check the network", host, oneLine(rootCause(err)))
	}
	return oneLine(err.Error())
}

// proxyDial is what net/http calls it when it connects to a proxy.
const proxyDial = "proxyconnect"

func isNet(err error) bool {
	var n net.Error
	return errors.As(err, &n)
}

// rootCause is the innermost text: what is around it has URLs.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// httpStatus finds the status of an answer in an error of containers/image, or 0. Registries that answer in the form
// of their specification get an error with a code, others one with the status in its text only.
func httpStatus(err error) int {
	var unauthorized docker.ErrUnauthorizedForCredentials
	var unexpected docker.UnexpectedHTTPStatusError
	var coder errcode.ErrorCoder
	switch {
	case err == nil:
		return 0
	case errors.As(err, &unauthorized):
		return 401
	case errors.Is(err, docker.ErrTooManyRequests):
		return 429
	case errors.As(err, &unexpected):
		return unexpected.StatusCode
	case errors.As(err, &coder) && coder.ErrorCode() != errcode.ErrorCodeUnknown:
		return coder.ErrorCode().Descriptor().HTTPStatusCode
	case errors.As(err, &coder):
		return 404 // Harbor's and Red Hat's way to say it; it is below 500, or there would be no code
	}
	_, rest, ok := strings.Cut(err.Error(), "StatusCode: ")
	if !ok || len(rest) < 3 {
		return 0
	}
	status, err := strconv.Atoi(rest[:3])
	if err != nil {
		return 0
	}
	return status
}

// oneLine makes of a text that a registry may have written one that can be shown: no control characters, not too long,
// and no queries of URLs, in which signatures are.
func oneLine(text string) string {
	const limit = 300
	var b strings.Builder
	query := false
	for _, r := range text {
		if b.Len() >= limit {
			return b.String() + "…"
		}
		switch {
		case query && !unicode.IsSpace(r) && r != '"':
			continue
		case r == '?' && strings.Contains(b.String(), "://"):
			query = true
			b.WriteString("?…")
			continue
		case unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r):
			r = ' '
		}
		query = false
		b.WriteRune(r)
	}
	return b.String()
}
