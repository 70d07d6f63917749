package dataplane

// Counters without contention: each worker has its own set, which it alone writes;
// readers add them up.

import (
	"sync/atomic"

	"getvpn/ipsec"
)

// counters of one worker. The padding keeps two workers' sets off one cache line.
type counters struct {
	drops      [ipsec.NumDropReasons]atomic.Uint64
	packets    atomic.Uint64 // sealed or opened, inner packets
	octets     atomic.Uint64
	frames     atomic.Uint64 // handed to the kernel: frames sent, or writes to the TAP
	fragments  atomic.Uint64 // fragments sent, or datagrams reassembled
	tooBigSent atomic.Uint64 // ICMP answers
	rewritten  atomic.Uint64 // ICMP errors about our ESP
	_          [64]byte
}

func (c *counters) drop(r ipsec.DropReason, n int) {
	if n > 0 {
		c.drops[r].Add(uint64(n))
	}
}

// totals is a sum of counters, as values.
type totals struct {
	drops                                                         [ipsec.NumDropReasons]uint64
	packets, octets, frames, fragments, tooBigSent, icmpRewritten uint64
}

func (t *totals) add(c *counters) {
	for i := range c.drops {
		t.drops[i] += c.drops[i].Load()
	}
	t.packets += c.packets.Load()
	t.octets += c.octets.Load()
	t.frames += c.frames.Load()
	t.fragments += c.fragments.Load()
	t.tooBigSent += c.tooBigSent.Load()
	t.icmpRewritten += c.rewritten.Load()
}
