package dataplane

// ESP packets that the core fragmented: kept until whole, then opened like any other.

import (
	"time"

	"getvpn/ipsec"
)

// fragment keeps a fragment of an ESP packet, and opens the packet when it is whole.
func (w *inWorker) fragment(eth, ip []byte) {
	whole, why := w.frags.Add(ip, time.Now())
	if why == ipsec.DropMalformed {
		w.c.drop(why, 1)
	}
	w.givenUp()
	if whole == nil {
		return
	}
	w.c.fragments.Add(1)
	w.packet(eth, whole)
}

// givenUp counts the datagrams that reassembly gave up.
func (w *inWorker) givenUp() {
	c := &w.frags.Counters
	n := c.Timeout + c.Overlap + c.Memory + c.TooLong + c.Malformed + c.TooMany
	w.c.drop(ipsec.DropReassembly, int(n-w.lostFrags))
	w.lostFrags = n
}
