package ks

// Redundancy that is switched on, off, or moved to another address while the group goes
// on, and what a restored machine does.

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"getvpn/gdoi/coop"
)

// sameParty reports whether a key server goes on with its machine under another setup.
func sameParty(a, b *CoopSetup) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Self == b.Self)
}

// switchCoop begins or ends cooperation. g.setup is the new one already; was is the
// ledger so far.
func (g *Group) switchCoop(was *Ledger, now time.Time) error {
	if g.coop != nil {
		g.closeCoop(now)
	}
	if g.setup.Coop == nil {
		return nil
	}
	if was != nil && g.ring.active() {
		g.outside(was.shared())
	}
	if err := g.openCoop(&durable{}); err != nil {
		return err
	}
	g.round, g.late, g.lateAt = nil, nil, time.Time{}
	g.beginCoop()
	return nil
}

// outside lists a ledger of the time alone: its numbers are out, whoever has their range
// now.
func (g *Group) outside(l sharedLedger) {
	if len(l.Ranges) == 0 {
		l.Ranges = []coop.SIDRange{{Low: 0, High: uint32(uint64(1)<<g.setup.SIDBits - 1)}}
	}
	g.ring = g.ring.clone()
	g.ring.listed = append(g.ring.listed, l)
}

// firstID is the identity of keys that were made alone: a primary that is there already
// merges them.
func (g *Group) firstID() (coop.KeysID, error) {
	var b [2]byte
	if _, err := io.ReadFull(g.s.o.Rand, b[:]); err != nil {
		return coop.KeysID{}, fmt.Errorf("ks: %w", err)
	}
	return coop.KeysID{Maker: g.coop.self, Epoch: 1<<16 | uint64(binary.BigEndian.Uint16(b[:])), Version: 1}, nil
}

// closeCoop ends cooperation: the group is ours alone from now on. Others may go on under
// its KEKs: ours is a new one, and the rekey that brings it has a number that nobody
// else uses.
func (g *Group) closeCoop(now time.Time) {
	led := g.leads()
	g.endCoop()
	g.coop = nil
	g.inbox.Store(nil)
	g.book.passing.Store(false)
	g.roster.remove(func(m *member) bool { return m.origin.IsValid() })
	if !led {
		g.abandon()
		g.ring, g.pending = g.emptyRing(), nil
		g.epoch++
		g.dismiss()
		return
	}
	g.aloneWith()
	if g.ledger != nil {
		g.exhausted = now // what others gave out under these keys isn't known: a clean slate
	}
}

// aloneWith goes on with keys that were shared.
func (g *Group) aloneWith() {
	for _, k := range g.keks {
		k.seq.skip(restoredSkip)
	}
	if g.ring.kek != nil {
		g.owed = &order{kek: true}
	}
}

// restoredCoop is what a machine does that was put back to a snapshot: it has forgotten
// what it used since, and what others have heard of it. It begins as one that lost its
// state.
func (g *Group) restoredCoop(now time.Time) error {
	g.abandon()
	g.ring, g.pending = g.emptyRing(), nil
	g.epoch++
	g.version++
	g.roster.remove(func(*member) bool { return true })
	if g.ledger != nil {
		if err := g.ledger.renew(); err != nil {
			return err
		}
		var fresh Generation
		if _, err := io.ReadFull(g.s.o.Rand, fresh[:]); err != nil {
			return fmt.Errorf("ks: %w", err)
		}
		if err := g.ledger.Reset(fresh); err != nil {
			return err
		}
	}
	for _, stop := range g.coop.keeps {
		stop()
	}
	clear(g.coop.keeps)
	g.coop.stop()
	if err := g.openCoop(nil); err != nil {
		return err
	}
	g.beginCoop()
	return g.save()
}
