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
	if !ownProcess(t) {
		return
	}
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
	// The watcher of links works at the same time.
	inForce := func() (gen uint64, rules, entries int) {
		d.mu.Lock()
		defer d.mu.Unlock()
		p := d.ports["wan"]
		return uint64(p.gen), len(d.steering.rules[l.Attrs().Index][0].Rules), len(p.groups["G"].Entries)
	}
	if gen, rules, _ := inForce(); gen != 2 || rules != 2 { // reconcile's and its own
		t.Errorf("%d tables, %d rules", gen, rules)
	}

	// What can't be installed changes nothing.
	bad := policy("H", 20, other)
	bad.TEKs = []ipsec.TEK{{SPI: 300}}
	none := policy("G", 10, protects())
	none.Entries = nil
	if err := d.InstallAll([]ipsec.GroupPolicy{none, bad}); err == nil {
		t.Error("a TEK without a key was installed")
	}
	if _, rules, entries := inForce(); rules != 2 || entries != 1 {
		t.Errorf("%d rules, %d entries of G", rules, entries)
	}
}
