package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func load(t *testing.T, path string) (*Config, []Warning) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, w, err := Parse(path, text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c, w
}

// Whole device configurations load, the demo's too; printing and reading again is a no-op.
func TestFilesLoadAndRoundTrip(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.conf")
	demo, _ := filepath.Glob("../examples/*/*.conf")
	if len(files) < 4 {
		t.Fatal("no files")
	}
	for _, f := range append(files, demo...) {
		c, _ := load(t, f)
		text := Render(c)
		d, _, err := Parse("rendered", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if got := Render(d); got != text {
			t.Errorf("%s: rendered twice differs:\n%s\n%s", f, text, got)
		}
		if !Equal(c, d) {
			t.Errorf("%s: not equal after a round trip", f)
		}
		if strings.Contains(text, "<nil>") || strings.Contains(text, "redacted") || strings.Contains(text, "invalid") {
			t.Errorf("%s: %s", f, text)
		}
	}
}
