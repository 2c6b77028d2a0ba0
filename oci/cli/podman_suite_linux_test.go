package cli_test

import (
	"context"
	"os"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

var podman = ocitest.Suite{Name: "podman", New: func(o host.Options) ocitest.Launcher {
	return cli.NewEngine(cli.EngineOptions{Options: o, Kind: cli.Podman})
}}

func TestMain(m *testing.M) { os.Exit(podman.Main(context.Background(), m)) }

func TestPodmanEffects(t *testing.T)                     { podman.Effects(t) }
func TestPodmanEffectsOnFiles(t *testing.T)              { podman.EffectsOnFiles(t) }
func TestPodmanDescriptors(t *testing.T)                 { podman.Descriptors(t) }
func TestPodmanMemoryLimit(t *testing.T)                 { podman.MemoryLimit(t) }
func TestPodmanMemoryIsOfTheWholeContainer(t *testing.T) { podman.MemoryIsOfTheWholeContainer(t) }
func TestPodmanSharedMemoryCountsOnce(t *testing.T)      { podman.SharedMemoryCountsOnce(t) }
func TestPodmanChildOutOfMemory(t *testing.T)            { podman.ChildOutOfMemory(t) }
func TestPodmanForkBomb(t *testing.T)                    { podman.ForkBomb(t) }
func TestPodmanNoLimits(t *testing.T)                    { podman.NoLimits(t) }
func TestPodmanOtherUser(t *testing.T)                   { podman.OtherUser(t) }
func TestPodmanMissingRootfs(t *testing.T)               { podman.MissingRootfs(t) }
func TestPodmanExit(t *testing.T)                        { podman.Exit(t) }
func TestPodmanCommandThatCannotRun(t *testing.T)        { podman.CommandThatCannotRun(t) }
func TestPodmanCancel(t *testing.T)                      { podman.Cancel(t) }
func TestPodmanCancelAtAnyMoment(t *testing.T)           { podman.CancelAtAnyMoment(t) }
func TestPodmanOrphans(t *testing.T)                     { podman.Orphans(t) }
func TestPodmanConcurrent(t *testing.T)                  { podman.Concurrent(t) }
func TestPodmanNothingIsLeft(t *testing.T)               { podman.NothingIsLeft(t) }
func TestPodmanBlindedPid1(t *testing.T)                 { podman.BlindedPid1(t) }
func TestPodmanExited(t *testing.T)                      { podman.Exited(t) }
