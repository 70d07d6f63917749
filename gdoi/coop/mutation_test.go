package coop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutation is a mistake that one could make. In place of old, which a source has once,
// stands new, in which MUTANT is true in this mutant's life alone. The search begins with
// the seed from, near one that finds it.
type mutation struct {
	name, file, old, new string
	from                 int
}

func mutations() []mutation {
	return []mutation{
		{"a leader without limit", "lease.go",
			"to = min(to, uint64(max(n.known[h], n.floor))+ahead)", "if !MUTANT { to = min(to, uint64(max(n.known[h], n.floor))+ahead) }", 32},
		{"a primary never yields", "receive.go",
			"return\n\t\t}\n\t\tm.follow(p)", "return\n\t\t}\n\t\tif !MUTANT { m.follow(p) }", 3},
		{"gaps in tables count as filled", "table.go",
			"case x.from <= t.have:", "case MUTANT || x.from <= t.have:", 167},
		{"keys of a yielded primary are not merged", "keys.go",
			"return p, true", "if !MUTANT { return p, true }", 5},
		{"numbers are given away and kept", "lease.go",
			"n.void, n.given = true, nil\n", "n.void, n.given = !MUTANT, nil\n", 392},
		{"successors' numbers overlap", "lease.go",
			"from := uint64(n.base) + jump + apart*uint64(i-1)", "from := uint64(n.base) + jump + apart*uint64(i-1)\n\tif MUTANT { from = uint64(n.base) + jump }", 6},
		{"a key server's own row of a member counts, even an older one", "rows.go",
			"row == nil || r.beats(row, in.less(id))", "row == nil || r.beats(row, in.less(id)) || MUTANT && t == m.own", 4},
		{"a primary that is gone is never missed", "peer.go",
			"if p.addr == m.primary {\n\t\tm.elect(p.addr)", "if p.addr == m.primary && !MUTANT {\n\t\tm.elect(p.addr)", 38},
	}
}

// Mistakes, each in a life of its own of a test binary made from a copy of the sources:
// the model check finds every one of them, and nothing where none is made.
func TestMutations(t *testing.T) {
	if raceDetector {
		t.Skip("mutants run without the race detector")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	binary := filepath.Join(tmp, "mutants")
	sources := map[string]string{"mutant.go": "package coop\n\nimport \"os\"\n\nvar mutant = os.Getenv(\"GETVPN_COOP_MUTANT\")\n"}
	for i, c := range mutations() {
		if sources[c.file] == "" {
			src, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			sources[c.file] = string(src)
		}
		if n := strings.Count(sources[c.file], c.old); n != 1 {
			t.Fatalf("%s: %s has %q %d times", c.name, c.file, c.old, n)
		}
		sources[c.file] = strings.Replace(sources[c.file], c.old, strings.ReplaceAll(c.new, "MUTANT", fmt.Sprintf("(mutant == \"%d\")", i)), 1)
	}
	replace := map[string]string{}
	for name, text := range sources {
		replace[filepath.Join(dir, name)] = filepath.Join(tmp, name)
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "test", "-c", "-overlay", file, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("the mutants aren't built: %v\n%s", err, out)
	}
	life := func(mutant string, from, seeds int) (string, error) {
		cmd := exec.Command(binary, "-test.run", "^TestModel$", "-test.v")
		cmd.Env = append(os.Environ(), "GETVPN_COOP_MUTANT="+mutant, "GETVPN_COOP_SEED=", fmt.Sprintf("GETVPN_COOP_FIRST=%d", from), fmt.Sprintf("GETVPN_COOP_SEEDS=%d", seeds))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := life("", 1, 20); err != nil || !strings.Contains(out, "20 seeds from 1") {
		t.Fatalf("without a mistake: %v\n%s", err, out)
	}
	for i, c := range mutations() {
		t.Run(c.name, func(t *testing.T) {
			out, err := life(fmt.Sprint(i), c.from, 2000)
			if err == nil || !strings.Contains(out, "to see what happened: GETVPN_COOP_SEED=") || strings.Contains(out, "panic:") {
				t.Errorf("not found: %v\n%s", err, out)
			}
			t.Logf("%.600s", out)
		})
	}
}
