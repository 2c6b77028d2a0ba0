// Package ocitest is the tests that a launcher has to pass, whatever it launches with. A launcher's own package has a
// TestMain, and a test for all of them, whose subtests they are:
//
//	var suite = ocitest.OnHost("direct", func(o host.Options) host.Launcher { return direct.New(o) })
//
//	func TestMain(m *testing.M)    { os.Exit(suite.Main(context.Background(), m)) }
//	func TestDirect(t *testing.T)  { ocitest.RunAll(t, suite) }
//
// What a [Suite] tests is what an [oci.Launcher] promises. A [HostSuite] also tests what comes of package host, such as the
// state directory and the cgroups, and of a stage0 that is pid 1. It is for tests only: nothing that ships imports it.
package ocitest
