package ks

// Acknowledgements of rekeys (RFC 8263). They are verified on the endpoint's goroutine
// against keys that don't change and are noted in a slot of the member, so that ten
// thousand of them don't pass through the group's mailbox; the actor looks at the
// slots when it needs to. Every member that has the KEK can make anybody's
// acknowledgement (§7.1): one counts only from the address of the member it names.

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/model/event"
)

// stamp orders messages of a group: by KEK, then by number.
func stamp(ord, seq uint32) uint64 { return uint64(ord)<<32 | uint64(seq) }

// ackSlot is what a member acknowledged. addr and alt never change.
type ackSlot struct {
	addr, alt netip.Addr
	sent      atomic.Uint64 // stamp of the last message to it
	acked     atomic.Uint64 // stamp of the last one that it acknowledged
	count     atomic.Uint64 // each message once
}

// renamed is the slot of a member that calls itself by another address now.
func (s *ackSlot) renamed(alt netip.Addr) *ackSlot {
	n := &ackSlot{addr: s.addr, alt: alt}
	n.sent.Store(s.sent.Load())
	n.acked.Store(s.acked.Load())
	n.count.Store(s.count.Load())
	return n
}

// take counts the acknowledgement of st once; it says what was wrong with it.
func (s *ackSlot) take(st uint64) ackDrop {
	if st > s.sent.Load() || st>>32 == 0 || uint32(st) == 0 {
		return ackUnsolicited
	}
	for {
		old := s.acked.Load()
		if st <= old {
			return ackDuplicate
		}
		if s.acked.CompareAndSwap(old, st) {
			s.count.Add(1)
			return ackTaken
		}
	}
}

// ackDrop is why an acknowledgement didn't count.
type ackDrop uint8

const (
	ackTaken  ackDrop = iota
	ackPassed         // to the primary
	ackDuplicate
	ackUnsolicited // nothing was sent to the member, or it is none any more
	ackOtherID     // names somebody else
	ackBadHash
	ackMalformed
	ackNotPassed // too many wait for the primary
	ackDrops
)

func (d ackDrop) String() string {
	return [...]string{"taken", "passed", "ack-duplicate", "ack-unsolicited", "ack-wrong-identity", "ack-bad-hash", "ack-malformed", "ack-not-passed"}[d]
}

// ackBook is a group's slots and counters, shared with the endpoint's goroutines.
type ackBook struct {
	mu     sync.RWMutex
	slots  map[netip.Addr]*ackSlot
	passed []passedAck // for the primary, at a secondary

	passing atomic.Bool // acknowledgements are another key server's
	drops   [ackDrops]atomic.Uint64
	stray   atomic.Pointer[netip.Addr] // whose acknowledgement nobody asked for, last
	noted   atomic.Bool                // something was, since the actor began to look last
	arrived chan struct{}              // tells the actor so, once
}

func newAckBook() *ackBook {
	return &ackBook{slots: map[netip.Addr]*ackSlot{}, arrived: make(chan struct{}, 1)}
}

func (b *ackBook) put(a netip.Addr, s *ackSlot) {
	b.mu.Lock()
	b.slots[a] = s
	b.mu.Unlock()
}

func (b *ackBook) drop(a netip.Addr) {
	b.mu.Lock()
	delete(b.slots, a)
	b.mu.Unlock()
}

// dropOf drops the slot of a member that may be back with another one.
func (b *ackBook) dropOf(a netip.Addr, s *ackSlot) {
	b.mu.Lock()
	if b.slots[a] == s {
		delete(b.slots, a)
	}
	b.mu.Unlock()
}

func (b *ackBook) slot(a netip.Addr) *ackSlot {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.slots[a]
}

// handler takes the datagrams of one KEK's cookie pair. It never blocks.
func (b *ackBook) handler(ord uint32, key gdoi.AckKey) func(ike.Datagram) {
	return func(d ike.Datagram) {
		r := b.judge(ord, key, d)
		b.drops[r].Add(1)
		switch r {
		case ackUnsolicited:
			a := d.Remote.Addr().Unmap()
			b.stray.Store(&a)
		case ackTaken, ackPassed:
		default:
			return // counted; shown with the next change
		}
		b.wake()
	}
}

// wake tells the actor that something was noted.
func (b *ackBook) wake() {
	if b.noted.Load() || b.noted.Swap(true) {
		return // the actor knows, and hasn't looked yet
	}
	select {
	case b.arrived <- struct{}{}:
	default:
	}
}

func (b *ackBook) judge(ord uint32, key gdoi.AckKey, d ike.Datagram) ackDrop {
	seq, id, err := key.Open(d.Data)
	if err != nil {
		var e *gdoi.Error
		if errors.As(err, &e) && e.Reason == gdoi.BadHash {
			return ackBadHash
		}
		return ackMalformed
	}
	s := b.slot(d.Remote.Addr().Unmap())
	if s == nil {
		return ackUnsolicited
	}
	if a, ok := idAddr(id); !ok || a != s.addr && a != s.alt {
		return ackOtherID
	}
	if b.passing.Load() {
		return b.pass(s, stamp(ord, seq))
	}
	return s.take(stamp(ord, seq))
}

// idAddr is the address of an identity that is one.
func idAddr(id isakmp.ID) (netip.Addr, bool) {
	if id.Type != isakmp.IDIPv4 && id.Type != isakmp.IDIPv6 {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(id.Data)
	return a.Unmap(), ok
}

// counts adds what didn't count to a tally, by reason.
func (b *ackBook) counts(to map[string]uint64) {
	for d := ackDuplicate; d < ackDrops; d++ {
		if n := b.drops[d].Load(); n > 0 {
			to[d.String()] = n
		}
	}
}

const (
	// ackPublish is the least time between two publications for acknowledgements.
	ackPublish = 100 * time.Millisecond
	// strayStep is the least time between two events of unsolicited ones.
	strayStep = 10 * time.Second
	// ackWait is the least time before a missing acknowledgement counts (RFC 8263 §5).
	ackWait = 10 * time.Second
)

// acknowledged looks at the slots.
func (g *Group) acknowledged(now time.Time) {
	g.folds = time.Time{}
	g.folded = now
	g.book.noted.Store(false) // before it looks: what is noted meanwhile wakes it again
	g.passAcks(now)
	end := g.ring.lastKey()
	if g.roster.fold(func(m *member) { g.roster.lives(m, end) }) {
		g.note()
		if g.round != nil {
			g.round.count()
		}
	}
	if a := g.book.stray.Swap(nil); a != nil {
		if now.Sub(g.strayed) >= strayStep {
			g.strayed = now
			g.note(event.KSUnsolicitedAck{GM: *a, Group: g.Name()})
		}
	}
}
