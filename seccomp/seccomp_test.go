package seccomp

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "compile the policy anew, and write its documentation")

// numbers reads what generate.go has found, and fails if it has not found all that the policy names.
func numbers(t *testing.T, goarch string) map[string]uint32 {
	t.Helper()
	b, err := os.ReadFile("numbers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	out := make(map[string]uint32)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		known[f[0]] = true
		n, err := strconv.ParseUint(f[map[string]int{"amd64": 1, "arm64": 2}[goarch]], 10, 32)
		if err == nil { // else "-": not there
			out[f[0]] = uint32(n)
		}
	}
	for _, g := range Policy {
		for _, name := range g.Names {
			if !known[name] {
				t.Fatalf("the policy names %s, which numbers.tsv has not; run go generate ./seccomp", name)
			}
		}
	}
	return out
}

func program(t *testing.T, goarch string) []instruction {
	t.Helper()
	p, err := compile(Policy, arches[goarch], numbers(t, goarch))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFilters: what is embedded is what the policy says.
func TestFilters(t *testing.T) {
	for goarch := range arches {
		want := encode(program(t, goarch))
		if *update {
			if err := os.WriteFile("filter_"+goarch+".bpf", want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := Filter(goarch)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("filter_%s.bpf is not the policy; go generate ./seccomp && go test ./seccomp -update makes it so", goarch)
		}
		t.Logf("%s: %d instructions", goarch, len(want)/8)
	}
	if _, err := Filter("386"); err == nil {
		t.Error("there is a filter for 386")
	}
}

// run interprets a program as the kernel does.
func run(p []instruction, audit, nr uint32, args ...uint64) uint32 {
	value, _ := trace(p, audit, nr, args...)
	return value
}

// trace is run, and how many instructions that took.
func trace(p []instruction, audit, nr uint32, args ...uint64) (value uint32, steps int) {
	data := make(map[uint32]uint32)
	data[offsetNr], data[offsetArch] = nr, audit
	for i, a := range args {
		data[offsetArgs+8*uint32(i)], data[offsetArgs+8*uint32(i)+4] = uint32(a), uint32(a>>32)
	}
	var acc uint32
	for pc := 0; ; pc++ {
		steps++
		i := p[pc]
		test := false
		switch i.op {
		case opLoad:
			acc = data[i.k]
			continue
		case opReturn:
			return i.k, steps
		case opJump:
			pc += int(i.k)
			continue
		case opEqual:
			test = acc == i.k
		case opAtLeast:
			test = acc >= i.k
		case opSet:
			test = acc&i.k != 0
		default:
			panic(fmt.Sprintf("instruction %#x", i.op))
		}
		if test {
			pc += int(i.jt)
		} else {
			pc += int(i.jf)
		}
	}
}

// TestFewSteps: a filter is run for every number when it is loaded, and for each call that depends on its arguments.
func TestFewSteps(t *testing.T) {
	for goarch, a := range arches {
		p, sum := program(t, goarch), 0
		for nr := range uint32(512) {
			_, steps := trace(p, a.audit, nr)
			sum += steps
		}
		if sum > 512*20 {
			t.Errorf("%s: %d steps for 512 numbers", goarch, sum)
		}
	}
}

// TestPolicyDecides runs the program over every number there could be, and looks each decision up in the policy itself.
func TestPolicyDecides(t *testing.T) {
	for goarch, a := range arches {
		t.Run(goarch, func(t *testing.T) {
			p := program(t, goarch)
			name := make(map[uint32]string)
			for n, nr := range numbers(t, goarch) {
				name[nr] = n
			}
			for nr := range uint32(1024) {
				want := retErrno | uint32(Default)
				var args []Arg
				for _, g := range Policy {
					for _, n := range g.Names {
						if name[nr] == n {
							args = g.Args
							if g.Allow && args == nil {
								want = retAllow
							} else {
								want = retErrno | uint32(g.Errno)
							}
						}
					}
				}
				// An argument that no group allows.
				forbidden := make([]uint64, 6)
				for _, arg := range args {
					forbidden[arg.Index] = 0x7777_7777
				}
				if got := run(p, a.audit, nr, forbidden...); got != want {
					t.Errorf("%s (%d): %#x, want %#x", name[nr], nr, got, want)
				}
			}
		})
	}
}

func TestArguments(t *testing.T) {
	const cloneThread, cloneFork, newuser, newnet = 0x3D0F00, 0x1200011, 0x10000000, 0x40000000
	tests := []struct {
		name string
		args []uint64
		want uint32
	}{
		{"clone", []uint64{cloneThread}, retAllow},
		{"clone", []uint64{cloneFork}, retAllow},
		{"clone", []uint64{cloneFork | newuser}, retErrno | 1},
		{"clone", []uint64{newnet}, retErrno | 1},
		{"clone", []uint64{0x00020000}, retErrno | 1}, // CLONE_NEWNS
		{"clone3", nil, retErrno | 38},
		{"socket", []uint64{1, 1}, retAllow},
		{"socket", []uint64{2, 1}, retErrno | 97},
		{"socket", []uint64{38, 5}, retErrno | 97},        // AF_ALG
		{"socket", []uint64{1 | 1<<32, 1}, retErrno | 97}, // junk in the half that the kernel ignores
		{"socketpair", []uint64{1, 1}, retAllow},
		{"ioctl", []uint64{0, 0x5401}, retAllow},
		{"ioctl", []uint64{0, 0x5412}, retErrno | 25},         // TIOCSTI
		{"ioctl", []uint64{0, 0x5412 | 1<<32}, retErrno | 25}, // CVE-2019-10063
		{"prctl", []uint64{38}, retAllow},
		{"prctl", []uint64{1}, retErrno | 22},  // PR_SET_PDEATHSIG
		{"prctl", []uint64{22}, retErrno | 22}, // PR_SET_SECCOMP
		{"sched_setaffinity", []uint64{0}, retAllow},
		{"sched_setaffinity", []uint64{1}, retErrno | 1}, // pid 1
		{"setpriority", []uint64{0, 0}, retAllow},
		{"setpriority", []uint64{0, 1}, retErrno | 1},       // pid 1
		{"setpriority", []uint64{0, 1 << 32}, retErrno | 1}, // junk
		{"setpriority", []uint64{1 << 32, 0}, retErrno | 1},
		{"setpriority", []uint64{1, 0}, retErrno | 1},     // PRIO_PGRP
		{"setpriority", []uint64{2, 0}, retErrno | 1},     // PRIO_USER
		{"setsockopt", []uint64{3, 1, 16}, retAllow},      // SO_PASSCRED
		{"setsockopt", []uint64{3, 1, 26}, retErrno | 92}, // SO_ATTACH_FILTER
		{"setsockopt", []uint64{3, 1, 50}, retErrno | 92}, // SO_ATTACH_BPF
		{"setsockopt", []uint64{3, 1, 51}, retErrno | 92}, // SO_ATTACH_REUSEPORT_CBPF
		{"sync", nil, retErrno},
		{"sendfile", nil, retErrno | 88},
		{"io_uring_setup", nil, retErrno | 38},
	}
	for goarch, a := range arches {
		p := program(t, goarch)
		nr := numbers(t, goarch)
		nr["io_uring_setup"] = 425
		for _, tt := range tests {
			if got := run(p, a.audit, nr[tt.name], tt.args...); got != tt.want {
				t.Errorf("%s: %s(%#x): %#x, want %#x", goarch, tt.name, tt.args, got, tt.want)
			}
		}
		if got := run(p, 0x40000003, 1); got != retKill { // AUDIT_ARCH_I386
			t.Errorf("%s: a call for another architecture: %#x", goarch, got)
		}
	}
	if got := run(program(t, "amd64"), arches["amd64"].audit, x32Bit|1); got != retErrno|38 {
		t.Errorf("a call of x32: %#x", got)
	}
}

func TestCompileRefuses(t *testing.T) {
	numbers := map[string]uint32{"read": 0}
	for name, policy := range map[string][]Group{
		"a call named twice":                     {{Allow: true, Names: []string{"read"}}, {Names: []string{"read"}}},
		"a denied call with a good argument":     {{Args: []Arg{{OneOf: []uint64{1}}}, Names: []string{"read"}}},
		"a second argument that is not the last": {{Allow: true, Args: []Arg{{OneOf: []uint64{1, 2}}, {Index: 1, OneOf: []uint64{1}}}, Names: []string{"read"}}},
	} {
		if _, err := compile(policy, arches["amd64"], numbers); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}

// TestDocumentation keeps docs/seccomp.md equal to the policy.
func TestDocumentation(t *testing.T) {
	var b strings.Builder
	b.WriteString("# System calls\n\nMade from the policy by `go test ./seccomp -update`. What is not named here gets ENOSYS; a call for another architecture kills the process.\n\n## Denied\n\n| calls | what they get | why |\n|---|---|---|\n")
	errno := map[Errno]string{0: "success, without doing anything", EPERM: "EPERM", EINVAL: "EINVAL", ENOTTY: "ENOTTY", ENOSYS: "ENOSYS", ENOTSOCK: "ENOTSOCK", ENOPROTOOPT: "ENOPROTOOPT", EOPNOTSUPP: "EOPNOTSUPP", EAFNOSUPPORT: "EAFNOSUPPORT"}
	for _, g := range Policy {
		if g.Allow && g.Args == nil {
			continue
		}
		what := errno[g.Errno]
		for i, arg := range g.Args {
			what += []string{" unless argument ", " and argument "}[min(i, 1)] + fmt.Sprint(arg.Index) + " is allowed"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.Join(g.Names, "` `"), what, g.Why)
	}
	b.WriteString("\n## Allowed\n\n| calls | for |\n|---|---|\n")
	for _, g := range Policy {
		if g.Allow && g.Args == nil {
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.Join(g.Names, "` `"), g.Why)
		}
	}
	const file = "../docs/seccomp.md"
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the policy says (%v); go test ./seccomp -update makes it so", file, err)
	}
}
