package dataplane

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"getvpn/ipsec"
)

// A crypto map on a device without Ethernet headers protects nothing, so what it permits
// must not leave either: the lock closes it, and the reason can be read.
func TestInterfaceWithoutEthernetStaysClosed(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "wan"}, Mode: netlink.TUNTAP_MODE_TUN}); err != nil {
		t.Fatal(err)
	}
	d, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(false)
	tek := ipsec.TEK{SPI: 4711, Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128}, Key: make([]byte, 20),
		Lifetime: time.Hour, Expires: time.Now().Add(time.Hour), SIDBits: 24, SIDs: []uint32{1}}
	err = d.Install(ipsec.GroupPolicy{Group: "g", Interface: "wan", State: ipsec.Registered, TEKs: []ipsec.TEK{tek},
		Entries: []ipsec.Entry{{ACE: protects(), SPI: 4711}}})
	if err != nil {
		t.Fatal(err)
	}
	wantLocked(t, "wan")
	if err := d.LastError("wan"); !errors.Is(err, errNoEthernet) {
		t.Errorf("last error: %v", err)
	}
	if m := d.Model(); len(m.Interfaces) != 1 || m.Interfaces[0].Attached || m.Interfaces[0].LastError == "" {
		t.Errorf("model: %+v", m.Interfaces)
	}
}
