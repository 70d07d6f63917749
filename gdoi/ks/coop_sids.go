package ks

// Sender IDs among cooperative key servers: each gives out those of its own ranges and
// asks nobody. What keeps one from being given out twice under one key:
//
//   - A ledger has an identity, which ends when what it counted can't be trusted any more:
//     a lost disk, a restored machine, other ranges.
//   - The keys say which ledgers give out Sender IDs for them. The primary lists a ledger
//     that it hears of, but none whose range overlaps that of a listed one. Nobody gives
//     out what isn't listed.
//   - Where the overlapping one is a ledger that is gone, the primary makes a clean slate:
//     nobody needs to know what that one gave out.
//   - A ledger goes on counting when keys change hands, for members keep their Sender IDs.
//     It begins again only where a clean slate has told all members to leave the keys that
//     it counted for.
//
// A key server makes its ledger known by a row in its table of members: one whose address
// is its own.

import (
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/internal/secret"
)

// ledgerID tells one life of a ledger from all others.
type ledgerID [16]byte

// sharedLedger is what other key servers know of a ledger.
type sharedLedger struct {
	ID     ledgerID
	Bits   int // width of its Sender IDs
	Ranges []coop.SIDRange
}

// ledgerRow is what a key server makes known of its own.
type ledgerRow struct {
	sharedLedger
	Spent Generation // keys for which no Sender ID is left; zero: none
}

func (l *sharedLedger) walk(c *coder) {
	c.array(l.ID[:])
	number(c, &l.Bits)
	list(c, &l.Ranges, 2, func(r *coop.SIDRange) {
		number(c, &r.Low)
		number(c, &r.High)
	})
}

func (r *ledgerRow) encode() ([]byte, error) {
	b := make(secret.Bytes, 0, 64)
	c := &coder{to: &b}
	c.put(rowVersion)
	r.walk(c)
	c.array(r.Spent[:])
	return b, c.err
}

func decodeLedgerRow(b []byte) (r ledgerRow, err error) {
	if len(b) == 0 || b[0] != rowVersion {
		return r, errCoded
	}
	c := &coder{from: b[1:]}
	r.walk(c)
	c.array(r.Spent[:])
	if c.err == nil && (len(c.from) > 0 || slices.ContainsFunc(r.Ranges, func(x coop.SIDRange) bool { return x.Low > x.High })) {
		c.fail()
	}
	return r, c.err
}

func overlapping(a, b []coop.SIDRange) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Low <= y.High && y.Low <= x.High {
				return true
			}
		}
	}
	return false
}

// ownLedger is ours as others know it; false: we have none.
func (g *Group) ownLedger() (l sharedLedger, ok bool) {
	if g.coop == nil || g.ledger == nil {
		return l, false
	}
	return g.ledger.shared(), true
}

// tellLedger makes our ledger known.
func (g *Group) tellLedger(now time.Time) {
	own, ok := g.ownLedger()
	if !ok {
		return
	}
	r := ledgerRow{sharedLedger: own}
	if g.ledger.Left() == 0 {
		r.Spent = g.ledger.gen
	}
	b, err := r.encode()
	if err != nil {
		g.s.o.Log.Error("Sender ID ledger for other key servers", "group", g.Name(), "error", err)
		return
	}
	stamp := uint64(max(0, g.s.time.Wall(now).UnixMilli()))
	g.cooperate(g.coop.m.PutMembers([]coop.Member{{Addr: g.coop.self, Stamp: stamp, Blob: b}}, now))
}

// takeLedger takes what another key server makes known of its own.
func (g *Group) takeLedger(origin netip.Addr, x coop.Member, now time.Time) {
	c := g.coop
	if origin == c.self {
		return // what we said once
	}
	if x.Gone {
		delete(c.ledgers, origin)
		return
	}
	r, err := decodeLedgerRow(x.Blob)
	if err != nil {
		g.rejected["coop-member"]++
		return
	}
	c.ledgers[origin] = r
	g.listLedgers(now)
}

// listLedgers lists at a primary the ledgers that may give out Sender IDs for the keys in
// force, or makes new keys where that can't be.
func (g *Group) listLedgers(now time.Time) {
	c := g.coop
	if c == nil || !g.leads() || c.owes || !g.ring.active() || !g.needsSIDs() {
		return
	}
	known := map[ledgerID]sharedLedger{}
	spent := false
	if own, ok := g.ownLedger(); ok {
		known[own.ID] = own
	}
	for _, r := range c.ledgers {
		known[r.ID] = r.sharedLedger
		spent = spent || r.Spent == g.ring.gen
	}
	if g.ring.bits != g.setup.SIDBits {
		spent = true // Sender IDs of two widths can begin nonces alike
	}
	ring := g.ring.clone()
	slate, more := ring.listLedgers(known)
	switch {
	case slate || spent:
		g.reinit(now)
	case more:
		if err := g.commit(ring, now); err != nil {
			g.failed(now, err)
		}
	}
}

// listLedgers lists those of known that can be. slate: one can't be, because a ledger
// that isn't known any more has counted in its range. more: something was listed.
func (k *keyring) listLedgers(known map[ledgerID]sharedLedger) (slate, more bool) {
	ids := make([]ledgerID, 0, len(known))
	for id := range known {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ledgerID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		l := known[id]
		if k.lists(id) || l.Bits != k.bits || len(l.Ranges) == 0 {
			continue
		}
		fits := true
		for _, o := range k.listed {
			if overlapping(o.Ranges, l.Ranges) {
				fits = false
				if _, there := known[o.ID]; !there {
					slate = true
				}
			}
		}
		switch {
		case !fits:
		case len(k.listed) >= mostLedgers:
			slate = true
		default:
			k.listed, more = append(slices.Clone(k.listed), l), true
		}
	}
	return slate, more
}

// mostLedgers bounds the list.
const mostLedgers = 64

func (k *keyring) lists(id ledgerID) bool {
	return slices.ContainsFunc(k.listed, func(l sharedLedger) bool { return l.ID == id })
}

// joinLedgers takes over the list of a ring that is merged; false: a range has been
// counted in by two ledgers, or in two widths.
func (k *keyring) joinLedgers(its *keyring) bool {
	if k.bits != its.bits && len(k.listed)+len(its.listed) > 0 {
		return false
	}
	for _, l := range its.listed {
		if k.lists(l.ID) {
			continue
		}
		if slices.ContainsFunc(k.listed, func(o sharedLedger) bool { return overlapping(o.Ranges, l.Ranges) }) {
			return false
		}
		k.listed = append(slices.Clone(k.listed), l)
	}
	return true
}

// outgrow notes that our ledger has taken the place of was.
func (g *Group) outgrow(was *Ledger) {
	g.former = slices.DeleteFunc(slices.Clone(g.former), func(l sharedLedger) bool { return !g.ring.lists(l.ID) })
	if was != nil && was != g.ledger && was.Used() > 0 {
		g.former = append(g.former, was.shared())
	}
}

// formerSIDs are ranges that were ours and of which some may be in use under the keys in
// force.
func (g *Group) formerSIDs() (out []coop.SIDRange) {
	for _, l := range g.former {
		if g.ring.lists(l.ID) {
			out = append(out, l.Ranges...)
		}
	}
	return out
}

// givesSIDs reports whether our ledger may give out Sender IDs for the keys in force.
func (g *Group) givesSIDs() bool {
	return g.ledger != nil && g.ring.bits == g.setup.SIDBits && g.ring.lists(g.ledger.id)
}

// followLedger binds the ledger to keys that another key server has made.
func (g *Group) followLedger(d *durable) error {
	switch l := g.ledger; {
	case l == nil || l.gen == d.Generation:
		return nil
	case slices.Contains(d.Ended, l.gen):
		return l.Reset(d.Generation)
	default:
		return l.Rebind(d.Generation)
	}
}
