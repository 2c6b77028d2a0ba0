package seccomp

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestProfile puts the profile's rules beside the compiled filter: every number, and arguments on both sides of each
// restriction.
func TestProfile(t *testing.T) {
	for goarch, a := range arches {
		p, err := Profile(goarch)
		if err != nil {
			t.Fatal(err)
		}
		filter := program(t, goarch)
		name := make(map[uint32]string)
		for n, nr := range numbers(t, goarch) {
			name[nr] = n
		}
		values := []uint64{0, 3, 0x7777_7777, 1 << 32, 1 | 1<<32, namespaces, 1 << 28}
		for _, g := range Policy {
			for _, arg := range g.Args {
				values = append(values, arg.OneOf...)
			}
		}
		for nr := range uint32(1024) {
			restricted := slices.ContainsFunc(Policy, func(g Group) bool {
				return len(g.Args) > 0 && (len(g.Args) > 1 || len(g.Args[0].OneOf) != 1) && slices.Contains(g.Names, name[nr])
			})
			for _, v := range values {
				args := []uint64{v, v, v, v, v, v}
				want, got := run(filter, a.audit, nr, args...), decide(t, p, name[nr], args)
				if restricted && want != retAllow {
					want = retErrno | uint32(Default)
				}
				if got != want {
					t.Errorf("%s: %s (%d) with %#x: the profile says %#x, the filter %#x", goarch, name[nr], nr, v, got, want)
				}
			}
		}
	}
	if _, err := Profile("386"); err == nil {
		t.Error("there is a profile for 386")
	}
}

// decide is what libseccomp makes of the rules for a call.
func decide(t *testing.T, p *specs.LinuxSeccomp, name string, args []uint64) uint32 {
	t.Helper()
	for _, s := range p.Syscalls {
		if !slices.Contains(s.Names, name) {
			continue
		}
		hold := true
		for _, a := range s.Args {
			switch a.Op {
			case specs.OpEqualTo:
				hold = hold && args[a.Index] == a.Value
			case specs.OpNotEqual:
				hold = hold && args[a.Index] != a.Value
			case specs.OpMaskedEqual:
				hold = hold && args[a.Index]&a.Value == a.ValueTwo
			default:
				t.Fatalf("operator %s", a.Op)
			}
		}
		switch {
		case !hold:
		case s.Action == specs.ActAllow:
			return retAllow
		default:
			return retErrno | uint32(*s.ErrnoRet)
		}
	}
	return retErrno | uint32(*p.DefaultErrnoRet)
}
