// Package examples checks that the example configurations say only what the product
// understands.
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
	if err != nil || len(files) < 4 {
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
		if len(warnings) != 0 {
			t.Errorf("%s: %v", f, warnings)
		}
		for _, k := range c.Kept {
			t.Errorf("%s:%d: %q means nothing here", f, k.Line, k.Text)
		}
		if want := strings.TrimSuffix(filepath.Base(f), ".conf"); c.Hostname != want {
			t.Errorf("%s: hostname %q", f, c.Hostname)
		}
	}
}
