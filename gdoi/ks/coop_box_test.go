package ks

import "testing"

// What waits for the actor is bounded in number and in octets; that an SA has come or gone
// is never lost.
func TestMailboxOfPeersIsBounded(t *testing.T) {
	for _, size := range []int{1, 1200, 65000} {
		b := newPeerBox()
		for range 2 * peerMailbox {
			b.put(peerMail{data: make([]byte, size)})
		}
		b.put(peerMail{up: true})
		var q []peerMail
		for more := b.take(); len(more) > 0; more = b.take() {
			if q = append(q, more...); len(more) > turn {
				t.Errorf("%d messages at once", len(more))
			}
		}
		octets := 0
		for _, m := range q {
			octets += len(m.data)
		}
		if len(q) > peerMailbox+1 || octets > peerOctets || !q[len(q)-1].up || int(b.lost.Load()) != 2*peerMailbox-len(q)+1 {
			t.Errorf("messages of %d octets: %d wait, %d octets; %d were lost", size, len(q), octets, b.lost.Load())
		}
		b.put(peerMail{data: make([]byte, size)})
		if q := b.take(); len(q) != 1 {
			t.Errorf("%d wait after all were taken", len(q))
		}
	}
}
