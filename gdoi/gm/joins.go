package gm

// Rekeys by multicast: the member joins the group that the SAK names, on the interfaces
// with its crypto map, and leaves it when another is named.

import (
	"net/netip"
	"slices"
	"time"

	"getvpn/model/event"
)

// rejoin is the pause after a join that failed.
const rejoin = 30 * time.Second

// membership is a multicast group on an interface.
type membership struct {
	iface         string
	group, source netip.Addr
}

// sourceSpecific are the ranges in which a source must be named (RFC 4607 §1).
func sourceSpecific(a netip.Addr) bool {
	if a.Is4() {
		return a.As4()[0] == 232
	}
	b := a.As16()
	return b[0] == 0xff && b[1]&0xf0 == 0x30 && b[2] == 0 && b[3] == 0
}

// joinGroups makes the memberships what the KEKs ask for.
func (m *Member) joinGroups(now time.Time) {
	if m.o.Joiner == nil {
		return
	}
	want := map[membership]bool{}
	for _, r := range m.keks {
		if !r.dst.IsMulticast() {
			continue
		}
		x := membership{group: r.dst}
		if sourceSpecific(r.dst) {
			x.source = r.src
		}
		for _, a := range m.o.Attach {
			x.iface = a.Interface
			want[x] = true
		}
	}
	for x, leave := range m.joined {
		if !want[x] {
			leave()
			delete(m.joined, x)
		}
	}
	m.rejoinAt = time.Time{}
	for x := range want {
		if m.joined[x] != nil {
			continue
		}
		leave, err := m.o.Joiner.Join(x.iface, x.group, x.source)
		if err != nil {
			m.rejoinAt = now.Add(rejoin)
			m.o.Events.Emit(event.GMJoinFailed{Group: m.o.Group.Name, Address: x.group, Interface: x.iface, Why: err.Error()})
			continue
		}
		m.joined[x] = leave
	}
}

// leaveGroups leaves all.
func (m *Member) leaveGroups() {
	for x, leave := range m.joined {
		leave()
		delete(m.joined, x)
	}
	m.rejoinAt = time.Time{}
}

// groups are the joined ones.
func (m *Member) groups() (list []netip.Addr) {
	for x := range m.joined {
		if !slices.Contains(list, x.group) {
			list = append(list, x.group)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}
