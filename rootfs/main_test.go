package rootfs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The test binary plays other processes: the unpacker, a user's Ensure, and one that is killed half-way.
const childEnv = "ROOTFS_TEST_CHILD"

func TestMain(m *testing.M) {
	Init(context.Background())
	unix.Umask(0o022) // umoci, the oracle, makes some directories by it
	switch os.Getenv(childEnv) {
	case "ensure":
		os.Exit(childEnsure())
	case "use":
		os.Exit(childUse())
	case "half":
		os.Exit(childHalf())
	}
	if f := systemChildren[os.Getenv(childEnv)]; f != nil {
		os.Exit(f())
	}
	os.Exit(m.Run())
}

// childEnsure prints the tree of os.Args[2] in the cache os.Args[1].
func childEnsure() int {
	tree, err := (&Store{Dir: os.Args[1]}).Ensure(context.Background(), os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(tree); err != nil {
		return 2
	}
	return 0
}

// childUse uses an image until its standard input ends.
func childUse() int {
	if _, err := (&Store{Dir: os.Args[1]}).Ensure(context.Background(), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("used")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// childHalf begins the entry with the digest os.Args[2], says so, and waits to be killed.
func childHalf() int {
	c, err := (&Store{Dir: os.Args[1]}).cache()
	if err != nil {
		return 1
	}
	_, err = c.populate(context.Background(), digest.Digest(os.Args[2]), func(_ context.Context, st staging) (entry, error) {
		if err := os.WriteFile(st.root+"/half", []byte("written"), 0o644); err != nil {
			return entry{}, err
		}
		fmt.Println("half")
		_, err := io.Copy(io.Discard, os.Stdin) // for ever: the test keeps it open
		return entry{}, err
	})
	fmt.Fprintln(os.Stderr, err)
	return 1
}
