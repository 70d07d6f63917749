package gdoi

// A small memory of datagrams that were handled, so that copies of a rekey or of an
// acknowledgement cost no decryption (RFC 6407 §7.3.5, RFC 8263 §5).

import "hash/maphash"

// copiesKept is how many datagrams a Copies remembers: a rekey's retransmissions and
// loops of the network, with room.
const copiesKept = 64

// Copies remembers the datagrams that were handled last. Its hash is keyed at random,
// so nobody can make a message that looks like another one. One goroutine at a time;
// the zero value is ready.
//
// Add only what was accepted, or was authentic and refused for good: what is refused
// for a passing reason must be looked at again when it comes again.
type Copies struct {
	seed maphash.Seed
	used int // 0: no seed yet
	sums [copiesKept]uint64
}

// Seen reports whether the datagram was added before.
func (c *Copies) Seen(datagram []byte) bool {
	if c.used == 0 {
		return false
	}
	sum := maphash.Bytes(c.seed, datagram)
	for _, s := range c.sums[:min(c.used, copiesKept)] {
		if s == sum {
			return true
		}
	}
	return false
}

// Add remembers a datagram in place of the oldest one.
func (c *Copies) Add(datagram []byte) {
	if c.used == 0 {
		c.seed = maphash.MakeSeed()
	}
	c.sums[c.used%copiesKept] = maphash.Bytes(c.seed, datagram)
	if c.used++; c.used == 2*copiesKept {
		c.used = copiesKept
	}
}
