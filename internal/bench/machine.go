package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A Machine is what decides how fast things are, without a name or an address of it.
type Machine struct {
	CPU     string  `json:"cpu"`
	CPUs    int     `json:"cpus"`
	Memory  float64 `json:"memoryGB"` // whole GB
	Kernel  string  `json:"kernel"`
	Arch    string  `json:"arch"`
	Cgroups string  `json:"cgroups"`
	User    string  `json:"user"` // root, or not
}

// Fingerprint is the same for the same kind of machine, kernel and kind of user.
func (m Machine) Fingerprint() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q", []any{m.CPU, m.CPUs, m.Memory, m.Kernel, m.Arch, m.Cgroups, m.User}))
	return hex.EncodeToString(h[:6])
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs, %g GB, Linux %s %s, cgroup %s, as %s (fingerprint %s)", m.CPU, m.CPUs, m.Memory, m.Kernel, m.Arch, m.Cgroups, m.User, m.Fingerprint())
}

// A MachineError says that two reports are not of the same machine, and so say nothing about one another.
type MachineError struct{ Old, New Machine }

func (e *MachineError) Error() string {
	return fmt.Sprintf("cannot compare across machines: then %v; now %v", e.Old, e.New)
}
