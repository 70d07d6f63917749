package housetest

// The table of rooms: what each may import of ours, and why not more. A room is the
// longest entry that a package's path starts with; packages of one room may import
// each other. Tests (_test.go) may import what they like, except programs.

import (
	"slices"
	"strings"
	"testing"
)

// room is one row of the design's table.
type room struct {
	path   string
	may    []string // rooms; "*" is any
	reason string   // why nothing else
}

// open rooms hold values that carry no behaviour of the product: everyone may use them.
var open = []string{"internal/secret", "internal/clock"}

var rooms = []room{
	{"model", nil, "the model is what everyone reads: it must not know who writes or shows it"},
	{"model/event", []string{"model"}, "the catalogue names happenings; it must not know engines or sinks"},
	{"gdoi/isakmp", nil, "a pure codec: octets in, values out"},
	{"gdoi/ike", []string{"gdoi/isakmp", "model", "model/event"}, "phase 1 serves any exchange above it: it must not know groups, policy or configuration"},
	{"gdoi", []string{"gdoi/isakmp"}, "protocol machines are pure: no socket, no policy engine, no event"},
	{"gdoi/policy", []string{"gdoi", "gdoi/isakmp", "ipsec", "model"}, "translation between wire, dataplane and shown values, nothing that acts"},
	{"gdoi/ks", []string{"gdoi", "gdoi/policy", "gdoi/isakmp", "gdoi/ike", "gdoi/coop", "ipsec", "model", "model/event", "config"}, "the key server must not know the dataplane, the CLI or a member's engine"},
	{"gdoi/gm", []string{"gdoi", "gdoi/policy", "gdoi/isakmp", "gdoi/ike", "ipsec", "model", "model/event", "config"}, "a member meets the dataplane only through its Installer, and never the key server's engine"},
	{"gdoi/coop", []string{"gdoi", "gdoi/isakmp"}, "a machine: its key server moves the octets"},
	{"ipsec", nil, "IPsec without I/O: nothing of the protocol that made the keys"},
	{"ipsec/dataplane", []string{"ipsec", "ipsec/dataplane/steer", "model", "model/event"}, "the dataplane takes policy as values: it must not know GDOI or configuration"},
	{"ipsec/dataplane/steer", []string{"ipsec"}, "steering is compiled from a ruleset and knows nothing else"},
	{"config", []string{"ipsec", "gdoi", "cli/grammar"}, "text to values and back: it touches no engine and no system"},
	{"cli/grammar", nil, "one declaration per command, usable by files and shells"},
	{"cli", []string{"cli/grammar", "config", "model", "model/event"}, "views read the model and act through Control: they never reach an engine"},
	{"syslog", []string{"model/event"}, "a sink renders events: it must not know who emits them"},
	{"agent", []string{"model", "model/event", "mib"}, "the subagent reads snapshots: it never asks an engine"},
	{"agent/agentx", nil, "a protocol session: it knows no MIB"},
	{"mib", nil, "generated tables"},
	{"daemon", []string{"*"}, "the composition root"},
	{"cmd/getvpnd", []string{"daemon", "config"}, "flags, signals and exit codes only"},
	{"cmd/getvpn", []string{"cli", "cli/grammar"}, "the shell talks to a daemon through its socket"},
	{"packaging", nil, "files, not code"},
	{"internal/secret", nil, "a type for keys, without dependencies"},
	{"internal/clock", nil, "time, without dependencies"},
	{"internal/machine", nil, "reads the system, knows none of us"},
	{"internal/sealed", nil, "octets and a key in, files out: it doesn't know what it keeps"},
	{"internal/mcast", nil, "memberships of the machine, for whoever receives"},
	{"internal/golden", nil, "a test helper, without dependencies"},
	{"internal/housetest", nil, "reads sources, calls none of them"},
	{"internal/memnet", nil, "a network for tests: ike's own tests use it, so it may name nobody's types"},
	{"internal/sim", []string{"internal/memnet", "ipsec", "ipsec/dataplane", "model"}, "a dataplane for tests: it takes policy as the real one does and knows no engine"},
	{"internal/lab", nil, "drives the built programs from outside, as a user does"},
	{"test", []string{"*"}, "judges everything"},
	{"bench", []string{"*"}, "measures everything"},
}

// programs and judges that no product package may import.
var neverImported = []string{"cmd", "test", "bench", "internal/housetest", "daemon"}

// roomOf returns the row that a package belongs to.
func roomOf(pkg string) (room, bool) {
	var best room
	found := false
	for _, r := range rooms {
		if (pkg == r.path || strings.HasPrefix(pkg, r.path+"/")) && len(r.path) >= len(best.path) {
			best, found = r, true
		}
	}
	return best, found
}

func within(pkg string, tops []string) bool {
	return slices.ContainsFunc(tops, func(t string) bool { return pkg == t || strings.HasPrefix(pkg, t+"/") })
}

// Arrows between rooms point down only.
func TestImportsFollowTheTable(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		from, ok := roomOf(f.pkg)
		if !ok {
			t.Errorf("%s: package %s stands in no room: add it to the table with a reason", f.path, f.pkg)
			continue
		}
		for _, imp := range f.ours() {
			to, ok := roomOf(imp)
			switch {
			case !ok:
				t.Errorf("%s imports %s, which stands in no room", f.path, imp)
			case to.path == from.path || slices.Contains(open, to.path):
			case within(imp, neverImported) && !within(f.pkg, neverImported):
				t.Errorf("%s imports %s: programs and judges are never imported", f.path, imp)
			case slices.Contains(from.may, "*") || slices.Contains(from.may, to.path):
			default:
				t.Errorf("%s: %s may not import %s: %s", f.path, from.path, imp, from.reason)
			}
		}
	}
}

// The machines stay pure: no socket, clock, log or process below them.
func TestPureRoomsImportNoIO(t *testing.T) {
	pure := map[string]string{
		"gdoi/isakmp": "a codec", "gdoi": "protocol machines", "gdoi/coop": "a machine",
		"gdoi/policy": "translation", "ipsec": "IPsec without I/O", "cli/grammar": "a grammar",
	}
	io := []string{"net", "os", "log", "log/slog", "syscall", "os/exec", "math/rand", "math/rand/v2", "golang.org/x/sys/unix"}
	for _, f := range sources(t) {
		r, ok := roomOf(f.pkg)
		if f.test || !ok || pure[r.path] == "" {
			continue
		}
		for _, imp := range f.imports() {
			if slices.Contains(io, imp) {
				t.Errorf("%s: %s is %s and may not import %s", f.path, r.path, pure[r.path], imp)
			}
		}
	}
}

// A row that forbids what another allows would make the table a lie.
func TestTableHasNoCycle(t *testing.T) {
	next := map[string][]string{}
	for _, r := range rooms {
		if !slices.Contains(r.may, "*") {
			next[r.path] = r.may
		}
	}
	var visit func(at string, path []string)
	visit = func(at string, path []string) {
		if slices.Contains(path, at) {
			t.Fatalf("cycle: %s", strings.Join(append(path, at), " → "))
		}
		for _, n := range next[at] {
			visit(n, append(slices.Clone(path), at))
		}
	}
	for _, r := range rooms {
		visit(r.path, nil)
	}
}
