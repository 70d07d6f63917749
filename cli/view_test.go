package cli

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"getvpn/model"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func run(t *testing.T, f *fake, line string) string {
	t.Helper()
	x := &Exec{Control: f, Now: func() time.Time { return now }}
	out, err := x.Run(line, false)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return out
}

// golden wants of a command what its file in testdata holds.
func golden(t *testing.T, f *fake, line string) {
	t.Helper()
	got := run(t, f, line)
	file := filepath.Join("testdata", strings.ReplaceAll(line, " ", "-")+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", line, got, want)
	}
}

// Every view over the same snapshot, as files that a person can compare with a device.
func TestViewsMatchTheirGoldenFiles(t *testing.T) {
	for _, line := range []string{"show crypto gdoi", "show crypto gdoi group getvpn1", "show crypto gdoi gm", "show crypto gdoi gm acl",
		"show crypto gdoi gm acl local", "show crypto gdoi gm dataplane counters", "show crypto gdoi ks", "show crypto gdoi ks acl",
		"show crypto gdoi ks members", "show crypto gdoi ks members 44.44.44.1", "show crypto gdoi ks members summary", "show crypto gdoi ks policy", "show crypto gdoi ipsec sa",
		"show crypto isakmp sa", "show crypto isakmp sa detail", "show crypto ipsec sa", "show crypto drops",
		"show crypto gdoi ks rekey", "show crypto gdoi ks replay", "show crypto gdoi ks identifier", "show crypto gdoi ks identifier detail",
		"show crypto gdoi gm rekey", "show crypto gdoi gm rekey detail", "show crypto gdoi gm replay", "show crypto gdoi gm pubkey",
		"show crypto gdoi gm identifier", "show crypto gdoi gm identifier detail", "show crypto gdoi rekey sa", "show crypto gdoi rekey sa detail",
		"show crypto map gdoi fail-close", "show running-config"} {
		golden(t, fixture(t), line)
	}
}

// The forms that public parsers demand (without them they refuse the whole output).
func TestLinesThatParsersNeed(t *testing.T) {
	f := fixture(t)
	for line, needs := range map[string][]string{
		"show crypto gdoi group getvpn1": {`^Group Name\s+: (\w+)$`, `^Group Identity\s+: \d+$`, `^Crypto Path\s+: ipv4$`, `^Key Management Path\s+: ipv4$`,
			`^Group Server list\s+: [\d.]+$`, `^Group Member Information For Group \w+:$`, `^ACL Received From KS     : \w+$`, `^Group member\s+: [\d.]+\s+vrf: \w+$`,
			`^Local addr/port\s+: [\d.]+/\d+$`, `^fvrf/ivrf\s+: \w+/\w+$`, `^Registration status\s+: Registered$`, `^Re-registers in\s+: 449 sec$`,
			`^Succeeded registration: 1$`, `^DP Error Monitoring\s+: ON$`, `^IPSEC init reg executed\s+: 1$`, `^Active TEK Number\s+: 2$`, `^SA Track \(OID/status\) : 7/UP$`,
			`^Rekeys cumulative$`, `^Total received\s+: \d+$`, `^ACL Downloaded From KS [\d.]+:$`, `^access-list\s+permit ip`, `^KEK POLICY:$`, `^Rekey Transport Type\s+: \w+$`,
			`^Lifetime \(secs\)\s+: 787$`, `^Key Size\s+: 256$`, `^Sig Key Length \(bits\)\s+: 4400$`, `^TEK POLICY for the current KS-Policy ACEs Downloaded:$`,
			`^spi: 0x5A69F51E\(1516893470\)$`, `^Anti-Replay\(Counter Based\) : 64$`, `^encaps: ENCAPS_TUNNEL$`, `^KGS POLICY:$`, `^P2P POLICY:$`, `^REG_GM: local_addr [\d.]+$`},
		"show crypto gdoi ks policy": {`^For group \w+ \(handle: 0x\w+\) server [\d.]+ \(handle: 0x\w+\):$`, `^# of teks : 2  Seq num : 3$`, `^spi : 0x[0-9A-F]{32}$`,
			`^sig hash algorithm : enabled\s+sig key length\s+: 550$`, `^acknowledgement    : Cisco$`, `^orig life\(sec\)\s+: 600\s+remaining life\(sec\)\s+: 188$`},
		"show crypto isakmp sa": {`^IPv4 Crypto ISAKMP SA$`, `^IPv6 Crypto ISAKMP SA$`, `^172.16.1.1      172.16.1.9      GDOI_IDLE         1067 ACTIVE$`,
			`^100.0.10.2      100.13.220.2    MM_NO_STATE      29609 ACTIVE \(deleted\)$`},
		"show crypto gdoi gm dataplane counters": {`^#pkts encrypt\s+: 14\s+#pkts decrypt\s+: 10$`, `^#pkts invalid prot \(rcv\) : 9\s+#pkts verify fail`},
	} {
		if line == "show crypto gdoi gm dataplane counters" {
			needs = []string{`^#pkts encrypt\s+: 14\s+#pkts decrypt\s+: 10$`, `^#pkts no sa \(send\)\s+: 2\s+#pkts invalid sa \(rcv\)\s+: 0$`}
		}
		var lines []string
		for _, l := range strings.Split(run(t, f, line), "\n") {
			lines = append(lines, strings.TrimSpace(l))
		}
		all := strings.Join(lines, "\n")
		for _, n := range needs {
			if !regexp.MustCompile("(?m)" + n).MatchString(all) {
				t.Errorf("%s: no line %s in\n%s", line, n, all)
			}
		}
	}
}

// A daemon without groups, and a member that never registered, print without a fuss.
func TestEmptyAndUnregistered(t *testing.T) {
	f := fixture(t)
	f.snap.KeyServers, f.snap.Members = nil, []model.GMGroup{{Name: "g"}}
	out := run(t, f, "show crypto gdoi")
	for _, want := range []string{"Registration status   : Not registered", "Group member             : 0.0.0.0         vrf: None", "Registered with       : 0.0.0.0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	run(t, f, "show crypto ipsec sa")
	f.snap = model.Snapshot{Hostname: "x"}
	if out := run(t, f, "show crypto gdoi"); out != "" {
		t.Errorf("without groups: %q", out)
	}
}

// cli-03: the texts and the caret that scripts search for; the column counts the prompt.
func TestCLI03ErrorsInTheDevicesWords(t *testing.T) {
	x := &Exec{Control: fixture(t)}
	for line, want := range map[string]string{
		"show crypto gdoi foo": "                     ^\n% Invalid input detected at '^' marker.\n\n",
		"show crypto":          "% Incomplete command.\n\n",
		"show":                 "% Type \"show ?\" for a list of subcommands\n",
		"sh c":                 "% Ambiguous command:  \"sh c\"\n\n",
	} {
		_, err := x.Run(line, false)
		var f *Failed
		if !errors.As(err, &f) || f.Text != want {
			t.Errorf("%s: %q, want %q", line, err, want)
		}
	}
	if h := x.Help("show crypto i"); h != "ipsec  isakmp\n" {
		t.Errorf("help: %q", h)
	}
	if h := x.Help("show crypto gdoi "); !strings.Contains(h, "  gm ") || !strings.Contains(h, "  <cr>\n") {
		t.Errorf("help: %q", h)
	}
}

func TestFilters(t *testing.T) {
	f := fixture(t)
	for line, want := range map[string]string{
		"show crypto gdoi gm | i Succ|Attempt":      "       Succeeded registration: 1\n       Attempted registration: 1\n",
		"sh cry gdoi gm | count registration":       "Number of lines which match regexp = 2\n",
		"show running-config | section access-list": "access-list 105 deny tcp any eq telnet any\naccess-list 105 deny ospf any any\n",
		"show running-config | section crypto map":  "crypto map svn gdoi fail-close\n match address 105\n activate\n",
		"show crypto gdoi gm | begin Fail-Close":    "       Fail-Close Revert : Enabled\n       KS Policy Removal in : 697 sec\n",
		"show privilege | exclude x":                "Current privilege level is 15\n",
	} {
		if got := run(t, f, line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	for _, line := range []string{"show privilege | nonsense x", "show privilege | include", "show privilege | include ("} {
		if _, err := (&Exec{Control: f}).Run(line, false); err == nil {
			t.Errorf("%s: no error", line)
		}
	}
}

func TestJSONIsTheSnapshotAndClearReachesTheDaemon(t *testing.T) {
	f := fixture(t)
	x := &Exec{Control: f}
	out, err := x.Run("show crypto gdoi", true)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Dataplane struct{ Drops map[string]int }
		Members   []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Dataplane.Drops["clear-inbound"] != 9 || s.Members[0].Name != "getvpn1" {
		t.Errorf("%v %+v", err, s)
	}
	if _, err := x.Run("show running-config", true); err == nil {
		t.Error("running-config has no JSON form, but no error")
	}
	for _, l := range []string{"clear crypto gdoi", "clear crypto gdoi group getvpn1"} {
		if _, err := x.Run(l, false); err != nil {
			t.Error(err)
		}
	}
	if _, err := x.Run("clear crypto gdoi group nobody", false); err == nil {
		t.Error("an unknown group was cleared")
	}
	if len(f.acted) != 2 || f.acted[0] != (Action{Verb: ActClearGroup}) || f.acted[1] != (Action{Verb: ActClearGroup, Group: "getvpn1"}) {
		t.Errorf("%+v", f.acted)
	}
}
