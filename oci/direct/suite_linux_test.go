//go:build linux && cgo

package direct_test

import (
	"context"
	"os"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/direct"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

var suite = ocitest.OnHost("direct", func(o host.Options) host.Launcher { return direct.New(o) })

func TestMain(m *testing.M) {
	suite.ThroughClosed = true // stage0 opens the image before it is another user
	os.Exit(suite.Main(context.Background(), m))
}

func TestEffects(t *testing.T)                          { suite.Effects(t) }
func TestEffectsOnFiles(t *testing.T)                   { suite.EffectsOnFiles(t) }
func TestDescriptors(t *testing.T)                      { suite.Descriptors(t) }
func TestMemoryLimit(t *testing.T)                      { suite.MemoryLimit(t) }
func TestMemoryIsOfTheWholeContainer(t *testing.T)      { suite.MemoryIsOfTheWholeContainer(t) }
func TestSharedMemoryCountsOnce(t *testing.T)           { suite.SharedMemoryCountsOnce(t) }
func TestChildOutOfMemory(t *testing.T)                 { suite.ChildOutOfMemory(t) }
func TestPidsLimit(t *testing.T)                        { suite.PidsLimit(t) }
func TestForkBomb(t *testing.T)                         { suite.ForkBomb(t) }
func TestCgroup(t *testing.T)                           { suite.Cgroup(t) }
func TestNoLimits(t *testing.T)                         { suite.NoLimits(t) }
func TestOtherUser(t *testing.T)                        { suite.OtherUser(t) }
func TestWeakLimitsMustBeAllowed(t *testing.T)          { suite.WeakLimitsMustBeAllowed(t) }
func TestClosedDirectory(t *testing.T)                  { suite.ClosedDirectory(t) }
func TestMissingRootfs(t *testing.T)                    { suite.MissingRootfs(t) }
func TestExit(t *testing.T)                             { suite.Exit(t) }
func TestCommandThatCannotRun(t *testing.T)             { suite.CommandThatCannotRun(t) }
func TestCancel(t *testing.T)                           { suite.Cancel(t) }
func TestCancelAtAnyMoment(t *testing.T)                { suite.CancelAtAnyMoment(t) }
func TestStoppedAtAnyMoment(t *testing.T)               { suite.StoppedAtAnyMoment(t) }
func TestOrphans(t *testing.T)                          { suite.Orphans(t) }
func TestConcurrent(t *testing.T)                       { suite.Concurrent(t) }
func TestNothingIsLeft(t *testing.T)                    { suite.NothingIsLeft(t) }
func TestExited(t *testing.T)                           { suite.Exited(t) }
func TestBlindedPid1(t *testing.T)                      { suite.BlindedPid1(t) }
func TestKilledBridge(t *testing.T)                     { suite.KilledBridge(t) }
func TestTwoLaunchersShareAStateDirectory(t *testing.T) { suite.TwoLaunchersShareAStateDirectory(t) }
func TestStateDirectoryThatIsRemoved(t *testing.T)      { suite.StateDirectoryThatIsRemoved(t) }
func TestStateDirectoryThatCannotBeMade(t *testing.T)   { suite.StateDirectoryThatCannotBeMade(t) }
func TestForgedState(t *testing.T)                      { suite.ForgedState(t) }
func TestNestedInstead(t *testing.T)                    { suite.NestedInstead(t) }
func TestHelpersWithoutEffect(t *testing.T)             { suite.HelpersWithoutEffect(t) }
func TestCgroupThatVanishes(t *testing.T)               { suite.CgroupThatVanishes(t) }
func TestDiagnoseWithoutImage(t *testing.T)             { suite.DiagnoseWithoutImage(t) }
func TestDeniedSteps(t *testing.T)                      { suite.DeniedSteps(t) }
func TestAsUser(t *testing.T)                           { suite.AsUser(t) }
