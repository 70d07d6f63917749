package coop

// Keys on their way: who needs whose, in parts that are asked for until all are here.
// A secondary takes those of its primary. A primary takes those of a peer that hold
// something that its own don't: of another primary that has given up its role, or of
// somebody who followed one. Ancestors tell what keys contain.

import (
	"net/netip"
	"slices"
	"time"

	"getvpn/internal/secret"
)

// fetch is keys on their way to us.
type fetch struct {
	from   netip.Addr
	merge  bool
	id     KeysID
	first  *keysPart // whose rest belongs to all parts
	parts  map[uint16][]byte
	again  time.Time // when what is missing is asked for again
	tries  int
	before int // parts that were here then
}

const (
	refetch = 300 * time.Millisecond
	// patience is how long a secondary waits for its own keys to be merged.
	patience = 20 * time.Second
	// remerge is the least time between two merges of keys of one peer: each costs
	// members a rekey.
	remerge = 10 * time.Second
	// regive is the least time between two answers to a peer that asks for parts.
	regive = 200 * time.Millisecond
)

// contains reports whether keys with these ancestors contain those of id.
func contains(held KeysID, ancestors []KeysID, id KeysID) bool {
	if !id.Valid() {
		return true
	}
	within := func(k KeysID) bool { return k.Maker == id.Maker && k.Epoch == id.Epoch && k.Version >= id.Version }
	return within(held) || slices.ContainsFunc(ancestors, within)
}

// ancestor notes that our keys contain others.
func (m *Machine) ancestor(ids ...KeysID) {
	for _, id := range ids {
		if !id.Valid() || contains(KeysID{}, m.ancestors, id) {
			continue
		}
		m.ancestors = slices.DeleteFunc(m.ancestors, func(k KeysID) bool { return k.Maker == id.Maker && k.Epoch == id.Epoch })
		m.ancestors = append(m.ancestors, id)
	}
	if n := len(m.ancestors) - maxAncestors; n > 0 {
		m.ancestors = slices.Delete(m.ancestors, 0, n)
	}
}

// wantBefore is whose keys a future primary should have before it rules; nil: nobody's.
func (m *Machine) wantBefore() *peer {
	var from *peer
	for _, a := range m.order {
		p := m.peers[a]
		if !p.alive || p.last == nil || len(p.sessions) == 0 || !later(p.held(), m.keys.ID) {
			continue
		}
		if from == nil || later(p.held(), from.held()) {
			from = p
		}
	}
	return from
}

// later reports whether a is to be taken in place of b: a later version of the same, or
// anything in place of nothing.
func later(a, b KeysID) bool {
	if !a.Valid() || !b.Valid() {
		return a.Valid() && !b.Valid()
	}
	return a.Maker == b.Maker && a.Epoch == b.Epoch && a.Version > b.Version
}

// want decides what is to be fetched.
func (m *Machine) want() {
	from, merge := m.source()
	f := m.fetch
	if from == nil {
		m.fetch = nil
		return
	}
	if f == nil || f.from != from.addr || f.merge != merge || f.id != from.held() {
		f = &fetch{from: from.addr, merge: merge, id: from.held(), parts: map[uint16][]byte{}, again: m.now}
		m.fetch = f
	}
	if m.now.Before(f.again) {
		return
	}
	f.again = m.now.Add(refetch)
	if f.tries++; f.tries > 1 && len(f.parts) == f.before {
		f.again = m.now.Add(min(refetch<<min(f.tries, 6), 5*time.Second))
	}
	f.before = len(f.parts)
	m.announceTo(from, 0)
}

// source is whose keys are to be fetched now.
func (m *Machine) source() (p *peer, merge bool) {
	switch m.role {
	case Electing:
		return m.wantBefore(), false
	case Secondary:
		p := m.peers[m.primary]
		if p == nil || p.last == nil || p.role() != Primary || !p.held().Valid() || p.held() == m.keys.ID {
			return nil, false
		}
		if !contains(p.held(), p.last.ancestors, m.keys.ID) && m.now.Before(p.since.Add(patience)) {
			if p.report.IsZero() {
				p.report = m.now.Add(2 * often) // it must hear of them
			}
			return nil, false // it will take ours first
		}
		return p, false
	case Primary:
		for _, a := range m.order {
			p := m.peers[a]
			if p.alive && p.last != nil && p.role() == Secondary && p.last.primary == m.c.Self && len(p.sessions) > 0 &&
				!contains(m.keys.ID, m.ancestors, p.held()) && !m.now.Before(p.merged.Add(remerge)) {
				return p, true
			}
		}
	}
	return nil, false
}

// missing is what is asked for; no parts means all.
func (f *fetch) missing() fragments {
	w := fragments{id: f.id}
	if f.first == nil {
		return w
	}
	for i := range f.first.parts() {
		if _, ok := f.parts[uint16(i)]; !ok && len(w.parts) < 64 {
			w.parts = append(w.parts, uint16(i))
		}
	}
	return w
}

// give sends a peer the parts of our keys that it asks for.
func (m *Machine) give(p *peer, w fragments) {
	if w.id != m.keys.ID || !w.id.Valid() {
		return // it hears what we have with our next announcement
	}
	if w.id == p.gave && m.now.Before(p.given.Add(regive)) {
		return // they are on their way
	}
	p.gave, p.given = w.id, m.now
	size := m.partSize()
	n := max((len(m.keys.Blob)+size-1)/size, 1)
	grant := m.role == Secondary && m.primary == p.addr && !contains(p.held(), p.last.ancestors, m.keys.ID)
	var numbers []number
	for _, spi := range m.keys.KEKs {
		x := m.numbers[spi]
		if x == nil {
			continue
		}
		// Who leads puts it in the order, in whatever role: nobody else knows what it had.
		has := slices.ContainsFunc(p.last.numbers, func(w number) bool { return w.spi == spi })
		vouched := !grant && x.leads(m.c.Self) && x.hold(p.addr, p.incarnation, has)
		w := x.wire()
		if w.lost = !vouched; grant {
			w.lease = x.grant(m.c.Self, heir{p.addr, p.incarnation, m.keys.ID})
		}
		numbers = append(numbers, w)
	}
	parts := w.parts
	if len(parts) == 0 {
		for i := range n {
			parts = append(parts, uint16(i))
		}
	} else {
		p.counters.Resent += uint64(len(parts))
	}
	for _, i := range parts {
		if int(i) >= n {
			continue
		}
		part := keysPart{id: m.keys.ID, ancestors: m.ancestors, keks: m.keys.KEKs, numbers: numbers, length: uint32(len(m.keys.Blob)), index: i, size: uint16(size)}
		part.octets = m.keys.Blob[int(i)*size : min((int(i)+1)*size, len(m.keys.Blob))]
		m.send(p, kindKeys, 0, part.encode)
	}
}

// partSize leaves room for what is in each part.
func (m *Machine) partSize() int {
	room := m.c.MTU - 128 - 33*len(m.ancestors) - len(m.keys.KEKs)*(16+16+16+2+1)
	for _, n := range m.numbers {
		room -= 17 * len(n.holders)
	}
	return max(room, maxKeys/maxParts, 256)
}

// takePart takes a part that is on its way.
func (m *Machine) takePart(p *peer, k *keysPart) error {
	f := m.fetch
	if f == nil || f.from != p.addr || f.id != k.id {
		return refuse(Unexpected, "keys that weren't asked for")
	}
	if f.first != nil && (f.first.length != k.length || f.first.size != k.size) {
		return refuse(Malformed, "parts of keys don't fit together")
	}
	if f.first == nil {
		f.first = k
	}
	f.parts[k.index] = append([]byte(nil), k.octets...)
	if len(f.parts) < max(f.first.parts(), 1) {
		return nil
	}
	blob := make(secret.Bytes, 0, k.length)
	for i := range max(f.first.parts(), 1) {
		blob = append(blob, f.parts[uint16(i)]...)
		clear(f.parts[uint16(i)])
	}
	m.fetch = nil
	keys := Keys{ID: f.id, KEKs: k.keks, Blob: blob}
	if f.merge {
		m.merge(p, keys, k)
	} else {
		m.takeKeys(p, keys, k)
	}
	return nil
}

// takeKeys holds a peer's keys in place of ours.
func (m *Machine) takeKeys(p *peer, keys Keys, k *keysPart) {
	m.keys, m.ancestors = keys, slices.Clone(k.ancestors)
	m.noteEpoch(keys.ID.Epoch)
	for _, w := range k.numbers {
		m.learn(p, w)
	}
	m.prune()
	m.followed = true
	m.urgent = true // the primary hears that we have them
	m.tell(TakeKeys{p.addr, keys})
}

// merge takes a peer's keys beside ours.
func (m *Machine) merge(p *peer, keys Keys, k *keysPart) {
	p.merged = m.now
	m.ancestor(k.ancestors...)
	m.ancestor(keys.ID)
	m.noteEpoch(keys.ID.Epoch)
	for _, w := range k.numbers {
		n := m.numbers[w.spi]
		if n == nil {
			n = &numbering{spi: w.spi, base: w.base, holders: w.holders, known: map[netip.Addr]uint32{}}
			n.lose()
			m.numbers[w.spi] = n
		}
		n.others(m.c.Self, w.last)
		if n.granted != nil && w.lease.From <= n.granted.To {
			continue // we have left those to somebody else
		}
		if w.lease.From > 0 && !n.leads(m.c.Self) && n.lease(m.c.Self).Left() == 0 {
			l := w.lease
			n.given = &l
		}
	}
	m.tell(MergeKeys{p.addr, keys})
}

// noteEpoch lets our next epoch be higher than one that was heard of, within reason: no
// peer brings ours to their end.
func (m *Machine) noteEpoch(e uint64) {
	if e < 1<<61 {
		m.epoch = max(m.epoch, e)
	}
}

// learn takes what the primary says of the numbers under a KEK.
func (m *Machine) learn(p *peer, w number) {
	if len(w.holders) == 0 {
		return
	}
	n := m.numbers[w.spi]
	if n == nil {
		if !slices.Contains(m.keys.KEKs, w.spi) {
			return
		}
		n = &numbering{spi: w.spi, last: w.last, base: w.base, holders: slices.Clone(w.holders), known: map[netip.Addr]uint32{}}
		m.numbers[w.spi] = n
		// We may have had it before and used what others don't know of; its leader has
		// passed over that.
		if n.holders[0] != p.addr || w.lost || slices.Contains(m.had, w.spi) {
			n.lose()
		}
	}
	if n.holders[0] != w.holders[0] {
		n.void, n.lost, n.given, n.granted = false, false, nil, nil // another leader: another order
		n.base = w.base
	}
	n.holders = slices.Clone(w.holders)
	if w.holders[0] == p.addr {
		n.base = max(n.base, w.base)
	}
	if w.last > n.last {
		n.last = w.last
		m.tell(NumbersKnown{w.spi, w.last})
	}
}
