package rootfs

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/containers/image/v5/docker"
	dref "github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/types"
)

// An endpoint is one place that a registry's image may come from: a mirror, or the registry itself.
type endpoint struct {
	name     dref.Named // what the image is called there
	insecure bool       // plain HTTP, and certificates that nobody vouches for, are good enough
	helpers  []string   // credential-helpers of registries.conf
}

// endpoints reads registries.conf: mirrors first, the registry itself last. We do what containers/image would do when
// it opens an image, because its context says for all endpoints at once whether TLS is needed and which login is sent.
func endpoints(etc string, name dref.Named) ([]endpoint, error) {
	sys := &types.SystemContext{}
	if etc != defaultEtc {
		sys.SystemRegistriesConfPath = etc + "/containers/registries.conf"
		sys.SystemRegistriesConfDirPath = etc + "/containers/registries.conf.d"
	}
	sysregistriesv2.InvalidateCache() // a server lives longer than the file
	helpers, err := sysregistriesv2.CredentialHelpers(sys)
	if err != nil {
		return nil, err
	}
	registry, err := sysregistriesv2.FindRegistry(sys, name.String())
	if err != nil {
		return nil, err
	}
	if registry == nil {
		return []endpoint{{name, loopback(dref.Domain(name)), helpers}}, nil
	}
	if registry.Blocked {
		return nil, fmt.Errorf("registry %s is blocked in %s", registry.Prefix, sysregistriesv2.ConfigurationSourceDescription(sys))
	}
	sources, err := registry.PullSourcesFromReference(name)
	if err != nil {
		return nil, err
	}
	var all []endpoint
	for _, s := range sources {
		all = append(all, endpoint{s.Reference, s.Endpoint.Insecure || loopback(dref.Domain(s.Reference)), helpers})
	}
	return all, nil
}

// defaultEtc is the directory of the system's containers/registries.conf and containers/policy.json.
const defaultEtc = "/etc"

// loopback says whether HOST[:PORT] is this machine by its name alone, without asking DNS: nobody else can read or
// change what is sent there.
func loopback(domain string) bool {
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// open asks the registry for the manifest or index, as which containers/image opens an image.
func (e endpoint) open(ctx context.Context, l login) (types.ImageSource, error) {
	ref, err := docker.NewReference(e.name)
	if err != nil {
		return nil, err
	}
	return ref.NewImageSource(ctx, &types.SystemContext{
		// registries.conf has been read; where signatures are is not asked.
		SystemRegistriesConfPath:    os.DevNull,
		SystemRegistriesConfDirPath: "/nonexistent",
		RegistriesDirPath:           "/nonexistent",
		DockerAuthConfig:            &l.DockerAuthConfig,
		DockerInsecureSkipTLSVerify: types.NewOptionalBool(e.insecure),
		DockerRegistryUserAgent:     "mcp-bridge",
	})
}
