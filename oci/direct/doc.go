// Package direct is the [oci.Launcher] that runs a container with nothing between the OCI specification and the kernel:
// the namespaces come from clone(2), the rest is done by stage0 before it becomes pid 1, by a plan that this package makes
// of the specification. It is Linux only.
//
// It does what [oci.Spec] asks for and refuses every other specification: see plan. It is twice as fast as
// libcontainer, because the first process of a container is no Go program, nothing is executed thrice, and nothing is
// looked up that is known.
package direct
