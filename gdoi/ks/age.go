package ks

// Members come by registering and go by not doing it again: one that has no key left
// is none any more. Without this a list would grow with every address ever seen.

import (
	"net/netip"
	"slices"
	"time"

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

// full reports whether there is no room for a member that isn't on the list.
func (g *Group) full(gm netip.Addr) bool {
	if len(g.members) < g.limit {
		return false
	}
	_, known := g.ends[gm]
	return !known
}

// expect notes when the member that was handed o will have no key left.
func (g *Group) expect(gm netip.Addr, o *policy.Offer, now time.Time) {
	var life time.Duration
	for _, t := range o.TEKs {
		life = max(life, t.Lifetime)
	}
	end := now.Add(life + memberMargin)
	g.ends[gm] = end
	if g.ageing.IsZero() || end.Before(g.ageing) {
		g.ageing = end
	}
}

// age takes members off the list whose time is over.
func (g *Group) age(now time.Time) {
	if g.ageing.IsZero() || now.Before(g.ageing) {
		return
	}
	g.ageing = time.Time{}
	g.members = slices.DeleteFunc(slices.Clone(g.members), func(m model.Member) bool {
		end := g.ends[m.Addr]
		if now.Before(end) {
			if g.ageing.IsZero() || end.Before(g.ageing) {
				g.ageing = end
			}
			return false
		}
		delete(g.ends, m.Addr)
		g.counters.MembersAged++
		g.note(event.GMDeleted{GM: m.Addr, Group: g.Name()})
		return true
	})
	if next := now.Add(ageStep); !g.ageing.IsZero() && g.ageing.Before(next) {
		g.ageing = next
	}
}
