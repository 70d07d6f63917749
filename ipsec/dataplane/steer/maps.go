package steer

// The maps that all interfaces of a namespace share.

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/cilium/ebpf"
)

type maps struct {
	spis    *ebpf.Map // SPI in network order → 1
	sockets *ebpf.Map // socket cookie → 1
	local   *ebpf.Map // address of 16 octets (IPv4-mapped) → 1
	frags   *ebpf.Map // fragKey → fragTaken or fragGDOI, LRU
	refused *ebpf.Map // interface index, kind → addresses, SPI, protocol of the last such packet, LRU
}

const (
	maxSPIs    = 16384
	maxSockets = 1024
	maxLocal   = 4096
	maxFrags   = 4096
	maxRefused = 1024
)

// openMaps makes the maps, or adopts those pinned under dir that still fit.
func openMaps(dir string) (*maps, error) {
	m := &maps{}
	for _, x := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&m.spis, ebpf.MapSpec{Name: "getvpn_spis", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: maxSPIs}},
		{&m.sockets, ebpf.MapSpec{Name: "getvpn_socks", Type: ebpf.Hash, KeySize: 8, ValueSize: 4, MaxEntries: maxSockets}},
		{&m.local, ebpf.MapSpec{Name: "getvpn_local", Type: ebpf.Hash, KeySize: 16, ValueSize: 4, MaxEntries: maxLocal}},
		{&m.frags, ebpf.MapSpec{Name: "getvpn_frags", Type: ebpf.LRUHash, KeySize: 40, ValueSize: 4, MaxEntries: maxFrags}},
		{&m.refused, ebpf.MapSpec{Name: "getvpn_refused", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 40, MaxEntries: maxRefused}},
	} {
		p := ""
		if dir != "" {
			p = filepath.Join(dir, x.spec.Name)
		}
		var err error
		if *x.to, err = openMap(p, &x.spec); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

// openMap loads the map pinned at p if it is what spec says, else makes one and pins
// it there, in place of whatever was. An empty p leaves it unpinned.
func openMap(p string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	if p != "" {
		if m, err := ebpf.LoadPinnedMap(p, nil); err == nil {
			if spec.Compatible(m) == nil {
				return m, nil
			}
			m.Close()
		}
	}
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("steer: map %s: %w", spec.Name, err)
	}
	if p == "" {
		return m, nil
	}
	if err := repin(m, p); err != nil {
		m.Close()
		return nil, fmt.Errorf("steer: pinning map %s: %w", spec.Name, err)
	}
	return m, nil
}

func (m *maps) all() []*ebpf.Map { return []*ebpf.Map{m.spis, m.sockets, m.local, m.frags, m.refused} }

func (m *maps) close() {
	for _, x := range m.all() {
		if x != nil {
			x.Close()
		}
	}
}

// empty deletes all entries.
func empty[K any](m *ebpf.Map) error {
	var keys []K
	var k K
	var v uint32
	it := m.Iterate()
	for it.Next(&k, &v) {
		keys = append(keys, k)
	}
	if err := it.Err(); err != nil {
		return err
	}
	for i := range keys {
		if err := m.Delete(&keys[i]); err != nil {
			return err
		}
	}
	return nil
}

// addrKey is the form of an address in the maps.
func addrKey(a netip.Addr) [16]byte { return a.As16() }
