package ike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/gdoi/isakmp"
)

// This file is an established ISAKMP SA: its path, its exchanges and message IDs, its
// end.

// SA is an established phase-1 SA. Use NewExchange to talk under it.
type SA struct {
	ep          *Endpoint
	id          uint32
	prot        protector
	policy      Policy // as negotiated; Lifetime is the shorter of both
	peer        Peer   // but for the path
	key         peerKey
	dpd         bool
	behindNAT   bool // we are
	established time.Time
	expires     time.Time
	done        chan struct{}

	mu        sync.Mutex
	path      path
	deleted   bool
	lastHeard time.Time
	lastSent  time.Time
	exchanges map[uint32]*Exchange
	used      map[uint32]struct{} // message IDs, whoever chose them
	timers    []*time.Timer
	phase1    *session // for copies of phase 1's last message; nil after a while
	probe     dpdState
	dialed    netip.AddrPort // what Connect was asked for
	greeting  bool           // INITIAL-CONTACT is due
	confirmed bool           // the peer has the SA too
	informed  countedMIDs    // of our messages to a key server
	informing *informing     // its messages to us; nil before the first
	watched   atomic.Bool    // periodic DPD is on
}

// maxMIDs is how many message IDs one SA may use before it must be replaced.
const maxMIDs = 1 << 16

// candidates is how many plausible answers can wait for RoundTrip.
const candidates = 64

var errMIDs = errors.New("SA has used up its message IDs")

// ID is the connection number, as show crypto isakmp sa prints it.
func (s *SA) ID() uint32 { return s.id }

// Alive tells whether the SA can still be used.
func (s *SA) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.deleted
}

// Done is closed when the SA ends: expiry, delete, a dead peer, the endpoint's close.
func (s *SA) Done() <-chan struct{} { return s.done }

// Expires is the end of the SA's lifetime.
func (s *SA) Expires() time.Time { return s.expires }

// Cookies are the pair that names the SA on the wire.
func (s *SA) Cookies() (initiator, responder isakmp.Cookie) { return s.prot.ci, s.prot.cr }

// Peer tells who is at the other end, and over which addresses at the moment.
func (s *SA) Peer() Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer
	p.Remote, p.Local = s.path.remote, s.path.local
	return p
}

// Close deletes the SA and tells the peer so.
func (s *SA) Close() { s.ep.removeSA(s, true, "closed") }

// NewExchange starts an exchange with a fresh random M-ID. On a dead SA, or when random
// numbers fail, the exchange that is returned fails in RoundTrip.
func (s *SA) NewExchange(t isakmp.ExchangeType) *Exchange {
	mid, err := s.newMID()
	x := &Exchange{sa: s, typ: t, mid: mid, ours: true, in: make(chan []byte, candidates)}
	if err != nil {
		s.ep.removeSA(s, true, err.Error())
	}
	x.iv = s.prot.iv(mid)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges[mid] = x
	return x
}

// newMID draws an unused non-zero message ID and marks it used.
func (s *SA) newMID() (uint32, error) {
	for range 64 {
		var b [4]byte
		if _, err := io.ReadFull(s.ep.rand, b[:]); err != nil {
			return 0, fmt.Errorf("random numbers: %w", err)
		}
		mid := binary.BigEndian.Uint32(b[:])
		s.mu.Lock()
		_, dup := s.used[mid]
		dup = dup || s.informed.has(mid)
		full := len(s.used) >= maxMIDs
		if mid != 0 && !dup && !full {
			s.used[mid] = struct{}{}
			s.mu.Unlock()
			return mid, nil
		}
		s.mu.Unlock()
		if full {
			break
		}
	}
	return 0, errMIDs
}

// useMID marks a peer's message ID used; false if it was.
func (s *SA) useMID(mid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, dup := s.used[mid]; dup || len(s.used) >= maxMIDs || s.informed.has(mid) {
		return false
	}
	s.used[mid] = struct{}{}
	return true
}

func (s *SA) forget(x *Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exchanges[x.mid] == x {
		delete(s.exchanges, x.mid)
	}
}

// heard notes that something authentic came from the peer.
func (s *SA) heard() {
	now := time.Now()
	s.mu.Lock()
	s.lastHeard = now
	s.probe.reset()
	first := !s.confirmed
	s.confirmed = true
	s.mu.Unlock()
	if first {
		s.ep.peers.confirmed(s)
	}
}

// known tells whether the peer has the SA too: it used it, or was the first to have it.
func (s *SA) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.confirmed
}

// send sends a datagram to the peer over the current path.
func (s *SA) send(datagram []byte) error {
	s.mu.Lock()
	p := s.path
	s.lastSent = time.Now()
	dead := s.deleted
	s.mu.Unlock()
	if dead {
		return Closed
	}
	return s.ep.transmit(p, datagram)
}
