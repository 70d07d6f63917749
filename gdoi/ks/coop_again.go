package ks

// "clear crypto gdoi ks members" among cooperative key servers. Where one of them is out
// of reach it may lead members of its own by now; new keys on this side alone would part
// the group for longer. So the order is accepted and waits until all key servers are
// reachable and hold the same keys, and then is carried out once, by whoever leads. It
// travels with the keys: it outlives a restart, a takeover and a merge. With "now" nothing
// waits: a key that is in wrong hands must go.

import (
	"strings"
	"time"

	"getvpn/model/event"
)

// lacking are key servers that are out of reach or don't hold the keys in force.
func (g *Group) lacking() (names []string) {
	if g.coop == nil {
		return nil
	}
	for _, p := range g.coop.m.View().Peers {
		if !p.Alive || p.Keys != g.coop.keys {
			names = append(names, p.Addr.String())
		}
	}
	return names
}

// postpone puts off that all members register again; false: that needn't be.
func (g *Group) postpone(now time.Time) bool {
	wait := g.lacking()
	if len(wait) == 0 {
		return false
	}
	if !g.again {
		g.again = true
		g.share(now)
		g.unsaved(now)
	}
	g.note(event.CoopMembersPostponed{Group: g.Name(), Peers: strings.Join(wait, ", ")})
	return true
}

// ready reports whether what was postponed can be done.
func (g *Group) ready() bool {
	if !g.again || !g.leads() || !g.ring.active() {
		return false
	}
	if c := g.coop; c != nil && (c.owes || c.merging != nil) {
		return false
	}
	return len(g.lacking()) == 0
}

// makeGood does what was postponed.
func (g *Group) makeGood(now time.Time) {
	if !g.ready() {
		return
	}
	g.note(event.CoopMembersCalled{Group: g.Name()})
	_ = g.callMembers(false, now) // a failure is told, and tried again
}
