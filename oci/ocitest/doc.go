// Package ocitest is the tests that a launcher has to pass, whatever it launches with. A launcher's own package has a
// TestMain and one line for each of them, so that their names are where the launcher is:
//
//	var suite = ocitest.OnHost("direct", func(o host.Options) host.Launcher { return direct.New(o) })
//
//	func TestMain(m *testing.M)     { os.Exit(suite.Main(context.Background(), m)) }
//	func TestEffects(t *testing.T)  { suite.Effects(t) }
//
// What a [Suite] tests is what an [oci.Launcher] promises. A [HostSuite] also tests what comes of package host, such as the
// state directory and the cgroups, and of a stage0 that is pid 1. It is for tests only: nothing that ships imports it.
package ocitest
