package seccomp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// An arch is what differs between architectures.
type arch struct {
	audit uint32 // AUDIT_ARCH_*
	x32   bool   // calls from x32Bit on are of another ABI with the same AUDIT_ARCH
}

var arches = map[string]arch{"amd64": {audit: 0xC000003E, x32: true}, "arm64": {audit: 0xC00000B7}}

const x32Bit = 0x40000000

// The return values of a filter (seccomp(2)).
const (
	retKill  = 0x80000000 // SECCOMP_RET_KILL_PROCESS
	retErrno = 0x00050000
	retAllow = 0x7FFF0000
)

// The instructions of classic BPF that are used (linux/filter.h), and the offsets of struct seccomp_data.
const (
	opLoad     = 0x20 // BPF_LD | BPF_W | BPF_ABS
	opJump     = 0x05 // BPF_JMP | BPF_JA
	opEqual    = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	opAtLeast  = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	opSet      = 0x45 // BPF_JMP | BPF_JSET | BPF_K
	opReturn   = 0x06 // BPF_RET | BPF_K
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

type instruction struct {
	op     uint16
	jt, jf uint8 // how many instructions to skip if true, if false
	k      uint32
}

// compile makes the program of a policy. It runs when the policy changes (go test -update) and in the tests, never in
// the product, which has the bytes.
//
// The numbers are those of the architecture; a name without one is left out, so it
// is for the caller to know that each name is somewhere.
func compile(policy []Group, a arch, numbers map[string]uint32) ([]instruction, error) {
	code := make(map[uint32][]instruction) // by number
	seen := make(map[string]bool)
	for _, g := range policy {
		for _, name := range g.Names {
			if seen[name] {
				return nil, fmt.Errorf("cannot compile the policy: %s is in it twice", name)
			}
			seen[name] = true
			nr, ok := numbers[name]
			switch {
			case !ok:
			case g.Args != nil && !g.Allow:
				return nil, fmt.Errorf("cannot compile the policy: %s has a restricted argument and is not allowed", name)
			case g.Args != nil:
				check, err := checkArgs(g.Args, g.Errno)
				if err != nil {
					return nil, fmt.Errorf("cannot compile the policy: %s: %w", name, err)
				}
				code[nr] = check
			case g.Allow:
				code[nr] = []instruction{{op: opReturn, k: retAllow}}
			default:
				code[nr] = []instruction{refusal(g.Errno)}
			}
		}
	}

	p := []instruction{
		{op: opLoad, k: offsetArch},
		{op: opEqual, k: a.audit, jt: 1},
		{op: opReturn, k: retKill},
		{op: opLoad, k: offsetNr},
	}
	if a.x32 {
		p = append(p, instruction{op: opAtLeast, k: x32Bit, jf: 1}, refusal(ENOSYS))
	}
	p = append(p, search(leaves(code))...)
	if len(p) > 4096 { // BPF_MAXINSNS
		return nil, fmt.Errorf("cannot compile the policy: %d instructions are more than the kernel takes", len(p))
	}
	return p, nil
}

func refusal(e Errno) instruction { return instruction{op: opReturn, k: retErrno | uint32(e)} }

// A leaf is what is done with the calls from one number up to that of the next leaf. It ends with a return.
type leaf struct {
	first uint32
	code  []instruction
}

// leaves are those of all numbers. Neighbours with the same code share one.
func leaves(code map[uint32][]instruction) (list []leaf) {
	add := func(first uint32, code ...instruction) {
		if len(list) == 0 || !slices.Equal(list[len(list)-1].code, code) {
			list = append(list, leaf{first, code})
		}
	}
	next := uint32(0)
	for _, nr := range slices.Sorted(maps.Keys(code)) {
		if nr > next {
			add(next, refusal(Default))
		}
		add(nr, code[nr]...)
		next = nr + 1
	}
	add(next, refusal(Default))
	return list
}

// search finds a call's leaf by halves. When a filter is loaded, the kernel runs it once for each number, to know those that it
// need not ask about (seccomp_cache_prepare in kernel/seccomp.c): one test after the other made that as long as all the
// rest of the loading.
func search(leaves []leaf) []instruction {
	if len(leaves) == 1 {
		return leaves[0].code
	}
	half := len(leaves) / 2
	below, above := search(leaves[:half]), search(leaves[half:])
	test := []instruction{{op: opAtLeast, k: leaves[half].first, jt: uint8(len(below))}}
	if len(below) > 255 { // a conditional jump is no longer than that
		test = []instruction{{op: opAtLeast, k: leaves[half].first, jf: 1}, {op: opJump, k: uint32(len(below))}}
	}
	return slices.Concat(test, below, above)
}

// checkArgs allows the call if its arguments are as they must be.
func checkArgs(args []Arg, errno Errno) ([]instruction, error) {
	last := len(args) - 1
	body := append(checkArg(args[last]), refusal(errno))
	for _, arg := range slices.Backward(args[:last]) {
		if len(arg.OneOf) != 1 {
			return nil, fmt.Errorf("argument %d is not the last one, and has more values than one", arg.Index)
		}
		body = append(only(arg, len(body)-1), body...)
	}
	return body, nil
}

// only goes on if the argument has its one value, and else past the rest of the check.
func only(arg Arg, rest int) []instruction {
	low := uint32(offsetArgs + 8*arg.Index)
	return []instruction{
		{op: opLoad, k: low + 4},
		{op: opEqual, k: uint32(arg.OneOf[0] >> 32), jf: uint8(rest + 2)},
		{op: opLoad, k: low},
		{op: opEqual, k: uint32(arg.OneOf[0]), jf: uint8(rest)},
	}
}

// checkArg allows the call if the argument is as it must be, and else falls through.
func checkArg(arg Arg) []instruction {
	low := uint32(offsetArgs + 8*arg.Index) // both architectures are little-endian
	high := low + 4
	allow := instruction{op: opReturn, k: retAllow}
	if arg.OneOf == nil {
		return []instruction{
			{op: opLoad, k: high},
			{op: opSet, k: uint32(arg.NoneOf >> 32), jt: 3},
			{op: opLoad, k: low},
			{op: opSet, k: uint32(arg.NoneOf), jt: 1},
			allow,
		}
	}
	var p []instruction
	for _, v := range arg.OneOf {
		p = append(
			p,
			instruction{op: opLoad, k: high}, instruction{op: opEqual, k: uint32(v >> 32), jf: 3},
			instruction{op: opLoad, k: low}, instruction{op: opEqual, k: uint32(v), jf: 1}, allow,
		)
	}
	return p
}

// encode writes a program as struct sock_filter[].
func encode(program []instruction) []byte {
	var b []byte
	for _, i := range program {
		b = binary.LittleEndian.AppendUint16(b, i.op)
		b = append(b, i.jt, i.jf)
		b = binary.LittleEndian.AppendUint32(b, i.k)
	}
	return b
}
