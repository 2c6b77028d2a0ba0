package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Profile is the policy for a GOARCH in the words of the OCI runtime specification, for runtimes that compile it
// themselves, such as crun, runc and podman. It allows and denies the same calls. One difference cannot be said there: where
// an argument may have several values, another one gives [Default] and not the errno of its group, because libseccomp
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
		case g.Arg == nil:
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: g.Names, Action: specs.ActAllow})
		case g.Arg.OneOf == nil:
			p.Syscalls = append(p.Syscalls, allowIf(g.Names, specs.LinuxSeccompArg{
				Index: uint(g.Arg.Index), Value: g.Arg.NoneOf, ValueTwo: 0, Op: specs.OpMaskedEqual,
			}))
		case len(g.Arg.OneOf) == 1 && g.Errno != Default:
			is := specs.LinuxSeccompArg{Index: uint(g.Arg.Index), Value: g.Arg.OneOf[0], Op: specs.OpEqualTo}
			not, errno := is, uint(g.Errno)
			not.Op = specs.OpNotEqual
			p.Syscalls = append(p.Syscalls, allowIf(g.Names, is), specs.LinuxSyscall{
				Names: g.Names, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{not},
			})
		default:
			for _, v := range g.Arg.OneOf { // rules of their own: the conditions within one must all hold
				p.Syscalls = append(p.Syscalls, allowIf(g.Names, specs.LinuxSeccompArg{Index: uint(g.Arg.Index), Value: v, Op: specs.OpEqualTo}))
			}
		}
	}
	return p, nil
}

func allowIf(names []string, arg specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg}}
}
