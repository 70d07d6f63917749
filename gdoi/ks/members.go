package ks

// The members of a group. All access to the list goes through this file: the actor
// finds, adds, changes and removes members here. Who changes a row says so (touch), so
// that a publication copies what changed (rows.go) and not the list.

import (
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/model"
	"getvpn/model/event"
)

const (
	// maxMembers bounds a group's list, and so its memory (a few hundred octets each):
	// who isn't on it is refused as "group-full" until somebody goes.
	maxMembers = 65536
	// memberMargin is how long a member outlives its last key on the list: it may have
	// found the key server busy, and tries again each minute.
	memberMargin = 2 * time.Minute
	// ageStep is the least time between two looks through the list.
	ageStep = 10 * time.Second
)

// member is one registered member. Only the group's actor touches it, but for its
// slot, where acknowledgements and sends are noted outside the actor.
type member struct {
	row   model.Member
	path  netip.AddrPort // where its phase 1 comes from: where unicast rekeys go
	local netip.Addr     // our end of it
	ends  time.Time      // when it goes if it doesn't register again
	slot  *ackSlot

	holds  uint32 // ord of the KEK that it is known to hold; 0: none
	learns uint32 // ord of the KEK that it holds once it has answered asked
	asked  uint64 // stamp of the round's first message to it; 0: none since it registered
	silent int    // rekeys in a row that it didn't answer

	touched bool // its row differs from the published one
	gone    bool // off the list

	origin  netip.Addr  // key server where it registered; invalid: here
	nat     bool        // only that one reaches it
	spi     gdoi.KEKSPI // of the KEK that it was given there
	gen     Generation  // of the keys that it registered for
	counted uint64      // acknowledgements in roster.acks
}

// roster is the list: sorted by address, and by address.
type roster struct {
	list   []*member
	byAddr map[netip.Addr]*member
	book   *ackBook
	ageing time.Time // no member goes before this; zero: nobody is there
	limit  int
	rows
}

func newRoster(book *ackBook) *roster {
	return &roster{byAddr: map[netip.Addr]*member{}, book: book, limit: maxMembers}
}

func (r *roster) len() int { return len(r.list) }

func (r *roster) find(a netip.Addr) *member { return r.byAddr[a] }

// full reports whether there is no room for a member that isn't on the list.
func (r *roster) full(a netip.Addr) bool { return len(r.list) >= r.limit && r.byAddr[a] == nil }

// all is a copy of the list.
func (r *roster) all() []*member { return slices.Clone(r.list) }

// join finds the member of that address or makes it. alt is the address that it calls
// itself by; acknowledgements may name either.
func (r *roster) join(a, alt netip.Addr, now time.Time) *member {
	m := r.byAddr[a]
	if m == nil {
		m = &member{row: model.Member{Addr: a, Registered: now}, slot: &ackSlot{addr: a, alt: alt}}
		i, _ := slices.BinarySearchFunc(r.list, a, func(m *member, a netip.Addr) int { return m.row.Addr.Compare(a) })
		r.list = slices.Insert(r.list, i, m)
		r.byAddr[a] = m
		r.touch(m)
	} else if m.slot.alt != alt {
		m.slot = m.slot.renamed(alt)
	}
	r.book.put(a, m.slot)
	return m
}

// remove takes members off the list.
func (r *roster) remove(gone func(*member) bool) (out []*member) {
	r.list = slices.DeleteFunc(r.list, func(m *member) bool {
		if !gone(m) {
			return false
		}
		r.forget(m)
		out = append(out, m)
		return true
	})
	return out
}

// drop takes one member off the list: without a walk through it, for whole crowds register
// elsewhere.
func (r *roster) drop(m *member) {
	i, ok := slices.BinarySearchFunc(r.list, m.row.Addr, func(m *member, a netip.Addr) int { return m.row.Addr.Compare(a) })
	if !ok || r.list[i] != m {
		return
	}
	r.list = slices.Delete(r.list, i, i+1)
	r.forget(m)
}

// forget ends what is known of a member that is off the list.
func (r *roster) forget(m *member) {
	delete(r.byAddr, m.row.Addr)
	r.book.drop(m.row.Addr)
	r.left(m)
	if len(r.byAddr) == 0 {
		r.ageing = time.Time{}
	}
}

// lives notes that a member has keys until end.
func (r *roster) lives(m *member, end time.Time) {
	m.ends = end.Add(memberMargin)
	r.ageing = earlier(r.ageing, m.ends)
}

// due takes those whose time is over off the list.
func (r *roster) due(now time.Time) []*member {
	if r.ageing.IsZero() || now.Before(r.ageing) {
		return nil
	}
	r.ageing = time.Time{}
	out := r.remove(func(m *member) bool {
		if now.Before(m.ends) {
			r.ageing = earlier(r.ageing, m.ends)
			return false
		}
		return true
	})
	if next := now.Add(ageStep); !r.ageing.IsZero() && r.ageing.Before(next) {
		r.ageing = next
	}
	return out
}

// fold brings what the slots counted into the rows; changed when anything did.
// answered is called for members that have answered what they were asked last.
func (r *roster) fold(answered func(*member)) (changed bool) {
	for _, m := range r.list {
		if n := m.slot.count.Load(); n != m.row.AcksRcvd {
			m.row.AcksRcvd, changed = n, true
			m.row.RcvdSeqs = push4(m.row.RcvdSeqs, uint32(m.slot.acked.Load()))
			r.touch(m)
			if m.answered() {
				m.settle()
				answered(m)
			}
		}
	}
	return changed
}

// answered reports whether the member has acknowledged the round that asked it last.
func (m *member) answered() bool { return m.asked != 0 && m.slot.acked.Load() >= m.asked }

// acknowledges reports whether the member ever did: one that never does isn't silent,
// it can't (RFC 8263 §5).
func (m *member) acknowledges() bool { return m.slot.count.Load() > 0 }

// settle notes what an answer proves: the member has the KEK that the round brought.
func (m *member) settle() {
	if m.answered() {
		m.holds = max(m.holds, m.learns)
	}
}

// push4 puts v in front of the last four numbers.
func push4(a [4]uint32, v uint32) [4]uint32 { return [4]uint32{v, a[0], a[1], a[2]} }

// lastKey is when the last TEK of the ring ends.
func (k *keyring) lastKey() time.Time {
	var w time.Time
	for _, list := range k.teks {
		for _, t := range list {
			if t.expires.After(w) {
				w = t.expires
			}
		}
	}
	return w
}

// expect notes when the member that was handed o will have no key left.
func (g *Group) expect(m *member, o *policy.Offer, now time.Time) {
	var life time.Duration
	for _, t := range o.TEKs {
		life = max(life, t.Lifetime)
	}
	g.roster.lives(m, now.Add(life))
}

// age takes members off the list that didn't come back.
func (g *Group) age(now time.Time) {
	if !g.leads() {
		return // the primary knows who has had rekeys
	}
	gone := g.roster.due(now)
	for _, m := range gone {
		g.counters.MembersAged++
		g.left(m)
	}
	g.untellMembers(gone)
}

// left tells that a member is off the list.
func (g *Group) left(m *member) {
	g.note(event.GMDeleted{GM: m.row.Addr, Group: g.Name()})
	if g.roster.len() == 0 {
		g.note(event.KSLastGM{GM: m.row.Addr, Group: g.Name()})
	}
}

// dismiss empties the list.
func (g *Group) dismiss() {
	gone := g.roster.remove(func(m *member) bool { return !g.foreign(m) })
	for _, m := range gone {
		g.note(event.GMDeleted{GM: m.row.Addr, Group: g.Name()})
	}
	g.untellMembers(gone)
}
