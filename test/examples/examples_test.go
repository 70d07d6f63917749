// Package examples checks that the example configurations say only what the product
// understands, and that those of the case study work together.
package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"getvpn/config"
)

func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/*.conf")
	if err != nil || len(files) < 12 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, warnings, err := config.Parse(filepath.Base(f), text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, w := range warnings {
			if !strings.HasPrefix(w.Text, "kept, without effect here: ") {
				t.Errorf("%s: %v", f, w)
			}
		}
		if errs := config.Validate(c); len(errs) != 0 {
			t.Errorf("%s: %v", f, errs)
		}
		for _, k := range c.Kept {
			if !routing(k.Text) {
				t.Errorf("%s:%d: %q means nothing here", f, k.Line, k.Text)
			}
		}
		if want := strings.TrimSuffix(filepath.Base(f), ".conf"); strings.ToLower(c.Hostname) != want {
			t.Errorf("%s: hostname %q", f, c.Hostname)
		}
	}
}

// routing reports whether a line that is kept says how the case study's devices route: on
// Linux that is somebody else's.
func routing(line string) bool {
	return strings.HasPrefix(line, "router bgp ") || strings.HasPrefix(line, "ip route ")
}
