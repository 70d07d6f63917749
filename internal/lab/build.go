package lab

// The programs that daemons and shells are started from, for who tests the tree rather
// than a folder of built ones.

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Build compiles getvpnd and getvpn into a folder that exists, with further flags of go
// build. The working directory must be in the tree.
func Build(dir string, flags ...string) error {
	args := append(append([]string{"build"}, flags...), "-o", dir+"/", "getvpn/cmd/getvpnd", "getvpn/cmd/getvpn")
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
