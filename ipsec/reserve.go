package ipsec

// Sequence numbers and IVs: where they come from and when they end. This file is the
// only place that makes an IV of a counter mode. Numbers are taken by a Sealer, in
// batches, with one atomic add each, and stay inside it, so that a caller can neither
// invent nor repeat one.

import (
	"fmt"
	"math"
	"sync/atomic"
)

// softNumerator/softDenominator is the share of the numbers that are left at the
// start whose use makes TakeNearEnd true.
const (
	softNumerator   = 9
	softDenominator = 10
)

// sendState is the sending half of an SA.
type sendState struct {
	next  atomic.Uint64 // last sequence number taken; goes beyond the limit when refused
	first uint64        // first number
	soft  uint64
	near  atomic.Uint32 // 0 → 1 reached → 2 told
	known map[uint32]*sidState
	bits  int
}

// sidState is the sub-counter (SSIV, RFC 6054 §3) of one Sender ID under this key.
type sidState struct {
	sid  uint32
	base uint64 // SID in the leftmost bits
	last uint64 // largest SSIV
	soft uint64
	next atomic.Uint64 // last SSIV taken
}

func (s *sendState) init(first uint32) {
	s.first = max(uint64(first), 1)
	s.next.Store(s.first - 1)
	s.soft = s.first + (math.MaxUint32-s.first)*softNumerator/softDenominator
	s.known = map[uint32]*sidState{}
}

// high is the last number assigned, 0 if none was.
func (s *sendState) high() uint64 {
	if n := s.next.Load(); n >= s.first {
		return min(n, math.MaxUint32)
	}
	return 0
}

// sidStates returns the states of the SIDs, made where they are new. The width of an
// SA's Sender IDs never changes: IVs of two widths could meet (RFC 6054 §3).
func (s *sendState) sidStates(bits int, sids []uint32) ([]*sidState, error) {
	if bits < 1 || bits > 32 || s.bits != 0 && s.bits != bits {
		return nil, fmt.Errorf("%w: width of %d bits", ErrSID, bits)
	}
	for _, sid := range sids {
		if uint64(sid)>>bits != 0 {
			return nil, fmt.Errorf("%w: %d in %d bits", ErrSID, sid, bits)
		}
	}
	s.bits = bits
	var out []*sidState
	for _, sid := range sids {
		st := s.known[sid]
		if st == nil {
			st = newSID(sid, bits)
			s.known[sid] = st
		}
		out = append(out, st)
	}
	return out, nil
}

func newSID(sid uint32, bits int) *sidState {
	last := uint64(1)<<(64-bits) - 1
	return &sidState{sid: sid, base: uint64(sid) << (64 - bits), last: last, soft: last / softDenominator * softNumerator}
}

// take adds n to a counter that may go up to last and returns the first of the
// granted numbers. The counter can't wrap: once it is at its end nobody adds to it but
// those who are in this function at that moment.
func take(c *atomic.Uint64, n int, last uint64) (first uint64, granted int) {
	if at := c.Load(); at >= last {
		return 0, 0 // used up: leave it, so that refusals can't push it round
	}
	high := c.Add(uint64(n))
	low := high - uint64(n)
	if low >= last {
		return 0, 0
	}
	return low + 1, int(min(uint64(n), last-low))
}

// numbers is what a Sealer holds of its reservation.
type numbers struct {
	seq  uint32 // next sequence number
	iv   uint64 // next IV of a counter mode
	left int
}

// reserve takes up to n numbers (1…65536).
func (sa *SA) reserve(n int) (numbers, DropReason) {
	n = max(1, min(n, 1<<16))
	t := sa.terms.Load()
	if t.direction == InboundOnly {
		return numbers{}, DropReceiveOnly
	}
	var r numbers
	if sa.tr.Counter() {
		if len(t.sids) == 0 {
			return numbers{}, DropNoSID
		}
		var ssiv uint64
		for i, s := range t.sids {
			if ssiv, r.left = take(&s.next, n, s.last); r.left > 0 {
				r.iv = s.base | ssiv
				if i == len(t.sids)-1 && ssiv+uint64(r.left)-1 >= s.soft {
					sa.send.near.CompareAndSwap(0, 1)
				}
				break
			}
		}
		if r.left == 0 {
			return numbers{}, DropSeqLimit
		}
		n = r.left
	}
	seq, granted := take(&sa.send.next, n, math.MaxUint32)
	if granted == 0 {
		return numbers{}, DropSeqLimit
	}
	if seq+uint64(granted)-1 >= sa.send.soft {
		sa.send.near.CompareAndSwap(0, 1)
	}
	r.seq, r.left = uint32(seq), granted
	return r, DropNone
}

// TakeNearEnd reports, once an SA, that nine tenths of the sequence numbers or of the
// last Sender ID's IVs are used: the group needs a new TEK, the member a new SID
// (RFC 4303 §3.3.3, RFC 6407 §3.5).
func (sa *SA) TakeNearEnd() bool { return sa.send.near.CompareAndSwap(1, 2) }

// Reserve takes numbers for n packets in one step, in place of any that are left of
// an earlier reservation, and returns how many were granted: fewer than n near the
// end of the number space, 0 with the reason if none. A number that isn't used is lost.
func (s *Sealer) Reserve(n int) (granted int, why DropReason) {
	s.num, why = s.sa.reserve(n)
	return s.num.left, why
}
