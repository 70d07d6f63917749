package ks

// What the machine's results ask of the group, and what a role brings: only a primary
// makes keys and tells members; a secondary serves registrations from the ring that it
// took.

import (
	"slices"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/gdoi/policy"
)

// result does what one result asks for.
func (g *Group) result(r coop.Result) {
	now := g.now()
	g.note()
	g.tellResult(r)
	switch r := r.(type) {
	case coop.RoleChanged:
		g.coop.role = r.Role
		g.book.passing.Store(r.Role != coop.Primary)
		if r.Role == coop.Primary {
			g.coop.owes = true
			g.lead(now)
			return
		}
		g.stepDown()
		g.restate(now)
	case coop.ElectionBegun:
		g.coop.role = coop.Electing
		g.book.passing.Store(true)
		g.stepDown()
		g.restate(now)
	case coop.TakeKeys:
		g.take(r, now, now)
	case coop.MergeKeys:
		g.mergeKeys(r, now)
	case coop.NumbersKnown:
		g.skipTo(r.SPI, r.Last)
	case coop.MembersChanged:
		g.takeRows(r, now)
	case coop.MemberMoved:
		if r.Addr == g.coop.self {
			g.tellLedger(now) // an older word of ours had a later moment: clocks were set back
			return
		}
		g.moved(r.Addr)
	case coop.PseudotimeChanged:
		g.pseudo.resume(time.Duration(r.Value)*time.Millisecond, now)
		if g.coop.late = r.Large && r.Merge; g.coop.late && g.leads() && !g.coop.owes && g.owed == nil {
			g.owed, g.coop.late = &order{}, false // members must hear of it
		}
	case coop.RelayThis:
		g.relayThis(r)
	case coop.AcksArrived:
		g.acksArrived(r)
	case coop.PeerAdded, coop.PeerRemoved:
		if x, ok := r.(coop.PeerRemoved); ok {
			delete(g.coop.ledgers, x.Peer) // whoever has its range next gets new keys for it
		}
		if g.ctx != nil && !g.ended {
			g.keepPeers()
		}
	}
}

// stepDown ends what only a primary does.
func (g *Group) stepDown() {
	if g.job != nil {
		g.job.stop()
	}
	g.round, g.late, g.lateAt, g.owed = nil, nil, time.Time{}, nil
	g.coop.owes, g.coop.merging = false, nil
}

// lead puts keys in force at a new primary: those that are here, or new ones.
func (g *Group) lead(now time.Time) {
	c := g.coop
	if c == nil || !c.owes || !g.retry.IsZero() && now.Before(g.retry) {
		return
	}
	ring, fresh, err := g.wholeRing(now)
	if err == nil {
		err = g.commit(ring, now)
	}
	if err != nil {
		g.failed(now, err)
		return
	}
	c.owes = false
	if c.untaken != nil {
		if !c.wrong {
			g.unheard()
		}
		c.untaken, c.wrong = nil, false
		g.configureCoop(now)
	}
	g.purge(now)
	g.listLedgers(now)
	if fresh {
		g.synced = now
		g.pseudo.start(now)
		g.tellPseudotime(now)
		return
	}
	end := ring.lastKey()
	for _, m := range g.roster.list { // who registered with others may have had rekeys
		g.roster.lives(m, end)
	}
	if c.late {
		g.owed, c.late = &order{}, false
	}
	if k := ring.kek; k != nil && c.m.Lease(coop.SPI(k.spi)).Ends {
		g.owed = &order{kek: true} // its maker is gone, perhaps in the middle of a rekey
	}
}

// wholeRing is the ring that a new primary goes on with. fresh: nobody has its keys.
func (g *Group) wholeRing(now time.Time) (ring *keyring, fresh bool, err error) {
	if !g.ring.active() {
		ring := g.emptyRing()
		if err := ring.reset(now); err != nil {
			return nil, false, err
		}
		if g.ledger != nil { // what it counted before may go on elsewhere
			if err := g.ledger.renew(); err != nil {
				return nil, false, err
			}
			if err := g.ledger.Reset(ring.gen); err != nil {
				return nil, false, err
			}
			g.tellLedger(now)
		}
		return ring, true, nil
	}
	ring = g.ring.clone()
	for i := range ring.teks {
		if len(ring.teks[i]) == 0 {
			if err := ring.renew(i, now); err != nil {
				return nil, false, err
			}
		}
	}
	if ring.kspec != nil && ring.kek == nil {
		return ring, false, ring.renewKEK(now)
	}
	return ring, false, nil
}

// tellPseudotime tells the machine, which announces it.
func (g *Group) tellPseudotime(now time.Time) {
	if c := g.coop; c != nil {
		g.cooperate(c.m.SetPseudotime(uint64(g.pseudo.at(now)/time.Millisecond), g.pseudo.started, now))
	}
}

// Reasons why nobody may register.
const (
	blockedElection = "coop-election"
	blockedStale    = "coop-stale"
	blockedSIDs     = "coop-sender-ids"
)

// blocked is why nobody may register now; "": somebody may.
func (g *Group) blocked() string {
	c := g.coop
	if c == nil {
		return ""
	}
	switch c.m.View().Gate {
	case coop.GateElection:
		return blockedElection
	case coop.GateStale:
		return blockedStale
	}
	switch {
	case c.wrong:
		return "coop-keys"
	case c.unsaved:
		return "state-not-saved"
	case !g.ring.whole():
		return "no-keys"
	case g.needsSIDs() && !g.mayGive():
		return blockedSIDs
	}
	return ""
}

// withoutSIDs is why nobody may get Sender IDs with an offer now, though he might when it
// was made; "": he may.
func (g *Group) withoutSIDs(o *policy.Offer) string {
	if g.coop != nil && o.Counter() && !g.mayGive() {
		return blockedSIDs
	}
	return ""
}

// mayGive reports whether Sender IDs may be given out now.
func (g *Group) mayGive() bool {
	return g.givesSIDs() && !slices.ContainsFunc(g.coop.m.View().Peers, func(p coop.PeerView) bool { return p.Alive && p.Overlap })
}

// whole reports whether there is a key for everything.
func (k *keyring) whole() bool {
	if !k.active() || k.kspec != nil && k.kek == nil {
		return false
	}
	for _, list := range k.teks {
		if len(list) == 0 {
			return false
		}
	}
	return true
}
