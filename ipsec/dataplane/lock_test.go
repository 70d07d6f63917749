package dataplane

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
)

// inNamespace puts the test's thread into an empty network namespace, for good.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// ownProcess runs the test again in a process that lives in an empty network namespace
// as a whole, since a dataplane's watchers run on any thread. It reports whether this is
// that process.
func ownProcess(t *testing.T) bool {
	t.Helper()
	const mark = "GETVPN_TEST_OWN_PROCESS"
	if os.Getenv(mark) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("unshare", "-n", self, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), mark+"=1")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func wantLocked(t *testing.T, want ...string) {
	t.Helper()
	got, err := steer.Locked()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("locked are %q, want %q", got, want)
	}
}

func device(t *testing.T, name string) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-far"}); err != nil {
		t.Fatal(err)
	}
}

func protects() ipsec.ACE {
	return ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4,
		Src: ipsec.MatchPrefix(netip.MustParsePrefix("10.1.0.0/16")), Dst: ipsec.MatchPrefix(netip.MustParsePrefix("10.2.0.0/16"))}
}

// Only an active fail-close block closes anything; an alternative name closes the
// device that has it, and one that no device has is an error.
func TestLockInterfaces(t *testing.T) {
	inNamespace(t)
	device(t, "wan")
	device(t, "eth7")
	l, err := netlink.LinkByName("eth7")
	if err == nil {
		err = netlink.LinkAddAltName(l, "GigabitEthernet0/0/0")
	}
	if err != nil {
		t.Fatal(err)
	}
	closed := ipsec.FailClose{Active: true}
	got, err := LockInterfaces([]ipsec.GroupPolicy{
		{Group: "A", Interface: "wan", FailClose: closed},
		{Group: "B", Interface: "wan", MapSeq: 20, FailClose: closed},
		{Group: "A", Interface: "open"},
		{Group: "A", Interface: "later", FailClose: closed},
		{Group: "A", Interface: "GigabitEthernet0/0/0", FailClose: closed},
		{Group: "A", Interface: "GigabitEthernet0/0/1", FailClose: closed},
	})
	if err == nil {
		t.Error("a device that nobody can name was locked")
	}
	if want := []string{"wan", "later", "eth7"}; !slices.Equal(got, want) {
		t.Errorf("closed %q, want %q", got, want)
	}
	wantLocked(t, "eth7", "later", "wan")
	if err := RemoveLeftovers(Options{}); err != nil {
		t.Error(err)
	}
	wantLocked(t)
}

// A port's lock follows its policy and its device, and is left alone when neither
// changes.
func TestPortLock(t *testing.T) {
	inNamespace(t)
	p := &port{name: "wan"}
	out := ipsec.Ruleset{Rules: []ipsec.Rule{{ACE: protects(), Verdict: ipsec.Protect}}}
	in := ipsec.Ruleset{Rules: []ipsec.Rule{{ACE: protects().Mirror(), Verdict: ipsec.Drop}}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.relock(0))
	wantLocked(t) // no policy yet
	must(p.lock(0, &out, &in))
	wantLocked(t, "wan")
	first := p.locked
	must(p.lock(0, &out, &in))
	if p.locked != first {
		t.Error("the same lock was made again")
	}
	must(p.lock(7, &out, &in))
	must(p.relock(0))
	if p.locked.index != 0 || len(p.locked.out.Rules) != 1 {
		t.Errorf("relocked as %+v", p.locked)
	}
	p.device = "eth0" // the configured name is an alternative one now
	must(p.relock(0))
	wantLocked(t, "eth0")
	must(p.lock(0, &ipsec.Ruleset{}, &ipsec.Ruleset{}))
	wantLocked(t) // what passes everything needs no lock
	must(p.restoreLock(first))
	wantLocked(t, "eth0")
	must(p.unlock())
	must(p.unlock())
	wantLocked(t)
	// A name that no device can have isn't locked, and is no error.
	p = &port{name: "GigabitEthernet0/0/0"}
	must(p.lock(0, &out, &in))
	wantLocked(t)
	must(p.unlock())
}

// TAPs of a dead process go; those that are in use, wanted, or not ours stay.
func TestRemoveTaps(t *testing.T) {
	inNamespace(t)
	for _, name := range []string{"gv-dead", "gv-wanted", "gv-used"} {
		tp, err := openTap(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		if name == "gv-used" {
			defer tp.close()
		} else {
			tp.close()
		}
	}
	device(t, "gv-other")
	if err := removeTaps([]string{"gv-wanted"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"gv-dead": false, "gv-wanted": true, "gv-used": true, "gv-other": true} {
		if _, err := netlink.LinkByName(name); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
}
