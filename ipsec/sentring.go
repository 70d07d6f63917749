package ipsec

// Memory of what was sealed: the front of the clear packet by (SPI, sequence number),
// for translating ICMP errors that quote the sealed one. A ring, so that it forgets
// by itself.

import "sync"

// sentHead is how many octets of a packet are remembered: the longest IPv4 header, or
// an IPv6 header with some extension headers, and 8 octets of transport.
const sentHead = 80

// SentRing remembers the newest packets. Safe for concurrent use.
type SentRing struct {
	slots []sentSlot
	mask  uint32
}

type sentSlot struct {
	mu       sync.Mutex
	spi, seq uint32
	n        uint8
	head     [sentHead]byte
}

// NewSentRing makes a ring for at least size packets (about 100 octets each).
func NewSentRing(size int) *SentRing {
	n := 1
	for n < size {
		n *= 2
	}
	return &SentRing{slots: make([]sentSlot, n), mask: uint32(n - 1)}
}

func (r *SentRing) slot(spi, seq uint32) *sentSlot {
	return &r.slots[(seq+spi*0x9e3779b1)&r.mask]
}

// Remember keeps the front of pkt, the clear packet that is sealed with that number.
// Sealer does it when it has a ring.
func (r *SentRing) Remember(spi, seq uint32, pkt []byte) {
	s := r.slot(spi, seq)
	s.mu.Lock()
	s.spi, s.seq, s.n = spi, seq, uint8(copy(s.head[:], pkt))
	s.mu.Unlock()
}

// recall copies what is remembered to dst and returns its length, 0 if nothing is.
func (r *SentRing) recall(dst *[sentHead]byte, spi, seq uint32) int {
	s := r.slot(spi, seq)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 || s.spi != spi || s.seq != seq {
		return 0
	}
	return copy(dst[:], s.head[:s.n])
}
