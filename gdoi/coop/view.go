package coop

// What can be shown.

import (
	"net/netip"
	"time"
)

// Gate is why no member may register now.
type Gate uint8

const (
	GateOpen     Gate = iota
	GateElection      // an election is under way, or its keys haven't come
	GateStale         // no valid announcement for long
	GateSIDs          // Sender IDs overlap with a peer's: no counter-mode TEKs
)

// View is the machine at one moment.
type View struct {
	Role      Role
	Primary   netip.Addr // invalid: none known
	Priority  uint8
	Gate      Gate
	Refresh   time.Duration // a primary's
	Periodic  time.Duration // a secondary's
	Remaining time.Duration // until the next announcement or request
	Retries   int           // requests without an answer
	Invalid   uint64        // announcements with a bad pseudotime, in a row
	Sequence  uint64        // the highest number sent to a peer
	Keys      KeysID
	Peers     []PeerView
}

// PeerView is a peer at one moment.
type PeerView struct {
	Addr        netip.Addr
	Role        Role
	Alive, Dead bool // heard; missed
	Priority    uint8
	Software    [3]uint8
	Optimize    bool   // both sides speak it
	Sequence    uint64 // of its last announcement
	IKE         bool   // there is a phase-1 SA
	Registered  uint32 // members
	Keys        KeysID // that it holds
	SIDs        []SIDRange
	Overlap     bool
	Counters    PeerCounters
}

// View shows the machine as it was at the last input.
func (m *Machine) View() View {
	v := View{Role: m.role, Primary: m.primary, Priority: m.c.Priority, Gate: m.gate(), Refresh: m.c.Refresh, Periodic: m.c.Periodic,
		Retries: m.asked, Invalid: m.invalid, Keys: m.keys.ID}
	switch m.role {
	case Primary:
		v.Remaining = m.spoke.Add(m.c.Refresh).Sub(m.now)
	case Secondary:
		v.Remaining = m.ask.Sub(m.now)
	}
	v.Remaining = max(0, v.Remaining)
	for _, a := range m.order {
		p := m.peers[a]
		pv := PeerView{Addr: a, Role: p.role(), Alive: p.alive, Dead: p.dead, Priority: p.priority(), Optimize: p.optimize && m.c.Optimize,
			Sequence: p.ann, IKE: len(p.sessions) > 0, Overlap: p.overlap, Counters: p.counters}
		if l := p.last; l != nil {
			pv.Software, pv.Registered, pv.SIDs, pv.Keys = l.software, l.registered, l.sids, l.held
		}
		if !p.alive {
			pv.Role = Electing
		}
		v.Sequence = max(v.Sequence, p.sent)
		v.Peers = append(v.Peers, pv)
	}
	return v
}

func (m *Machine) gate() Gate {
	switch {
	case m.role == Electing, m.role == Secondary && !m.followed:
		return GateElection
	case m.stale:
		return GateStale
	}
	for _, p := range m.peers {
		if p.alive && p.overlap {
			return GateSIDs
		}
	}
	return GateOpen
}

// Opened is "clear crypto gdoi group" at a secondary: members may register again
// although no valid announcement has come.
func (m *Machine) Opened(now time.Time) Output {
	m.begin(now)
	m.stale, m.asked, m.ask = false, 0, now.Add(m.c.Periodic)
	return m.finish()
}
