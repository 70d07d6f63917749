package coop

// What is known of a peer, and whether it is there.

import (
	"net/netip"
	"slices"
	"time"
)

// peer is another key server.
type peer struct {
	addr     netip.Addr
	sessions map[uint64]bool // phase-1 SAs that are up
	lost     time.Time       // when the last one ended; zero: there is one, or never was
	greet    bool            // it is to be told our state and asked for its

	alive bool      // heard, and not missed since
	dead  bool      // missed
	heard time.Time // its last announcement
	last  *announcement

	incarnation uint64
	session     uint64 // the newest SA that it used in this incarnation
	ann         uint64 // number of its last announcement
	window      window
	sent        uint64 // our messages to it

	free     bool // it has left its leases to us in this election
	optimize bool

	answered time.Time // when it was last answered at its wish
	answer   bool      // it waits for an answer
	report   time.Time // when it is to be told our progress; zero: needn't
	since    time.Time // since when its keys should have been merged; zero: no reason
	cursors  map[tableID]*cursor
	bulk     time.Time
	merged   time.Time // when keys of it were merged last
	gave     KeysID    // what parts it was sent last …
	given    time.Time // … and when

	differs []string // configuration
	signing bool     // its signing key differs, and it was told
	version bool     // its software differs, and it was told
	overlap bool     // its Sender IDs overlap

	counters PeerCounters
}

// PeerCounters are of one peer since it was configured.
type PeerCounters struct {
	AnnSent, AnnSentAsking uint64
	AnnRcvd, AnnRcvdAsking uint64
	SentDrops, RcvdDrops   uint64
	OctetsSent, OctetsRcvd uint64
	Resent                 uint64 // rows and parts of keys that were sent again
}

func newPeer(a netip.Addr) *peer {
	return &peer{addr: a, sessions: map[uint64]bool{}, cursors: map[tableID]*cursor{}}
}

func (p *peer) role() Role {
	if p.last == nil {
		return Electing
	}
	return p.last.role
}

func (p *peer) priority() uint8 {
	if p.last == nil {
		return 0
	}
	return p.last.priority
}

func (p *peer) held() KeysID {
	if p.last == nil {
		return KeysID{}
	}
	return p.last.held
}

// outranks orders key servers for the role of primary.
func outranks(pa uint8, a netip.Addr, pb uint8, b netip.Addr) bool {
	if pa != pb {
		return pa > pb
	}
	return b.Less(a)
}

func (m *Machine) outranks(p *peer) bool {
	return outranks(m.c.Priority, m.c.Self, p.priority(), p.addr)
}

// deadAfter is how long a peer may be silent.
func (m *Machine) deadAfter() time.Duration { return m.c.Periodic + 3*m.c.Retransmit }

// missed is when a peer counts as gone if nothing is heard.
func (m *Machine) missed(p *peer) time.Time {
	t := p.heard.Add(m.deadAfter())
	if !p.lost.IsZero() { // no SA: it can't be heard
		if l := p.lost.Add(m.c.Retransmit); l.Before(t) {
			t = l
		}
	}
	if p.addr == m.primary && m.role == Secondary && m.asked >= 3 {
		l := m.ask // three requests without an answer
		if h := p.heard.Add(m.c.Periodic); h.After(l) {
			l = h // what it says is no good, but it is there
		}
		if l.Before(t) {
			t = l
		}
	}
	return t
}

// watch finds out who is gone.
func (m *Machine) watch() {
	for _, a := range m.order {
		p := m.peers[a]
		if !p.alive || m.now.Before(m.missed(p)) {
			continue
		}
		m.gone(p)
	}
}

func (m *Machine) gone(p *peer) {
	p.alive, p.dead, p.free, p.since = false, true, false, time.Time{}
	p.report = time.Time{}
	clear(p.cursors)
	if m.fetch != nil && m.fetch.from == p.addr {
		m.fetch = nil
	}
	m.tell(PeerUnreachable{p.addr})
	if p.addr == m.primary {
		m.elect(p.addr)
	}
}

// compare tells what a peer has otherwise than we.
func (m *Machine) compare(p *peer) {
	a := p.last
	if a == nil || !p.alive {
		return
	}
	mine, its, clash := overlap(m.c.SIDs, a.sids)
	if clash != p.overlap {
		p.overlap = clash
		m.tell(SIDsOverlap{p.addr, mine, its, !clash})
	}
	if d := m.c.SigningKey != a.signing && a.signing != [32]byte{} && m.c.SigningKey != [32]byte{}; d != p.signing {
		if p.signing = d; d {
			m.tell(SigningKeyDiffers{p.addr, m.c.SigningKey, a.signing})
		}
	}
	if d := m.c.Software != a.software; d != p.version {
		if p.version = d; d {
			m.tell(VersionDiffers{p.addr, m.c.Software, a.software})
		}
	}
	if m.role == Electing || a.role == Electing || m.role == Secondary && a.role == Secondary {
		return
	}
	if d := differing(m.c.Items, a.items); !slices.Equal(d, p.differs) {
		p.differs = d
		m.tell(Mismatch{p.addr, d})
	}
}

// differing are the names of items that aren't the same on both sides.
func differing(a, b []Item) (names []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			names = append(names, x.Name)
		}
	}
	for _, y := range b {
		if !slices.ContainsFunc(a, func(x Item) bool { return x.Name == y.Name }) {
			names = append(names, y.Name)
		}
	}
	return names
}

// window refuses copies of messages that may come out of order.
type window struct {
	top  uint64
	bits [16]uint64
}

const windowSize = 1024

// fresh reports whether seq wasn't seen and isn't too old.
func (w *window) fresh(seq uint64) bool {
	if seq == 0 || seq > w.top {
		return seq != 0
	}
	if w.top-seq >= windowSize {
		return false
	}
	return w.bits[seq/64%16]&(1<<(seq%64)) == 0
}

func (w *window) see(seq uint64) {
	if seq > w.top {
		if seq-w.top >= windowSize {
			w.bits = [16]uint64{}
		} else {
			for s := w.top + 1; s <= seq; s++ {
				w.bits[s/64%16] &^= 1 << (s % 64)
			}
		}
		w.top = seq
	}
	w.bits[seq/64%16] |= 1 << (seq % 64)
}
