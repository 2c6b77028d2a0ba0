package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Profile is the policy for a GOARCH in the words of the OCI runtime specification, for runtimes that compile it
// themselves, such as crun, runc and podman. It allows and denies the same calls. One difference cannot be said there: where
// an argument may have several values, or several are looked at, another one gives [Default] and not the errno of its group, because libseccomp
// knows no "else", and one comparison of an argument in a rule.
func Profile(goarch string) (*specs.LinuxSeccomp, error) {
	architecture, ok := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[goarch]
	if !ok {
		return nil, fmt.Errorf("there is no system call filter for %s: only for amd64 and arm64", goarch)
	}
	byDefault := uint(Default)
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &byDefault,
		Architectures: []specs.Arch{architecture},
	}
	for _, g := range Policy {
		switch {
		case !g.Allow:
			errno := uint(g.Errno)
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: g.Names, Action: specs.ActErrno, ErrnoRet: &errno})
		case g.Args == nil:
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: g.Names, Action: specs.ActAllow})
		default:
			p.Syscalls = append(p.Syscalls, restricted(g)...)
		}
	}
	return p, nil
}

// restricted are the rules of a group with Args.
func restricted(g Group) (rules []specs.LinuxSyscall) {
	last := len(g.Args) - 1
	var all []specs.LinuxSeccompArg // the conditions within a rule must all hold
	for _, arg := range g.Args[:last] {
		all = append(all, equal(arg, 0))
	}
	arg := g.Args[last]
	switch {
	case arg.OneOf == nil:
		rules = append(rules, allowIf(g.Names, append(all, specs.LinuxSeccompArg{
			Index: uint(arg.Index), Value: arg.NoneOf, ValueTwo: 0, Op: specs.OpMaskedEqual,
		})))
	case last == 0 && len(arg.OneOf) == 1 && g.Errno != Default:
		is := equal(arg, 0)
		not, errno := is, uint(g.Errno)
		not.Op = specs.OpNotEqual
		rules = append(rules, allowIf(g.Names, []specs.LinuxSeccompArg{is}), specs.LinuxSyscall{
			Names: g.Names, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{not},
		})
	default:
		for i := range arg.OneOf {
			rules = append(rules, allowIf(g.Names, append(all[:last:last], equal(arg, i))))
		}
	}
	return rules
}

func equal(arg Arg, i int) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: uint(arg.Index), Value: arg.OneOf[i], Op: specs.OpEqualTo}
}

func allowIf(names []string, args []specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: args}
}
