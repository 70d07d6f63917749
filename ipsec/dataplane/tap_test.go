package dataplane

import "testing"

// A TAP's name can be a device's, whatever the interface is called; other interfaces have
// other ones.
func TestTapName(t *testing.T) {
	if n := tapName("wan"); n != "gv-wan" {
		t.Errorf("wan's is %q", n)
	}
	seen := map[string]bool{}
	for _, iface := range []string{"wan", "Ethernet0/0", "Ethernet0/1", "GigabitEthernet0/0/0", "a-long-name-of-an-interface"} {
		n := tapName(iface)
		if !deviceName(n) || seen[n] || n != tapName(iface) {
			t.Errorf("%s's is %q", iface, n)
		}
		seen[n] = true
	}
}
