// Package libct is the [oci.Launcher] that runs a container in-process with runc's libcontainer: no daemon, and no
// runtime program on the host. It is Linux only.
//
// A program that uses it calls [Init] first thing in main, because libcontainer re-executes the program as the first
// process of each container, and then, if it starts more than one, [Seal]. Test binaries do so in TestMain.
package libct
