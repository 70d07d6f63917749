package coop

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Five mistakes that one could make, each in a copy of the sources: the model check finds
// every one of them.
func TestMutations(t *testing.T) {
	if modelSeeds < 100 {
		t.Skip("mutants run without the race detector")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, old, new string }{
		{"a leader without limit", "lease.go", "to = min(to, uint64(max(n.known[h], n.floor))+ahead)", "_ = h"},
		{"a primary never yields", "receive.go", "\t\tm.follow(p)\n\tcase Secondary:", "\tcase Secondary:"},
		{"gaps in tables count as filled", "table.go", "case x.from <= t.have:", "case true:"},
		{"keys of a yielded primary are not merged", "keys.go", "return p, true", "_ = p"},
		{"numbers are given away and kept", "lease.go", "n.void, n.given = true, nil\n", "n.given = nil\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(src), c.old) != 1 {
				t.Fatalf("%s has %q %d times", c.file, c.old, strings.Count(string(src), c.old))
			}
			tmp := t.TempDir()
			mutant := filepath.Join(tmp, c.file)
			if err := os.WriteFile(mutant, []byte(strings.Replace(string(src), c.old, c.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(dir, c.file): mutant}})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(tmp, "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("go", "test", "-overlay", file, "-run", "^TestModel$", ".")
			cmd.Env = append(os.Environ(), "GETVPN_COOP_SEEDS=2000")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "GETVPN_COOP_SEED=") {
				t.Errorf("not found: %v\n%s", err, out)
			}
			t.Logf("%.300s", out)
		})
	}
}
