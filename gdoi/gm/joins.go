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

// Membership is a multicast group on an interface, from one source or, if that is
// invalid, any.
type Membership struct {
	Interface     string
	Group, Source netip.Addr
}

// Memberships are the joined ones, with what leaves each.
type Memberships map[Membership]func()

// Follow leaves what isn't in want and joins what is missing; failed is told of each
// that can't be joined. Without a Joiner nothing is joined.
func (l Memberships) Follow(j Joiner, want map[Membership]bool, failed func(Membership, error)) {
	for x, leave := range l {
		if !want[x] {
			leave()
			delete(l, x)
		}
	}
	if j == nil {
		return
	}
	for x := range want {
		if l[x] != nil {
			continue
		}
		leave, err := j.Join(x.Interface, x.Group, x.Source)
		if err != nil {
			failed(x, err)
			continue
		}
		l[x] = leave
	}
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
	want := map[Membership]bool{}
	for _, r := range m.keks {
		if !r.dst.IsMulticast() {
			continue
		}
		x := Membership{Group: r.dst}
		if sourceSpecific(r.dst) {
			x.Source = r.src
		}
		for _, a := range m.o.Attach {
			x.Interface = a.Interface
			want[x] = true
		}
	}
	m.rejoinAt = time.Time{}
	m.joined.Follow(m.o.Joiner, want, func(x Membership, err error) {
		m.rejoinAt = now.Add(rejoin)
		m.o.Events.Emit(event.GMJoinFailed{Group: m.o.Group.Name, Address: x.Group, Interface: x.Interface, Why: err.Error()})
	})
}

// leaveGroups leaves all.
func (m *Member) leaveGroups() {
	m.joined.Follow(m.o.Joiner, nil, nil)
	m.rejoinAt = time.Time{}
}

// groups are the joined ones.
func (m *Member) groups() (list []netip.Addr) {
	for x := range m.joined {
		if !slices.Contains(list, x.Group) {
			list = append(list, x.Group)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}
