package ks

// A changed configuration of a group that goes on. What the change asks for was
// decided by config's table of changes; here it is done: keys that must be new are
// made, the others stay, and members are told now, with the next rekey, or never.

import (
	"errors"
	"slices"
	"time"

	"getvpn/config"
	"getvpn/ipsec"
	"getvpn/model/event"
)

var errRestart = errors.New("ks: the group must begin anew for this change")

// Apply puts next in force. A change with effects.Restart isn't one: such a group is
// removed and added. On error the old setup stays in force.
func (g *Group) Apply(next *Setup, effects config.Effects) error {
	return g.call(func() error {
		err := g.apply(next, effects, g.now())
		if err == nil {
			g.listLedgers(g.now())
		}
		return err
	})
}

func (g *Group) apply(next *Setup, e config.Effects, now time.Time) error {
	if e.Restart || next.Group.Name != g.Name() {
		return errRestart
	}
	old, oldWant, oldLedger := g.setup, g.want, g.ledger
	was := g.ring
	g.setup, g.want = g.untilClear(next), next
	undo := func(err error) error {
		g.setup, g.want, g.ledger, g.ring = old, oldWant, oldLedger, was
		return err
	}
	if next.SIDBits != old.SIDBits || !slices.Equal(next.Coop.ranges(), old.Coop.ranges()) {
		g.ledger = nil
	}
	if g.ledger == nil && g.needsSIDs() {
		if err := g.openLedger(); err != nil {
			return undo(err)
		}
		if was.active() && !e.Reregister {
			// Alone, no TEK of these keys was in a counter mode: no number was given out
			// under them. Among others nothing is until the keys list this ledger.
			if err := g.ledger.Reset(was.gen); err != nil {
				return undo(err)
			}
		}
	}
	if !sameParty(old.Coop, next.Coop) {
		if err := g.switchCoop(oldLedger, now); err != nil {
			return undo(err)
		}
		was = g.ring
	}
	g.outgrow(oldLedger)
	if done, err := g.applyCoop(old, now); err != nil {
		return undo(err)
	} else if done {
		return nil
	}
	g.pending = nil
	if !was.active() {
		g.ring = g.emptyRing()
		g.version++
		g.note()
		return nil
	}
	ring, o, err := g.carry(old, was, e, now)
	if err != nil {
		return undo(err)
	}
	if e.Reregister {
		g.ring = ring
		g.reinit(now)
		g.transitions(old)
		return nil
	}
	tell := was.kek != nil && (e.Rekey || e.NewKEK || len(e.NewTEKs) > 0)
	g.ring = ring
	if !tell {
		if err := g.commit(ring, now); err != nil {
			return undo(err)
		}
		g.transitions(old)
		if !g.rekeying() {
			g.epoch++
		}
		if e.NextRekey {
			g.note(event.KSPolicyChange{Group: g.Name()})
		}
		return nil
	}
	if err := g.rekey(now, o); err != nil {
		return undo(err)
	}
	g.transitions(old)
	return nil
}

// untilClear is next with what only counts after Clear as it was: the window of
// time-based anti-replay (guide, table 2).
func (g *Group) untilClear(next *Setup) *Setup {
	s := *next
	s.Entries = slices.Clone(next.Entries)
	for i := range s.Entries {
		e := &s.Entries[i]
		for _, o := range g.setup.Entries {
			if o.Seq == e.Seq && timeBased(o.Replay) && timeBased(e.Replay) && g.ring.active() {
				e.Replay = o.Replay
			}
		}
	}
	return &s
}

// carry takes the keys of the old setup over into a ring of the new one, and says what
// a rekey has to add. Keys that nobody will be told of are made at once.
func (g *Group) carry(old *Setup, was *keyring, e config.Effects, now time.Time) (*keyring, order, error) {
	ring := g.emptyRing()
	ring.inherit(was)
	ring.teks = make([][]*tek, len(ring.specs))
	o := order{kek: e.NewKEK}
	for i, entry := range g.setup.Entries {
		j := slices.IndexFunc(old.Entries, func(x SetupEntry) bool { return x.Seq == entry.Seq })
		if j >= 0 {
			ring.teks[i] = slices.Clone(was.teks[j])
		}
		switch {
		case len(ring.teks[i]) == 0:
			if err := ring.renew(i, now); err != nil {
				return nil, o, err
			}
		case slices.Contains(e.NewTEKs, entry.Seq):
			if was.kek == nil {
				if err := ring.renew(i, now); err != nil {
					return nil, o, err
				}
				break
			}
			o.teks = append(o.teks, i)
		}
	}
	switch r := g.setup.Rekey; {
	case r == nil:
		ring.kek, o.kek = nil, false
	case was.kek == nil:
		o.kek = false
		if err := ring.renewKEK(now); err != nil {
			return nil, o, err
		}
	case !o.kek:
		k := *was.kek
		if k.multicast != r.Multicast || k.ack != r.Ack {
			// Said again under the same key: where rekeys go, what members answer.
			k.restate = k.restate || k.ack != r.Ack
			k.multicast, k.ack = r.Multicast, r.Ack
			ring.kek = &k
		}
	}
	return ring, o, nil
}

// transitions tells of changes that have an event of their own.
func (g *Group) transitions(old *Setup) {
	if old.Rekey == nil && g.setup.Rekey != nil {
		g.note(event.KSRekeysOn{Group: g.Name(), Members: g.roster.len()})
	}
	if a, b := old.Rekey, g.setup.Rekey; a != nil && b != nil && a.Unicast() != b.Unicast() {
		if b.Unicast() {
			g.note(event.KSRekeyTransUnicast{Group: g.Name()})
		} else {
			g.note(event.KSRekeyTransMulticast{Group: g.Name()})
		}
	}
	one := func(s *Setup) bool {
		return slices.ContainsFunc(s.Entries, func(e SetupEntry) bool { return e.Direction == ipsec.InboundOnly })
	}
	switch was, is := one(old), one(g.setup); {
	case was && !is:
		g.note(event.KSConvSAsDuplex{Group: g.Name()})
	case !was && is:
		g.note(event.KSConvSAsIngress{Group: g.Name()})
	}
}
