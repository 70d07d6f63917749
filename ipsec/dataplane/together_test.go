package dataplane

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
)

// Two groups of one interface come into force in one step over what an earlier process
// left: the kernel never holds one without the other.
func TestInstallAll(t *testing.T) {
	inNamespace(t)
	device(t, "wan")
	l, err := netlink.LinkByName("wan")
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bpf")
	if err := steer.EnsureBPFFS(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	d, err := Open(Options{BPFDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(false); err != nil {
			t.Error(err)
		}
	}()
	other := protects()
	other.Dst = ipsec.MatchPrefix(netip.MustParsePrefix("239.1.0.0/16"))
	policy := func(name string, seq int, e ipsec.ACE) ipsec.GroupPolicy {
		return ipsec.GroupPolicy{Group: name, Interface: "wan", MapSeq: seq, State: ipsec.Registered, Entries: []ipsec.Entry{{ACE: e}}}
	}
	g, h := policy("G", 10, protects()), policy("H", 20, other)
	if err := d.InstallAll([]ipsec.GroupPolicy{g, h}); err != nil {
		t.Fatal(err)
	}
	inForce := func() int { return len(d.steering.rules[l.Attrs().Index][0].Rules) }
	if p := d.ports["wan"]; p.gen != 2 || inForce() != 2 { // reconcile's and its own
		t.Errorf("%d tables, %d rules", p.gen, inForce())
	}

	// What can't be installed changes nothing.
	bad := policy("H", 20, other)
	bad.TEKs = []ipsec.TEK{{SPI: 300}}
	none := policy("G", 10, protects())
	none.Entries = nil
	if err := d.InstallAll([]ipsec.GroupPolicy{none, bad}); err == nil {
		t.Error("a TEK without a key was installed")
	}
	if inForce() != 2 || len(d.ports["wan"].groups["G"].Entries) != 1 {
		t.Errorf("%d rules, %+v", inForce(), d.ports["wan"].groups)
	}
}
