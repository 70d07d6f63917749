package examples

import (
	"os"
	"os/exec"
	"testing"

	"getvpn/internal/lab"
)

// The files of examples/case-study, run as make lab-case-study does, without its leavings.
func TestCaseStudyRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	t.Chdir("../..") // the example files are named from the tree's top
	bin := os.Getenv("GETVPN_BIN")
	if bin == "" {
		bin = t.TempDir()
		if err := lab.Build(bin); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("go", "run", "./internal/lab/cmd/lab", "case-study", "check")
	c.Env = append(os.Environ(), "GETVPN_BIN="+bin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}
