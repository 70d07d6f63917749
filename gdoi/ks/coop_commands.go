package ks

// What an operator can do to a group with cooperative key servers, and what the others
// of his commands do there: a secondary makes no keys.

import (
	"errors"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
)

var (
	errAlone      = errors.New("the group has no redundancy")
	errNotPrimary = errors.New("this key server isn't the primary of the group")
)

// ClearRole is "clear crypto gdoi ks coop role": a primary gives up its role and all
// elect; a secondary asks whether its primary is still there.
func (g *Group) ClearRole() error {
	return g.call(func() error {
		if g.coop == nil {
			return errAlone
		}
		g.coop.reset = g.leads()
		g.cooperate(g.coop.m.ClearRole(g.now()))
		return nil
	})
}

// primaryOnly refuses what only a primary does.
func (g *Group) primaryOnly() error {
	if !g.leads() {
		return errNotPrimary
	}
	return nil
}

// clearCoop is "clear crypto gdoi" among cooperative key servers: a secondary serves
// registrations again, though it may not have heard of its primary for long; a primary
// makes new keys and all members must come for them.
func (g *Group) clearCoop(now time.Time) error {
	c := g.coop
	g.setup = g.want
	if !g.leads() {
		g.cooperate(c.m.Opened(now))
		g.note()
		return nil
	}
	g.cleanSlate(gdoi.Delete{AllKEKs: true}, now)
	return nil
}

// applyCoop tells the machine of a changed configuration. It reports whether that was all
// there was to do: a secondary takes the keys for it from its primary.
func (g *Group) applyCoop(old *Setup, now time.Time) (done bool, err error) {
	c := g.coop
	if c == nil {
		return false, nil
	}
	out, err := c.m.Configure(g.coopConfig(), now)
	if err != nil {
		return false, err
	}
	g.cooperate(out)
	g.keepPeers()
	g.tellLedger(now)
	if g.leads() {
		return false, nil
	}
	if g.ring.active() {
		g.reshape(old)
	}
	g.retake(now)
	g.pending = nil
	g.version++
	g.note()
	return true, g.save()
}

// reshape fits the ring to the entries that are configured now, without new keys.
func (g *Group) reshape(old *Setup) {
	was := g.ring
	ring := g.emptyRing()
	ring.inherit(was)
	ring.teks = make([][]*tek, len(ring.specs))
	for i, e := range g.setup.Entries {
		if j := slices.IndexFunc(old.Entries, func(x SetupEntry) bool { return x.Seq == e.Seq }); j >= 0 && j < len(was.teks) {
			ring.teks[i] = was.teks[j]
		}
	}
	if g.setup.Rekey == nil {
		ring.kek = nil
	}
	g.ring = ring
}

// others reports whether another key server is there: members stay with it when this one
// gives up the group.
func (g *Group) others() bool {
	c := g.coop
	if c == nil {
		return false
	}
	for _, p := range c.m.View().Peers {
		if p.Alive && p.Role != coop.Electing {
			return true
		}
	}
	return false
}
