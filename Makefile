# make demo    install what is missing, build, run real scripts in a real sandbox, and an MCP session
# make test    the same set-up, then every test
# make build   bin/mcp-bridge, one static file
# make release dist/, for four platforms
# That of the last tag, v1.2.3; what else a tag may be called does not get into a shell.
VERSION := $(or $(shell git describe --tags --match 'v[0-9]*' --abbrev=12 --dirty 2>/dev/null | sed -n 's/^v\([0-9A-Za-z.+-]*\)$$/\1/p'),0.1.0-dev)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
GO      := hack/go
STATIC  := -linkmode external -extldflags -static
OUT     := bin/mcp-bridge
# 0 for macOS
CGO     := 1
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

.NOTPARALLEL:
.PHONY: demo test build lint bench clean

demo: setup-build build
	hack/demo

test: setup-test build
	hack/test

# Go knows what has changed; make would only guess.
build:
	CGO_ENABLED=$(CGO) $(GO) build -buildvcs=false -ldflags '$(LDFLAGS) $(if $(filter 1,$(CGO)),$(STATIC))' -o $(OUT) ./cmd/mcp-bridge

# dist/: the program for Linux and macOS, SBOMs, licences and sums. release-check: two builds are the same, byte by byte.
.PHONY: release release-check
release: setup-release
	hack/release
release-check: setup-release
	hack/release-check

# What QEMU's user mode can test of the program for arm64.
.PHONY: test-arm64
test-arm64: setup-release
	hack/test-arm64

lint: setup-build
	hack/lint

# Everything that a sandbox costs, beside crun, runc, bwrap, podman and the original's way: as root, some six minutes.
# BENCHFLAGS='--rounds 5 --only cold' for a look.
bench: setup-bench build
	image=host; [ ! -e .cache/python-image/index.json ] || image=oci:.cache/python-image; \
	bin/mcp-bridge bench --image $$image --markdown docs/performance.md --plot docs/performance.svg $(BENCHFLAGS)

# From a registry on loopback to the first output, beside podman and beside skopeo, umoci and crun.
.PHONY: bench-images
bench-images: setup-bench build
	$(GO) build -o bin/bench ./hack/bench
	hack/bench/fresh bin/bench

.PHONY: setup-build setup-test setup-bench setup-release
setup-build setup-test setup-bench setup-release:
	hack/setup $(@:setup-%=%)

clean:
	rm -rf bin dist .cache

# The sandbox on a cgroup v2 kernel.
.PHONY: test-vm
test-vm: setup-test build
	hack/test-vm

# Every attack probe, in every mapping this machine has, and real packages under the filter: as CI runs them. probes-doc
# also writes what they find to docs/probes.md and SECURITY.md; it needs root.
.PHONY: probes probes-doc
probes probes-doc: setup-test build
	CI=true hack/test --packages ./internal/probes -count 1 $(if $(filter probes-doc,$@),-update)

# What each launcher does, by its own tests: docs/runtimes.md. It needs root, crun and runc.
.PHONY: runtimes-doc
runtimes-doc: setup-test build
	CI=true hack/test --packages ./oci/... -count 1 -json | $(GO) run ./hack/runtimes

# Half an hour of runs that end in every way, on one bridge: what it holds must stay what it is.
.PHONY: soak
SOAK ?= 30m
soak: setup-test build
	CI=true MCP_BRIDGE_TEST_SOAK=$(SOAK) hack/test --packages ./cmd/mcp-bridge -count 1 -timeout 60m -v -run TestSoak
