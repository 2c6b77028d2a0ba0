package seccomp

import (
	_ "embed"
	"fmt"
)

//go:generate go run generate.go

// The compiled policy, and the numbers of the system calls it names, are made by generate.go and checked by a test.
var (
	//go:embed filter_amd64.bpf
	filterAMD64 []byte
	//go:embed filter_arm64.bpf
	filterARM64 []byte
)

// Filter is the policy for a GOARCH, as an array of the kernel's struct sock_filter.
func Filter(goarch string) ([]byte, error) {
	switch goarch {
	case "amd64":
		return filterAMD64, nil
	case "arm64":
		return filterARM64, nil
	}
	return nil, fmt.Errorf("there is no system call filter for %s: only for amd64 and arm64", goarch)
}
