package main

import (
	"os"
	"testing"

	"getvpn/internal/lab"
)

// The files of examples/case-study, run: make lab-case-study without its leavings.
func TestCaseStudy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	t.Chdir("../../../..") // the example files are named from the tree's top
	bin := t.TempDir()
	if err := lab.Build(bin); err != nil {
		t.Fatal(err)
	}
	if err := checkCaseStudy(lab.Options{Bin: bin}); err != nil {
		t.Fatal(err)
	}
}
