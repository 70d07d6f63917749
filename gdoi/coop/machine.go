package coop

// The machine's state, its inputs from above, and its timers. What comes from peers is
// in receive.go.

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"
)

// Machine is one group's key server among others.
type Machine struct {
	c           Config
	incarnation uint64
	peers       map[netip.Addr]*peer
	order       []netip.Addr // of peers

	role     Role
	primary  netip.Addr // who it is; invalid: nobody known
	previous netip.Addr
	left     bool

	// election
	since     time.Time
	until     time.Time
	passed    map[netip.Addr]bool // highest ones that didn't take the role
	yielded   bool                // the primary gave up its role by itself
	yields    bool                // we did
	successor netip.Addr          // whom we left our leases to
	awaited   netip.Addr          // who should take the role …
	awaiting  time.Time           // … since when

	// secondary
	valid    time.Time // last good announcement of the primary
	asked    int       // requests since
	ask      time.Time // the next one
	invalid  uint64    // announcements with a bad pseudotime
	stale    bool      // registrations are refused
	followed bool      // keys of the primary have come

	// keys
	keys      Keys
	ancestors []KeysID
	numbers   map[SPI]*numbering
	had       []SPI  // KEKs whose numbering was forgotten
	epoch     uint64 // the highest heard of
	reign     uint64 // ours as primary
	fetch     *fetch

	tables map[tableID]*table
	own    *table
	best   map[netip.Addr]tableID // whose row of a member counts

	pseudo pseudo

	spoke  time.Time // the last one to all
	urgent bool      // announce now
	soon   bool      // announce within a second
	now    time.Time
	out    Output
}

// pseudo is a pseudotime that runs on.
type pseudo struct {
	running bool
	value   uint64 // milliseconds …
	at      time.Time
}

func (p pseudo) read(now time.Time) uint64 {
	if !p.running {
		return 0
	}
	return p.value + uint64(max(0, now.Sub(p.at))/time.Millisecond)
}

// New returns a machine that begins an election. rand gives its incarnation.
func New(c Config, rand io.Reader, now time.Time) (*Machine, Output, error) {
	c, err := c.complete()
	if err != nil {
		return nil, Output{}, err
	}
	var b [8]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return nil, Output{}, fmt.Errorf("coop: %w", err)
	}
	m := &Machine{c: c, incarnation: binary.BigEndian.Uint64(b[:]), peers: map[netip.Addr]*peer{}, numbers: map[SPI]*numbering{},
		tables: map[tableID]*table{}, best: map[netip.Addr]tableID{}, passed: map[netip.Addr]bool{}}
	m.own = newTable(tableID{c.Self, m.incarnation})
	m.tables[m.own.id] = m.own
	m.begin(now)
	for _, a := range c.Peers {
		m.addPeer(a)
	}
	m.elect(netip.Addr{})
	return m, m.finish(), nil
}

// begin starts an input, finish ends it: what is to be sent now follows from the state.
func (m *Machine) begin(now time.Time) {
	m.now = now
	m.out = Output{}
}

func (m *Machine) finish() Output {
	m.work()
	out := m.out
	m.out = Output{}
	return out
}

func (m *Machine) tell(r Result) { m.out.tell(r) }

func (m *Machine) addPeer(a netip.Addr) {
	m.peers[a] = newPeer(a)
	m.order = slices.SortedFunc(maps.Keys(m.peers), netip.Addr.Compare)
	m.tell(PeerAdded{a})
}

// Configure changes what the machine is to do. Its own address can't change.
func (m *Machine) Configure(c Config, now time.Time) (Output, error) {
	c, err := c.complete()
	if err != nil {
		return Output{}, err
	}
	if c.Self != m.c.Self || string(c.Group) != string(m.c.Group) {
		return Output{}, fmt.Errorf("%w: another identity", errConfig)
	}
	m.begin(now)
	m.c = c
	for _, a := range m.order {
		if !slices.Contains(c.Peers, a) {
			delete(m.peers, a)
			m.tell(PeerRemoved{a})
			if a == m.primary {
				m.elect(a)
			}
		}
	}
	m.order = slices.SortedFunc(maps.Keys(m.peers), netip.Addr.Compare)
	for _, a := range c.Peers {
		if m.peers[a] == nil {
			m.addPeer(a)
		}
	}
	for _, a := range m.order {
		m.compare(m.peers[a])
	}
	m.urgent = true
	return m.finish(), nil
}

// Session tells of a phase-1 SA with a peer. Identifiers rise with each new SA.
func (m *Machine) Session(a netip.Addr, id uint64, up bool, now time.Time) Output {
	m.begin(now)
	p := m.peers[a]
	if p == nil {
		return m.finish()
	}
	if up {
		p.sessions[id] = true
		p.lost = time.Time{}
		p.greet = true
	} else {
		delete(p.sessions, id)
		if len(p.sessions) == 0 && p.lost.IsZero() {
			p.lost = now
		}
	}
	return m.finish()
}

// SetKeys says what keys are in force: at a new primary those that it makes or goes on
// with, later each change; before the machine has a role, those that were kept. k.ID
// is set by the machine for a primary. used is the number used last under each KEK.
func (m *Machine) SetKeys(k Keys, used map[SPI]uint32, now time.Time) (Output, error) {
	if len(k.Blob) > maxKeys || len(k.KEKs) > maxKEKs {
		return Output{}, fmt.Errorf("coop: keys of %d octets and %d KEKs", len(k.Blob), len(k.KEKs))
	}
	m.begin(now)
	if m.role == Primary {
		v := m.keys.ID
		if v.Maker != m.c.Self || v.Epoch != m.reign {
			m.ancestor(v)
			v = KeysID{m.c.Self, m.reign, 0}
		}
		v.Version++
		k.ID = v
	}
	m.epoch = max(m.epoch, k.ID.Epoch)
	m.keys = k
	for _, spi := range k.KEKs {
		n := m.numbers[spi]
		if n == nil {
			n = &numbering{spi: spi, holders: []netip.Addr{m.c.Self}, known: map[netip.Addr]uint32{}}
			m.numbers[spi] = n
		}
		n.use(m.c.Self, used[spi])
	}
	m.prune()
	m.urgent = true
	return m.finish(), nil
}

// Restore puts numbering in place that was kept over a restart with SetKeys' keys.
func (m *Machine) Restore(k []KEK) {
	for _, x := range k {
		if n := m.numbers[x.SPI]; n != nil && len(x.Holders) > 0 {
			n.holders = slices.Clone(x.Holders)
			n.known = map[netip.Addr]uint32{}
			n.last = max(n.last, x.Last)
			if n.void, n.lost = false, false; x.Void {
				n.lose() // whom it was left to isn't kept
			}
			if n.holders[0] != m.c.Self {
				n.base = x.Base
				continue
			}
			n.base = n.last
			for _, h := range n.holders[1:] {
				n.known[h] = x.Base
			}
		}
	}
}

// prune forgets numbering of KEKs that are gone, but not that it was there.
func (m *Machine) prune() {
	for spi := range m.numbers {
		if !slices.Contains(m.keys.KEKs, spi) {
			delete(m.numbers, spi)
			m.had = append(m.had, spi)
		}
	}
	m.had = m.had[max(0, len(m.had)-maxHad):]
}

// Used says that numbers up to seq were used under a KEK.
func (m *Machine) Used(spi SPI, seq uint32, now time.Time) Output {
	m.begin(now)
	if n := m.numbers[spi]; n != nil && seq > n.last {
		n.use(m.c.Self, seq)
		if l := n.lease(m.c.Self); l.Left() < ahead/2+1 {
			m.urgent = true
		} else {
			m.soon = true
		}
	}
	return m.finish()
}

// Lease is what may be used under a KEK now.
func (m *Machine) Lease(spi SPI) Lease {
	n := m.numbers[spi]
	if n == nil || m.role != Primary {
		return Lease{Ends: true}
	}
	if len(m.peers) == 0 && len(n.holders) == 1 && !n.void {
		return Lease{From: beyond(n.last, 1), To: math.MaxUint32, Ends: n.last == math.MaxUint32}
	}
	return n.lease(m.c.Self)
}

// Numbers is what to keep of them over a restart.
func (m *Machine) Numbers() (out []KEK) {
	for _, spi := range m.keys.KEKs {
		if n := m.numbers[spi]; n != nil {
			k := KEK{SPI: spi, Last: n.last, Base: n.base, Holders: slices.Clone(n.holders), Void: n.void}
			if n.holders[0] == m.c.Self { // what others may still go by
				for _, v := range n.known {
					k.Base = min(k.Base, v)
				}
			}
			out = append(out, k)
		}
	}
	return out
}

// SetPseudotime says what the group's pseudotime is, in milliseconds.
func (m *Machine) SetPseudotime(value uint64, running bool, now time.Time) Output {
	m.begin(now)
	m.pseudo = pseudo{running, value, now}
	return m.finish()
}

// PutMembers tells of members that registered here, or are gone from here.
func (m *Machine) PutMembers(rows []Member, now time.Time) Output {
	m.begin(now)
	for _, r := range rows {
		if len(r.Blob) > maxRow {
			continue
		}
		if _, known := m.best[r.Addr]; r.Gone && !known {
			continue
		}
		// What happens here is newer than all that is known, whatever clocks say; also a
		// removal.
		for _, t := range m.tables {
			if old := t.rows[r.Addr]; old != nil && t == m.own {
				r.Stamp = max(r.Stamp, old.Stamp)
			} else if old != nil {
				r.Stamp = max(r.Stamp, min(old.Stamp, math.MaxUint64-1)+1)
			}
		}
		if m.own.put(r) {
			m.judgeRow(m.own.id, r)
			m.soon = true
		}
	}
	return m.finish()
}

// Relay asks a peer to send a rekey to members that registered there.
func (m *Machine) Relay(to netip.Addr, datagram []byte, members []netip.Addr, now time.Time) Output {
	m.begin(now)
	if p := m.peers[to]; p != nil && len(datagram) <= math.MaxUint16 {
		room := max((m.c.MTU-len(datagram)-64)/17, 16)
		for len(members) > 0 {
			n := min(room, len(members))
			r := relay{datagram, members[:n]}
			m.send(p, kindRelay, 0, r.encode)
			members = members[n:]
		}
	}
	return m.finish()
}

// Acked passes acknowledgements on to the primary.
func (m *Machine) Acked(spi SPI, seq uint32, members []netip.Addr, now time.Time) Output {
	m.begin(now)
	if p := m.peers[m.primary]; p != nil {
		for len(members) > 0 {
			n := min((m.c.MTU-96)/17, len(members))
			a := acks{spi, seq, members[:n]}
			m.send(p, kindAcks, 0, a.encode)
			members = members[n:]
		}
	}
	return m.finish()
}

// ClearRole is "clear crypto gdoi ks coop role": a primary gives up its role and all
// elect; a secondary asks whether its primary is still there.
func (m *Machine) ClearRole(now time.Time) Output {
	m.begin(now)
	switch m.role {
	case Primary:
		m.yields = true
		m.elect(m.c.Self)
		m.yielded = true
	case Secondary:
		m.asked, m.ask = 0, now
	case Electing:
		m.elect(m.previous)
	}
	return m.finish()
}

// Leave says farewell: the group is given up here. The machine is over.
func (m *Machine) Leave(now time.Time) Output {
	m.begin(now)
	m.left = true
	for _, a := range m.order {
		m.announceTo(m.peers[a], leaving)
	}
	out := m.out
	m.out = Output{}
	return out
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) Output {
	m.begin(now)
	return m.finish()
}
