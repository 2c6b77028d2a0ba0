//go:build ignore

// This program writes numbers.tsv: the numbers of the system calls that the policy names, on amd64 and arm64, from
// golang.org/x/sys, which has them from the kernel's headers. A name that neither has is an error. Then
// `go test ./seccomp -update` compiles the policy with them.

package main

import (
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		log.Fatal(err)
	}
	policy, err := os.ReadFile("policy.go")
	if err != nil {
		log.Fatal(err)
	}
	numbers := map[string][2]string{}
	for _, list := range regexp.MustCompile(`(?s)Names: \[\]string\{(.*?)\}`).FindAllStringSubmatch(string(policy), -1) {
		for _, m := range regexp.MustCompile(`"([a-z0-9_]+)"`).FindAllStringSubmatch(list[1], -1) {
			numbers[m[1]] = [2]string{"-", "-"}
		}
	}
	for i, arch := range []string{"amd64", "arm64"} {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"))
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)`).FindAllStringSubmatch(string(b), -1) {
			name := strings.ToLower(m[1])
			if arch == "arm64" && name == "fstatat" { // the C library's name
				name = "newfstatat"
			}
			if n, ok := numbers[name]; ok {
				n[i] = m[2]
				numbers[name] = n
			}
		}
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		n := numbers[name]
		if n[0] == "-" && n[1] == "-" {
			log.Fatalf("generate: the policy names %q, which is no system call of amd64 or arm64", name)
		}
		fmt.Fprintf(&out, "%s\t%s\t%s\n", name, n[0], n[1])
	}
	if err := os.WriteFile("numbers.tsv", []byte(out.String()), 0o644); err != nil {
		log.Fatal(err)
	}
}
