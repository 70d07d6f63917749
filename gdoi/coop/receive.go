package coop

// What comes from peers. Everything is checked before anything is changed.

import (
	"net/netip"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Receive takes a message that came over a phase-1 SA with a peer. A refused one changes
// nothing but counters, and may come with results to tell.
func (m *Machine) Receive(from netip.Addr, session uint64, data []byte, now time.Time) (Output, error) {
	m.begin(now)
	err := m.receive(from, session, data)
	if err != nil {
		if p := m.peers[from]; p != nil {
			p.counters.RcvdDrops++
		}
	}
	return m.finish(), err
}

func (m *Machine) receive(from netip.Addr, session uint64, data []byte) error {
	p := m.peers[from]
	if p == nil {
		return refuse(Unconfigured, "message from %v", from)
	}
	h, body, err := decodeHeader(data)
	if err != nil {
		return err
	}
	if string(h.group) != string(m.c.Group) {
		return refuse(WrongGroup, "group %x", h.group)
	}
	if !p.sessions[session] {
		return refuse(Unexpected, "no SA %d with %v", session, from)
	}
	anew := h.incarnation != p.incarnation
	if anew {
		// A key server that starts anew makes a new SA: on one that the old
		// incarnation used, this can only be an old message.
		if session <= p.session {
			return refuse(Replayed, "an earlier incarnation of %v", from)
		}
		if h.kind != kindAnn {
			return refuse(Unexpected, "no announcement yet")
		}
	} else if !p.window.fresh(h.seq) || h.kind == kindAnn && h.seq <= p.ann {
		if h.kind == kindAnn {
			m.tell(SeqFailure{from, h.seq, p.ann})
		}
		return refuse(Replayed, "number %d, the last was %d", h.seq, max(p.ann, p.window.top))
	}
	commit, err := m.decode(p, h, body)
	if err != nil {
		return err
	}
	if anew {
		m.anew(p, h.incarnation)
	}
	p.session = max(p.session, session)
	p.window.see(h.seq)
	p.counters.OctetsRcvd += uint64(len(data))
	p.optimize = h.flags&optimized != 0
	return commit()
}

// anew forgets what an earlier incarnation of a peer was told.
func (m *Machine) anew(p *peer, incarnation uint64) {
	p.incarnation, p.ann, p.window = incarnation, 0, window{}
	p.last, p.free, p.since, p.report = nil, false, time.Time{}, time.Time{}
	clear(p.cursors)
}

// decode reads a message and returns what is to be done with it.
func (m *Machine) decode(p *peer, h header, body cryptobyte.String) (func() error, error) {
	switch h.kind {
	case kindAnn:
		a, err := decodeAnnouncement(body)
		return func() error { return m.announced(p, h, a) }, err
	case kindKeys:
		k, err := decodeKeysPart(body)
		return func() error { return m.takePart(p, k) }, err
	case kindRows:
		r, err := decodeRowsPart(body)
		return func() error { return m.takeRows(p, r) }, err
	case kindRelay:
		r, err := decodeRelay(body)
		return func() error {
			if p.role() != Primary {
				return refuse(Unexpected, "a rekey to pass on from a %v", p.role())
			}
			m.tell(RelayThis{p.addr, r.datagram, r.members})
			return nil
		}, err
	case kindAcks:
		a, err := decodeAcks(body)
		return func() error {
			m.tell(AcksArrived{a.spi, a.seq, a.members})
			return nil
		}, err
	}
	return nil, refuse(Malformed, "kind %d", h.kind)
}

// announced takes an announcement.
func (m *Machine) announced(p *peer, h header, a *announcement) error {
	p.ann = h.seq
	p.heard = m.now
	p.counters.AnnRcvd++
	if h.flags&wantAnswer != 0 {
		p.counters.AnnRcvdAsking++
		p.answer = true
	}
	if h.flags&leaving != 0 {
		if p.alive {
			m.gone(p)
		}
		p.last, p.dead = nil, true
		return nil
	}
	was := p.role()
	if err := m.judgeTime(p, a); err != nil {
		if p.last == nil { // it is there, at least
			p.last = &announcement{role: a.role, priority: a.priority, primary: a.primary}
		}
		m.arrive(p)
		return err
	}
	p.last = a
	m.noteEpoch(a.held.Epoch)
	if h.flags&free != 0 && m.role == Electing {
		p.free = true
	}
	m.arrive(p)
	m.compare(p)
	m.known(p, a)
	if a.missing.id.Valid() {
		m.give(p, a.missing)
	}
	m.meet(p, a, was, h.flags)
	return nil
}

// arrive notes that a peer is there.
func (m *Machine) arrive(p *peer) {
	if p.alive {
		return
	}
	p.alive = true
	if p.dead {
		p.dead = false
		m.tell(PeerReachable{p.addr})
	}
	p.answer = true
}

// known takes what a holder of our keys confirms.
func (m *Machine) known(p *peer, a *announcement) {
	for _, w := range a.numbers {
		n := m.numbers[w.spi]
		if n == nil || len(w.holders) == 0 {
			continue
		}
		if k, ok := n.known[p.addr]; ok && n.holders[0] == m.c.Self && w.holders[0] == m.c.Self {
			n.known[p.addr] = max(k, min(w.base, n.base))
			// It may have used its own numbers while we weren't there, and confirm ours now.
			n.others(m.c.Self, w.last)
		}
	}
	if m.role == Electing && m.yielded { // the number that all go on from
		for _, w := range a.numbers {
			if n := m.numbers[w.spi]; n != nil {
				n.last = max(n.last, w.last)
			}
		}
	}
}

// meet draws the consequences of a peer's role.
func (m *Machine) meet(p *peer, a *announcement, was Role, f flag) {
	switch a.role {
	case Primary:
		m.meetPrimary(p, a)
	case Electing:
		if m.role == Secondary && p.addr == m.primary {
			m.elect(p.addr) // it has given up its role, or begins anew
			if f&yielding != 0 {
				m.yielded = true
				m.tell(RoleReset{p.addr})
			}
		} else if m.role == Secondary && m.asked == 0 && was != Electing {
			m.ask = m.now // it misses our primary; do we?
		} else if m.role == Primary && was != Electing {
			p.answer = true
		} else if m.role == Electing && f&yielding != 0 {
			m.yielded = true
		}
	case Secondary:
		if m.role == Secondary && p.addr == m.primary {
			m.elect(netip.Addr{}) // it follows somebody whom we haven't heard
		}
	}
}

func (m *Machine) meetPrimary(p *peer, a *announcement) {
	switch m.role {
	case Electing:
		m.follow(p)
	case Primary:
		if m.outranks(p) {
			p.answer = true // it will give up its role
			return
		}
		m.follow(p)
	case Secondary:
		if p.addr != m.primary {
			return
		}
	}
	m.valid, m.asked, m.ask = m.now, 0, m.now.Add(m.c.Periodic)
	m.stale, m.invalid = false, 0
	for _, w := range a.numbers {
		if m.numbers[w.spi] != nil {
			m.learn(p, w)
		}
	}
	if a.held.Valid() && a.held == m.keys.ID {
		m.followed = true
	}
}

// judgeTime applies the rules of pseudotime (guide, "pseudotime of announcements").
func (m *Machine) judgeTime(p *peer, a *announcement) error {
	if !a.running || m.c.Skew == 0 {
		return nil
	}
	mine, its, skew := m.pseudo.read(m.now), a.pseudotime, uint64(m.c.Skew/time.Millisecond)
	meeting := m.role == Electing || m.role == Primary && a.role == Primary ||
		m.role == Primary && !contains(m.keys.ID, m.ancestors, a.held)
	from := m.role == Secondary && p.addr == m.primary && a.role == Primary
	switch {
	case !m.pseudo.running && (meeting || from), its > mine && (meeting || from):
		m.adopt(p, its, mine, its-mine > skew, meeting)
	case its < mine && mine-its > skew && (from || m.role == Primary && !meeting):
		m.tell(TooOld{p.addr, mine, its, skew})
		if from {
			m.invalid++
		}
		return refuse(Replayed, "pseudotime %d ms, ours is %d ms", its, mine)
	case its < mine && from:
		m.adopt(p, its, mine, false, false)
	case its > mine && its-mine > skew && m.role == Primary && a.role == Secondary && a.primary == m.c.Self:
		m.tell(Ahead{p.addr, mine, its}) // the primary's counts
	}
	return nil
}

func (m *Machine) adopt(p *peer, its, mine uint64, large, merge bool) {
	m.pseudo = pseudo{true, its, m.now}
	m.tell(PseudotimeChanged{Peer: p.addr, Value: its, Old: mine, Large: large, Merge: merge})
}
