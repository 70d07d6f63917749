package ks

// Merging: another primary has yielded, or somebody comes with keys that only he and his
// members have. All members of both sides get one rekey, under the KEKs that they hold:
// with the TEKs of both, and a new one that all begin to send with at the same moment.
// Until then each sends with what it sent with; what is old is received with to its end
// (docs/rollover.md, "Replacing at once").

import (
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
)

const (
	// rowsWait is how long the rekey of a merge waits for the member list of the other
	// side, at most.
	rowsWait = 5 * time.Second
	// heldWait is how long a rekey waits for other key servers to have its keys, at most:
	// should this one die while it sends, another can go on with them.
	heldWait = 3 * time.Second
	// callsWait is how long it waits until members have heard an order to leave, at most:
	// the rekey would take its place. They are looked for each callsLook.
	callsWait = 40 * time.Second
	callsLook = time.Second
	// mostTEKs is how many TEKs an entry has after a merge, at most.
	mostTEKs = 12
	// mostSides is how many KEKs of other sides are kept, about.
	mostSides = 64
	// mostGenerations is how many generations are remembered.
	mostGenerations = 16
)

// merging is keys of other sides that members haven't been told of yet.
type merging struct {
	rings []*keyring
	until time.Time
	calls time.Time // how long it waits for an order to leave to be heard; zero: for none yet
}

// mergeKeys takes keys of another side beside ours.
func (g *Group) mergeKeys(r coop.MergeKeys, now time.Time) {
	d, err := g.received(r.Keys.Blob, 0)
	if err != nil {
		g.s.o.Log.Error("keys of a key server", "group", g.Name(), "peer", r.From, "error", err)
		return
	}
	if g.crowded() {
		g.rejected["coop-keys"]++
		g.s.o.Log.Error("keys of a key server: too many sides", "group", g.Name(), "peer", r.From)
		return
	}
	g.again = g.again || d.Again
	ring, keks := g.ringOf(&d, now)
	next := g.ring.clone()
	side := map[gdoi.KEKSPI]uint32{} // KEKs that are new here
	for _, k := range keks {
		if old := g.kekOf(coop.SPI(k.spi)); old != nil {
			old.seq.last = max(old.seq.last, k.seq.last)
			continue
		}
		next.ord++
		k.ord, k.side = next.ord, true
		g.hold(k)
		side[k.spi] = k.ord
	}
	g.ring = next
	for _, m := range g.roster.list {
		if ord, ok := side[m.spi]; ok && m.origin.IsValid() {
			m.holds = ord // what was thought of it before was a guess
		}
		g.place(m)
	}
	c := g.coop
	if c.merging == nil {
		c.merging = &merging{until: now.Add(rowsWait)}
	}
	c.merging.rings = append(c.merging.rings, ring)
	g.mergeNow(now)
}

// crowded reports whether so many sides were merged lately that no more can be.
func (g *Group) crowded() bool {
	sides := 0
	for _, k := range g.keks {
		if k.side {
			sides++
		}
	}
	return sides >= mostSides || g.coop.merging != nil && len(g.coop.merging.rings) >= mostSides/sharedKEKs
}

// mergeNow tells members, once the lists of the other side are here.
func (g *Group) mergeNow(now time.Time) {
	c := g.coop
	if c == nil || c.merging == nil || !g.leads() || !g.retry.IsZero() && now.Before(g.retry) {
		return
	}
	if x := c.merging; g.calling() && (x.calls.IsZero() || now.Before(x.calls)) {
		if x.calls.IsZero() {
			x.calls = now.Add(callsWait)
		}
		x.until = later(x.until, now.Add(callsLook))
		return
	}
	if now.Before(c.merging.until) && !g.listed() {
		return
	}
	ring, apart := g.ring.clone(), false
	for _, its := range c.merging.rings {
		apart = apart || !ring.joinLedgers(its) || ring.outlived(its) || its.outlived(ring)
		ring.join(its)
	}
	if apart {
		// A Sender ID may be in use on one side and given out anew on the other: nobody
		// keeps keys of either.
		c.merging = nil
		g.ring.contains = ring.contains
		g.reinit(now)
		return
	}
	was := g.ring
	g.ring = ring
	g.purge(now)
	var err error
	if g.rekeying() {
		err = g.rekey(now, order{teks: g.everyTEK(), kek: true, merge: true})
	} else {
		err = g.commit(ring, now)
	}
	if err != nil {
		g.ring = was
		g.failed(now, err)
		return
	}
	c.merging = nil
	g.listLedgers(now)
}

// calling reports whether members that were told to leave haven't all answered yet.
func (g *Group) calling() bool { return g.round != nil && g.round.view == nil }

// listed reports whether the members of all peers that are heard are here.
func (g *Group) listed() bool {
	have := g.coop.m.Registered()
	for _, p := range g.coop.m.View().Peers {
		if p.Alive && have[p.Addr] < int(p.Registered) {
			return false
		}
	}
	return true
}

// join takes the TEKs of another side in, as older ones.
func (k *keyring) join(its *keyring) {
	for i := range k.teks {
		var more []*tek
		for _, t := range its.teks[i] {
			if !k.knows(t.spi) {
				more = append(more, t)
			}
		}
		k.teks[i] = recent(append(more, k.teks[i]...), its.teks[i])
	}
	k.contains = remember(k.contains, append([]Generation{its.gen}, its.contains...)...)
	k.ended = remember(k.ended, its.ended...)
}

// recent leaves out of too many TEKs those that were made first, but never one that may be
// sent with: the last of ours, the last two of the other side (which may change over just
// now).
func recent(list, its []*tek) []*tek {
	for len(list) > mostTEKs {
		first := -1
		for i, t := range list[:len(list)-1] {
			if !slices.Contains(its[max(0, len(its)-2):], t) && (first < 0 || t.created.Before(list[first].created)) {
				first = i
			}
		}
		list = slices.Delete(list, first, first+1)
	}
	return list
}

// remember adds generations to a list of bounded length.
func remember(l []Generation, more ...Generation) []Generation {
	l = slices.Clone(l)
	for _, gen := range more {
		if !slices.Contains(l, gen) {
			l = append(l, gen)
		}
	}
	return l[max(0, len(l)-mostGenerations):]
}

// outlived reports whether members of another ring were told to leave its keys.
func (k *keyring) outlived(its *keyring) bool {
	return slices.ContainsFunc(append([]Generation{its.gen}, its.contains...), func(g Generation) bool { return slices.Contains(k.ended, g) })
}

// united is a merged ring as members are told of it, and what they stop sending with.
// All that is old is as if it had been made now: who holds it knows better and goes on,
// who doesn't waits until everybody has it.
func (k *keyring) united(now time.Time) (named *keyring, del gdoi.Delete, left time.Duration) {
	named = k.clone()
	for i, list := range named.teks {
		for j, t := range list[:max(0, len(list)-1)] {
			c := *t
			c.created = now
			named.teks[i][j] = &c
			del.TEKs = append(del.TEKs, t.spi)
			left = max(left, t.expires.Sub(now))
		}
	}
	return named, del, left
}

// held reports whether all peers that are heard have the keys in force.
func (g *Group) held() bool {
	for _, p := range g.coop.m.View().Peers {
		if p.Alive && p.IKE && p.Keys != g.coop.keys {
			return false
		}
	}
	return true
}

// heldBy is when a round of new keys may begin: once other key servers have them.
func (g *Group) heldBy(now time.Time) time.Time {
	if g.coop == nil || g.held() {
		return now
	}
	return now.Add(heldWait)
}

// hasten begins a round that waited for other key servers.
func (g *Group) hasten(now time.Time) {
	if r := g.round; r != nil && r.sent == 0 && now.Before(r.next) && g.held() {
		r.next = now
	}
}
