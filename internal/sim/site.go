package sim

// A site: hosts behind a member, and the policy in its kernel, which stands when the
// daemon doesn't.

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"getvpn/internal/clock"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
)

// Site is one member's place in the network.
type Site struct {
	Name string
	Host netip.Addr // the first of its hosts

	core  *Core
	conn  *memnet.Conn
	clock clock.Clock
	heard func(s *Site, ip []byte, sealed bool)

	mu       sync.Mutex
	out, in  ipsec.Ruleset // in the kernel; the zero value passes everything
	plane    *Plane        // nil: no daemon
	drops    map[ipsec.DropReason]int
	notes    []string
	last     map[int]uint32 // SPI that a flow was sealed with last
	switches map[int]int    // by flow
	most     int            // SAs that lived at once
	buf      [ipsec.Headroom + 2048 + ipsec.Tailroom]byte
}

// notesKept bounds the incidents that are described one by one.
const notesKept = 20

// Fate is what became of a packet at its sender.
type Fate struct {
	Drop ipsec.DropReason // DropNone: it left
	SPI  uint32           // it was sealed with; 0: in clear
}

// Send takes a clear packet from a host and sends it as policy says. flow names the
// flow that it belongs to.
func (s *Site) Send(ip []byte, flow int) Fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, _, why := ipsec.ParseFlow(ip)
	if why != ipsec.DropNone {
		return s.drop("out", why, 0)
	}
	v, i := s.out.Match(&f)
	switch v {
	case ipsec.Pass:
		s.transmit(ip)
		return Fate{}
	case ipsec.Protect:
		if s.plane == nil || !s.plane.ready {
			return s.drop("out", ipsec.DropTapFull, 0) // a TAP that nobody reads
		}
		n := copy(s.buf[ipsec.Headroom:], ip)
		b, spi, why := s.plane.seal(s.buf[:], n, &s.out.Rules[i])
		if why != ipsec.DropNone {
			return s.drop("out", why, spi)
		}
		if was := s.last[flow]; was != spi {
			if s.last[flow] = spi; was != 0 {
				s.switches[flow]++
			}
		}
		s.transmit(b)
		return Fate{SPI: spi}
	}
	why = s.out.DefaultReason
	if i >= 0 {
		why = s.out.Rules[i].Reason
	}
	return s.drop("out", why, 0)
}

// Spend uses up n sequence numbers of the SA that the group's first permit is sent with,
// as n packets would, and returns how many there were.
func (s *Site) Spend(group string, n int) (granted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plane == nil {
		return 0
	}
	return s.plane.spend(group, n)
}

// transmit puts an IP packet on the wire.
func (s *Site) transmit(ip []byte) {
	f, _, _ := ipsec.ParseFlow(ip)
	s.core.net.Send(netip.AddrPortFrom(f.Src, corePort), netip.AddrPortFrom(f.Dst, corePort), ip)
}

// drop counts a packet that goes no further. The caller holds the lock.
func (s *Site) drop(way string, why ipsec.DropReason, spi uint32) Fate {
	s.drops[why]++
	if len(s.notes) < notesKept {
		s.notes = append(s.notes, fmt.Sprintf("%s %s %s: %v, SPI %#x", time.Now().Format("15:04:05.000"), s.Name, way, why, spi))
	}
	return Fate{Drop: why, SPI: spi}
}

// receive takes packets from the wire until the network ends.
func (s *Site) receive() {
	b := make([]byte, 65536)
	for {
		d, err := s.conn.Receive(b)
		if err != nil {
			return
		}
		if ip, sealed, ok := s.judge(d.Data); ok && s.heard != nil {
			s.heard(s, ip, sealed)
		}
	}
}

// judge says whether hosts get a packet, and what they get.
func (s *Site) judge(ip []byte) (inner []byte, sealed, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, why := ipsec.LocateESP(ip)
	if why == ipsec.DropNone {
		why = ipsec.DropUnknownSPI
		if s.plane != nil {
			inner, why = s.plane.open(ip, &e)
		}
		if why != ipsec.DropNone {
			s.drop("in", why, e.SPI)
			return nil, true, false
		}
		return inner, true, true
	}
	f, _, why := ipsec.ParseFlow(ip)
	if why == ipsec.DropNone {
		v, i := s.in.Match(&f)
		switch {
		case v == ipsec.Pass:
			return ip, false, true
		case i >= 0:
			why = s.in.Rules[i].Reason
		default:
			why = s.in.DefaultReason
		}
	}
	s.drop("in", why, 0)
	return nil, false, false
}

// Drops counts packets that went no further here, by reason.
func (s *Site) Drops() map[ipsec.DropReason]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[ipsec.DropReason]int{}
	for r, n := range s.drops {
		m[r] = n
	}
	return m
}

// Switches is how often a flow has changed the SA that it is sealed with.
func (s *Site) Switches(flow int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches[flow]
}

// LiveSAs is the most SAs that were installed at once.
func (s *Site) LiveSAs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Policy is what the daemon installed for a group; false: nothing.
func (s *Site) Policy(group string) (ipsec.GroupPolicy, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plane == nil {
		return ipsec.GroupPolicy{}, false
	}
	for _, g := range s.plane.groups {
		if g.Group == group {
			return g, true
		}
	}
	return ipsec.GroupPolicy{}, false
}
