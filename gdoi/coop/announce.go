package coop

// What is sent, and when.

import (
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// work does what the state and the clock ask for. It runs at the end of each input.
func (m *Machine) work() {
	if m.left {
		return
	}
	m.watch()
	m.decide()
	m.attend()
	m.want()
	m.feed()
	m.speak()
}

// speak sends announcements that are due.
func (m *Machine) speak() {
	var flags flag
	every := m.c.Refresh
	if m.role == Electing {
		flags, every = wantAnswer, often
	}
	if m.urgent || m.soon && !m.now.Before(m.spoke.Add(often)) || !m.now.Before(m.spoke.Add(every)) {
		m.urgent, m.soon, m.spoke = false, false, m.now
		for _, a := range m.order {
			m.announceTo(m.peers[a], flags)
		}
	}
	for _, a := range m.order {
		p := m.peers[a]
		switch {
		case p.greet:
			m.announceTo(p, wantAnswer)
		case p.answer && !m.now.Before(p.answered.Add(often/5)):
			p.answered = m.now
			m.announceTo(p, flags&^wantAnswer)
		case !p.report.IsZero() && !m.now.Before(p.report):
			m.announceTo(p, 0)
		}
	}
}

// announceTo tells a peer our state.
func (m *Machine) announceTo(p *peer, flags flag) {
	if len(p.sessions) == 0 {
		return // it is told when there is an SA
	}
	if m.yields {
		flags |= yielding
	}
	if m.successor == p.addr {
		flags |= free
	}
	a := m.announcement(p)
	m.fit(a)
	m.send(p, kindAnn, flags, a.encode)
	p.greet, p.answer, p.report = false, false, time.Time{}
	p.counters.AnnSent++
	if flags&wantAnswer != 0 {
		p.counters.AnnSentAsking++
	}
}

// fit leaves out numbers of old KEKs where an announcement would be too long: their
// leader passes over what isn't confirmed.
func (m *Machine) fit(a *announcement) {
	for len(a.numbers) > 2 {
		b := cryptobyte.NewBuilder(nil)
		a.encode(b)
		if data, err := b.Bytes(); err != nil || len(data) <= m.c.MTU-64 {
			return
		}
		a.numbers = a.numbers[1:]
	}
}

func (m *Machine) announcement(p *peer) *announcement {
	a := &announcement{role: m.role, priority: m.c.Priority, software: m.c.Software, primary: m.primary,
		running: m.pseudo.running, pseudotime: m.pseudo.read(m.now), signing: m.c.SigningKey, items: m.c.Items, sids: m.c.SIDs,
		held: m.keys.ID, ancestors: m.ancestors, registered: uint32(len(m.own.rows) - m.own.gone)}
	for _, spi := range m.keys.KEKs {
		if n := m.numbers[spi]; n != nil {
			a.numbers = append(a.numbers, n.wire())
		}
	}
	for _, t := range m.tables {
		if t != m.own || t.have > 0 {
			a.tables = append(a.tables, t.progress())
		}
	}
	slices.SortFunc(a.tables, func(x, y progress) int {
		if x.table.less(y.table) {
			return -1
		}
		return 1
	})
	if f := m.fetch; f != nil && f.from == p.addr {
		a.missing = f.missing()
	}
	return a
}

// send makes a message to a peer.
func (m *Machine) send(p *peer, k kind, f flag, body func(*cryptobyte.Builder)) {
	if len(p.sessions) == 0 {
		p.counters.SentDrops++
		return
	}
	if m.c.Optimize {
		f |= optimized
	}
	p.sent++
	h := header{minor: Minor, kind: k, flags: f, group: m.c.Group, incarnation: m.incarnation, seq: p.sent}
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	h.encode(b)
	body(b)
	data, err := b.Bytes()
	if err != nil { // a list or octets too long: inputs are bounded before
		p.counters.SentDrops++
		return
	}
	p.counters.OctetsSent += uint64(len(data))
	m.out.Send = append(m.out.Send, Send{p.addr, data})
}

// Wake is when Tick is due; zero: not before another input.
func (m *Machine) Wake() time.Time {
	if m.left {
		return time.Time{}
	}
	w := m.spoke.Add(m.c.Refresh)
	at := func(t time.Time) {
		if t.Before(w) {
			w = t
		}
	}
	switch m.role {
	case Electing:
		at(m.spoke.Add(often))
		if s := m.since.Add(shortest); m.now.Before(s) {
			at(s)
		}
	case Secondary:
		at(m.ask)
	}
	if m.soon {
		at(m.spoke.Add(often))
	}
	if m.fetch != nil {
		at(m.fetch.again)
	}
	for _, a := range m.order {
		p := m.peers[a]
		if p.alive {
			at(m.missed(p))
			at(m.fed(p))
		}
		if len(p.sessions) == 0 {
			continue
		}
		if p.answer {
			at(p.answered.Add(often / 5))
		}
		if !p.report.IsZero() {
			at(p.report)
		}
	}
	return w
}
