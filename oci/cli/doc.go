// Package cli has the launchers that run a program of the host's to make a container.
//
// A [Runtime] runs an OCI runtime: crun, runc, or another with their command line. It writes a bundle from the same
// [oci.Spec] as the other launchers and has the program start stage0 in it, which is pid 1 as everywhere: it drops what
// rights are left, loads the filter, holds the lifeline and tells how the command ended. So a runtime makes namespaces and
// mounts, and nothing else is left to it. youki and runsc are told what their own documentation asks for, but have not
// been tried.
//
// An [Engine] runs podman or docker. Of what those do for a container nothing is done again; the streams that they cannot
// carry go through a multiplexer, which is pid 1 there.
package cli
