package coop

// Elections. The highest priority wins, then the highest address, among those that are
// heard. Nobody who has the role is driven out of it by a better one.

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// shortest is how long an election takes at least: everybody must have been heard
	// after it began.
	shortest = 2 * time.Second
	// longer is the time beyond Periodic for key servers that may still come.
	longer = 5 * time.Second
	// often is between announcements of an election.
	often = time.Second
	// leave is how long the winner waits for the leases of others.
	leave = 3 * time.Second
)

// elect begins an election; prev is the primary that was.
func (m *Machine) elect(prev netip.Addr) {
	if prev.IsValid() {
		m.previous = prev
	}
	m.setRole(Electing, netip.Addr{})
	m.since, m.until = m.now, m.now.Add(m.c.Periodic+longer)
	m.yielded, m.successor, m.awaited = false, netip.Addr{}, netip.Addr{}
	clear(m.passed)
	for _, p := range m.peers {
		p.free = false
	}
	m.tell(ElectionBegun{prev})
	m.urgent = true
}

// setRole changes what belongs to a role.
func (m *Machine) setRole(r Role, primary netip.Addr) {
	m.role, m.primary = r, primary
	m.asked, m.invalid, m.stale, m.followed = 0, 0, false, false
	m.valid, m.ask = m.now, m.now.Add(m.c.Periodic)
	if r != Electing {
		m.yields = false
	}
	m.urgent = true
}

// decide ends an election when it can.
func (m *Machine) decide() {
	if m.role != Electing || m.now.Before(m.since.Add(shortest)) {
		return
	}
	complete := true
	best, priority, self := m.c.Self, m.c.Priority, true
	for _, a := range m.order {
		p := m.peers[a]
		if !p.alive || !p.heard.After(m.since) || p.role() != Electing {
			complete = complete && p.dead
			continue
		}
		if !m.passed[a] && outranks(p.priority(), a, priority, best) {
			best, priority, self = a, p.priority(), false
		}
	}
	if !complete && m.now.Before(m.until) {
		return
	}
	if !self {
		if m.yielded && !m.successor.IsValid() {
			m.successor = best
			for _, n := range m.numbers {
				n.void = true
			}
			m.announceTo(m.peers[best], free)
		}
		if best != m.awaited {
			m.awaited, m.awaiting = best, m.now
		}
		if !m.now.Before(m.awaiting.Add(m.c.Retransmit + longer)) {
			m.passed[best] = true // it should have taken the role
		}
		return
	}
	if m.wantBefore() != nil && m.now.Before(m.since.Add(shortest+m.c.Retransmit)) {
		return // keys that others have come first
	}
	if m.yielded && !m.allFree() && m.now.Before(m.since.Add(shortest+leave)) {
		return
	}
	m.rule()
}

// allFree reports whether every other holder of a KEK has left its lease to us.
func (m *Machine) allFree() bool {
	for _, n := range m.numbers {
		if !m.freeOf(n) {
			return false
		}
	}
	return true
}

func (m *Machine) freeOf(n *numbering) bool {
	for _, h := range append(slices.Clone(n.holders), m.previous) { // its lease may have been given to it
		if h == m.c.Self || !h.IsValid() {
			continue
		}
		p := m.peers[h]
		if p == nil || !p.alive || !p.free {
			return false
		}
		// It must know what it left.
		i := slices.IndexFunc(p.last.numbers, func(w number) bool { return w.spi == n.spi })
		if i < 0 && slices.Contains(n.holders, h) || i >= 0 && p.last.numbers[i].lost {
			return false
		}
	}
	return true
}

// rule makes us the primary.
func (m *Machine) rule() {
	prev := m.previous
	// The low bits tell apart what we make now from what we made before a loss of state.
	m.epoch = (m.epoch>>16+1)<<16 | m.incarnation&0xffff
	m.reign = m.epoch
	for _, n := range m.numbers {
		if m.yielded && m.freeOf(n) && !n.void {
			n.lead(m.c.Self)
		}
	}
	m.setRole(Primary, m.c.Self)
	m.previous = m.c.Self
	m.tell(RoleChanged{Primary, prev})
}

// follow makes p our primary.
func (m *Machine) follow(p *peer) {
	prev := m.previous
	m.setRole(Secondary, p.addr)
	m.previous = p.addr
	p.since = m.now
	m.tell(RoleChanged{Secondary, prev})
}

// attend is a secondary's watch over its primary.
func (m *Machine) attend() {
	if m.role != Secondary || m.now.Before(m.ask) {
		return
	}
	p := m.peers[m.primary]
	if m.asked >= 3 {
		if !m.stale {
			m.stale = true
			m.tell(AnnTimerExpired{})
		}
		m.ask = m.now.Add(m.c.Periodic)
		m.announceTo(p, wantAnswer)
		return
	}
	m.asked++
	m.ask = m.now.Add(m.c.Retransmit)
	m.announceTo(p, wantAnswer)
}
