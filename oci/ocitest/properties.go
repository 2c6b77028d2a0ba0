package ocitest

// A Property is a test of a suite, and what a launcher that passes it is known to do.
type Property struct{ Name, Says string }

// Properties are those of a suite, in the order in which docs/runtimes.md has them.
var Properties = []Property{
	{"Effects", "what a prisoner sees of ids, capabilities, namespaces, system calls and network, operation by operation"},
	{"EffectsOnFiles", "what can be read, written and executed, of the image, the tmpfs mounts, the devices and /proc"},
	{"Descriptors", "no descriptor gets in but the streams, and all of these do"},
	{"Exit", "exit codes, signals and output arrive as they were"},
	{"Exited", "the end of the command is told before the rest is removed"},
	{"CommandThatCannotRun", "a command that cannot run is an error that names it"},
	{"MissingRootfs", "so is an image that is not there"},
	{"ClosedDirectory", "an image below a closed directory is reached, or the error says what is closed"},
	{"OtherUser", "any user and group id"},
	{"NoLimits", "no limits where none are asked for"},
	{"MemoryLimit", "the memory limit ends a script, and is said to have"},
	{"MemoryIsOfTheWholeContainer", "it is of all processes, files in tmpfs and shared memory together"},
	{"SharedMemoryCountsOnce", "shared memory counts once"},
	{"ChildOutOfMemory", "a child that runs out of memory is told"},
	{"PidsLimit", "the limit of processes"},
	{"ForkBomb", "a fork bomb ends"},
	{"Cgroup", "the limits are in the kernel's own files, and stage0 and the command are alone there"},
	{"WeakLimitsMustBeAllowed", "a host that cannot enforce limits refuses, unless weak ones are allowed"},
	{"CgroupThatVanishes", "a cgroup that is taken away is replaced by another"},
	{"Cancel", "a cancelled run is killed, with children that ignore signals"},
	{"CancelAtAnyMoment", "at any moment of its start"},
	{"StoppedAtAnyMoment", "also when what starts it is stopped (SIGSTOP)"},
	{"Orphans", "daemons die with the command, and orphans are reaped"},
	{"Concurrent", "twenty at once know nothing of each other"},
	{"NothingIsLeft", "no process, cgroup, mount, descriptor or goroutine is left"},
	{"KilledBridge", "a bridge that is killed leaves no process, and the next one removes the rest"},
	{"BlindedPid1", "a pid 1 that can no longer see the bridge ends the container"},
	{"TwoLaunchersShareAStateDirectory", "two bridges share a state directory"},
	{"StateDirectoryThatIsRemoved", "a state directory that is removed is made again"},
	{"StateDirectoryThatCannotBeMade", "one that cannot be made is an error that names its variable"},
	{"ForgedState", "a forged state directory makes no bridge kill or remove what is another's"},
	{"DeniedSteps", "whatever a host denies is an error that says so, and nothing is left"},
	{"DiagnoseWithoutImage", "the doctor knows its steps"},
	{"HelpersWithoutEffect", "a newuidmap that does not work is done without"},
	{"NestedInstead", "a second user namespace takes its place"},
	{"AsUser", "all this as a user, with subordinate ids and with one id"},
}
