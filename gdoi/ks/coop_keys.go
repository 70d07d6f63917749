package ks

// The group's keys on their way between key servers: the form of saved state without
// members. Its moments count from when it was made or, before it is handed on later,
// stated anew; a receiver takes it as made now, so that no clocks are compared.

import (
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/internal/secret"
)

// sharedKEKs is how many KEKs are shared, at most: the last ones.
const sharedKEKs = 8

// shared makes the octets of the keys in force.
func (g *Group) shared() (coop.Keys, map[coop.SPI]uint32, error) {
	d := g.exportKeys()
	used := map[coop.SPI]uint32{}
	var k coop.Keys
	d.KEKs = d.KEKs[max(0, len(d.KEKs)-sharedKEKs):]
	for i := range d.KEKs {
		x := &d.KEKs[i]
		if l := g.keks[x.Ord]; l != nil {
			x.Reserved = l.seq.last
		} else {
			x.Reserved = g.ring.kek.seq.last
		}
		k.KEKs = append(k.KEKs, coop.SPI(x.SPI))
		used[coop.SPI(x.SPI)] = x.Reserved
	}
	b, err := d.encode()
	k.Blob = b
	return k, used, err
}

// share tells the machine what is in force; a primary's peers take it.
func (g *Group) share(now time.Time) {
	c := g.coop
	if c == nil || !g.leads() && !c.keys.Valid() || !g.ring.active() {
		return
	}
	k, used, err := g.shared()
	if err == nil {
		k.ID = c.keys
		var out coop.Output
		if out, err = c.m.SetKeys(k, used, now); err == nil {
			c.keys = c.m.View().Keys
			g.cooperate(out)
		}
	}
	if err != nil {
		g.s.o.Log.Error("keys for other key servers", "group", g.Name(), "error", err)
	}
}

// restate makes what may be handed on as old as it is now.
func (g *Group) restate(now time.Time) {
	if g.coop.keys.Valid() && !g.coop.owes {
		g.share(now)
	}
}

// take holds the primary's keys in place of ours, which have come at came.
func (g *Group) take(r coop.TakeKeys, came, now time.Time) {
	c := g.coop
	d, err := g.received(r.Keys.Blob, now.Sub(came))
	defer func() { g.weigh(r, came, now) }()
	if c.wrong = err != nil; c.wrong {
		g.s.o.Log.Error("keys of a key server", "group", g.Name(), "peer", r.From, "error", err)
		return
	}
	if err := g.followLedger(&d); err != nil {
		g.s.o.Log.Error("Sender ID ledger", "group", g.Name(), "error", err)
	}
	old := g.ring
	ring, keks := g.ringOf(&d, now)
	g.install(ring, keks)
	c.keys, c.unsaved, g.again = r.Keys.ID, true, d.Again
	g.purge(now)
	g.pending = nil
	g.version++
	if old.lost(ring, now) {
		g.epoch++
	}
	if d.Started && (g.setup.skew() == 0 || !g.pseudo.started) {
		g.pseudo.resume(d.Pseudotime, now)
		g.tellPseudotime(now)
	}
}

// received is another key server's keys on our clocks, which came so long ago.
func (g *Group) received(blob []byte, ago time.Duration) (durable, error) {
	d, err := decodeState(blob)
	switch {
	case err != nil:
	case d.Form != g.setup.form():
		err = errForm
	default:
		err = d.shareable()
	}
	if err != nil {
		d.zero()
		g.rejected["coop-keys"]++
		return durable{}, err
	}
	d.renumber()
	d.shift(g.s.o.Clock.Now().Round(0).Add(-ago).Sub(d.At))
	return d, nil
}

// lost reports whether a key that was in force isn't in n.
func (k *keyring) lost(n *keyring, now time.Time) bool {
	for _, list := range k.teks {
		for _, t := range list {
			if now.Before(t.expires) && !n.knows(t.spi) {
				return true
			}
		}
	}
	return false
}

// install puts a ring and the KEKs beside it in force. Key servers count KEKs each by
// itself: one that is known here keeps its place if the order allows.
func (g *Group) install(ring *keyring, keks []*kek) {
	byOrd := map[uint32]uint32{}
	last := uint32(0)
	next := max(g.ring.ord, ring.ord)
	for _, k := range keks {
		old := g.kekOf(coop.SPI(k.spi))
		if old != nil && old.ord > last {
			k.ord = old.ord
		} else {
			next++
			k.ord = next
		}
		last = k.ord
		if old != nil {
			old.seq.last = max(old.seq.last, k.seq.last)
			old.seq.reserved = max(old.seq.reserved, k.seq.reserved)
			k.seq = old.seq
			byOrd[old.ord] = k.ord
			old.release()
			delete(g.keks, old.ord)
		}
		g.hold(k)
	}
	for ord, k := range g.keks { // those that the primary has forgotten nobody uses any more
		if !slices.ContainsFunc(keks, func(x *kek) bool { return x.ord == ord }) {
			k.release()
			delete(g.keks, ord)
		}
	}
	ring.ord = next
	g.ring = ring
	for _, m := range g.roster.list {
		if o, ok := byOrd[m.holds]; ok {
			m.holds = o
		}
		g.place(m)
	}
}

// kekOf is the KEK of that SPI that members may hold; nil: there is none.
func (g *Group) kekOf(spi coop.SPI) *liveKEK {
	for _, k := range g.keks {
		if k.spi == gdoi.KEKSPI(spi) {
			return k
		}
	}
	return nil
}

// place finds the KEK that a member of another key server holds.
func (g *Group) place(m *member) {
	if m.holds != 0 && g.keks[m.holds] != nil || !m.origin.IsValid() || g.ring.kek == nil {
		return
	}
	if k := g.kekOf(coop.SPI(m.spi)); k != nil {
		m.holds = k.ord
		return
	}
	// One that nobody can hold any more: it has a later one.
	m.holds = g.ring.kek.ord
	for ord, k := range g.keks {
		if !k.side {
			m.holds = min(m.holds, ord)
		}
	}
}

// skipTo notes numbers that the primary has used.
func (g *Group) skipTo(spi coop.SPI, seq uint32) {
	if k := g.kekOf(spi); k != nil && seq > k.seq.last {
		k.seq.skip(seq - k.seq.last)
	}
}

// number takes the next number under a KEK. ok is false when we may use none.
func (g *Group) number(k *kek) (n uint32, fresh, ok bool) {
	if g.coop == nil {
		n, fresh = k.seq.take()
		return n, fresh, true
	}
	l := g.coop.m.Lease(coop.SPI(k.spi))
	n = max(l.From, k.seq.last+1)
	if l.Left() == 0 || n > l.To {
		return 0, false, false
	}
	fresh = n > k.seq.reserved
	k.seq.last = n
	if fresh {
		k.seq.reserved = n + min(seqBlock-1, l.To-n)
	}
	return n, fresh, true
}

// spent tells other key servers of the numbers of a transmission.
func (g *Group) spent(legs []*leg) {
	if g.coop == nil {
		return
	}
	for _, l := range legs {
		g.cooperate(g.coop.m.Used(coop.SPI(l.spi), l.seq, g.now()))
	}
}

// recall tells a new machine what was kept over a restart.
func (g *Group) recall(d *durable) error {
	c := g.coop
	k, used, err := g.shared()
	if err != nil {
		return err
	}
	defer secret.Bytes(k.Blob).Zero()
	k.Blob = slices.Clone(k.Blob)
	if !d.Coop.Keys.Valid() {
		if d.Coop.Keys, err = g.firstID(); err != nil {
			return err
		}
	}
	k.ID, c.keys = d.Coop.Keys, d.Coop.Keys
	out, err := c.m.SetKeys(k, used, g.now())
	if err != nil {
		return err
	}
	c.m.Restore(d.Coop.Numbers)
	c.began.Send = append(c.began.Send, out.Send...)
	c.began.Results = append(c.began.Results, out.Results...)
	return nil
}
