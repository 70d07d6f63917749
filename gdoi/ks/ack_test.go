package ks

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
)

// ackOf makes the acknowledgement of a rekey with the group's own key, as any member
// can.
func (l *life) ackOf(seq uint32, id netip.Addr) []byte {
	var b []byte
	l.g.do(func() {
		k := l.g.ring.kek
		b = k.sa().AckKey(k.ack).Seal(seq, isakmp.AddrID(id), k.spi)
	})
	return b
}

// What counts, what doesn't, and under which name.
func TestHostileAcknowledgements(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		a, b := l.join(t, 0), l.join(t, 1)
		a.mute.Store(true)
		b.mute.Store(true)
		l.g.Rekey(true, false)
		after(time.Second)
		stranger := netip.MustParseAddrPort("203.0.113.9:848")
		good := l.ackOf(1, a.addr.Addr())
		for _, c := range []struct {
			name   string
			d      []byte
			from   netip.AddrPort
			reason string // of those that don't count
		}{
			{"forged for another member", l.ackOf(1, b.addr.Addr()), a.addr, "ack-wrong-identity"},
			{"from another address", good, b.addr, "ack-wrong-identity"},
			{"from a stranger", good, stranger, "ack-unsolicited"},
			{"a stranger's own", l.ackOf(1, stranger.Addr()), stranger, "ack-unsolicited"},
			{"of a rekey to come", l.ackOf(2, a.addr.Addr()), a.addr, "ack-unsolicited"},
			{"of number 0", l.ackOf(0, a.addr.Addr()), a.addr, "ack-unsolicited"},
			{"a bit changed", flip(good), a.addr, "ack-bad-hash"},
			{"a rekey", pushOf(l), a.addr, "ack-malformed"},
			{"the genuine one", good, a.addr, ""},
			{"again", good, a.addr, "ack-duplicate"},
		} {
			before := l.group()
			l.air.acknowledge(c.d, c.from)
			after(200 * time.Millisecond)
			l.g.do(func() { l.g.note() })
			g := l.group()
			if c.reason == "" {
				if g.Members.At(0).AcksRcvd != 1 || g.Members.At(0).RcvdSeqs[0] != 1 {
					t.Errorf("%s didn't count: %+v", c.name, g.Members.At(0))
				}
				continue
			}
			if g.Counters.AcksRcvd != before.Counters.AcksRcvd || g.Rejected[c.reason] != before.Rejected[c.reason]+1 {
				t.Errorf("%s: %v, before %v", c.name, g.Rejected, before.Rejected)
			}
		}
		if g := l.group(); g.Members.At(1).AcksRcvd != 0 {
			t.Error("somebody acknowledged for another one")
		}
		if n := l.events()["KSUnsolicitedAck"]; n != 1 {
			t.Errorf("%d events for 4 in two seconds", n)
		}
		for range 100 {
			l.air.acknowledge(l.ackOf(9, a.addr.Addr()), a.addr)
			after(time.Second)
		}
		if n := l.events()["KSUnsolicitedAck"]; n < 8 || n > 12 {
			t.Errorf("%d events in 100 s, at most one in 10 s", n)
		}
	})
}

func flip(b []byte) []byte {
	c := bytes.Clone(b)
	c[40] ^= 1
	return c
}

func pushOf(l *life) []byte {
	var d []byte
	l.g.do(func() {
		k := l.g.ring.kek
		d, _ = k.sa().Seal(l.s.o.Rand, &gdoi.Push{Seq: 1, Delete: gdoi.Delete{AllTEKs: true}}, k.signer.Key)
	})
	return d
}

// A member behind a NAT names the address that it knows; it is reached at the one that
// we see.
func TestAcknowledgementBehindNAT(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		inside, outside := netip.MustParseAddr("192.168.1.7"), netip.MustParseAddrPort("203.0.113.5:31002")
		m := l.join(t, 0)
		l.g.do(func() {
			x := l.g.roster.find(gmAddr(0))
			l.g.roster.remove(func(*member) bool { return true })
			n := l.g.roster.join(outside.Addr(), inside, time.Now())
			n.path, n.local, n.holds = outside, x.local, x.holds
		})
		l.air.mu.Lock()
		l.air.members[outside] = []*fakeMember{m}
		l.air.mu.Unlock()
		m.mute.Store(true)
		l.g.Rekey(true, false)
		after(time.Second)
		if len(m.numbers()) != 1 {
			t.Fatal("not reached")
		}
		l.air.acknowledge(l.ackOf(1, inside), outside)
		after(time.Second)
		if g := l.group(); g.Members.At(0).AcksRcvd != 1 {
			t.Errorf("%+v", g.Members.At(0))
		}
	})
}

// Ten thousand acknowledgements at once change the model at most every 100 ms.
func TestAcknowledgementsArePublishedInCrowds(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		const n = 300
		for i := range n {
			l.join(t, i).mute.Store(true)
		}
		l.g.Rekey(true, false)
		after(5 * time.Second)
		start := l.store.Load().Generation
		for i := range n {
			l.air.acknowledge(l.ackOf(1, gmAddr(i)), l.gms[i].addr)
			time.Sleep(time.Millisecond)
		}
		after(time.Second)
		if g := l.group(); g.Counters.AcksRcvd != n {
			t.Errorf("%d counted", g.Counters.AcksRcvd)
		}
		// ackOf asks the actor, which publishes nothing by that.
		if gens := l.store.Load().Generation - start; gens > n/100+3 {
			t.Errorf("%d publications in %d ms", gens, n)
		}
	})
}

// FuzzAcknowledgement: whatever arrives, nothing is counted for anybody.
func FuzzAcknowledgement(f *testing.F) {
	key := (&gdoi.RekeySA{SPI: gdoi.KEKSPI{1}, Algorithm: gdoi.KEKAESCBC, Key: make([]byte, 16)}).AckKey(gdoi.AckKEKSHA256)
	f.Add(key.Seal(7, isakmp.AddrID(gmAddr(0)), gdoi.KEKSPI{1}))
	f.Fuzz(func(t *testing.T, d []byte) {
		b := newAckBook()
		s := &ackSlot{addr: gmAddr(0), alt: gmAddr(0)}
		s.sent.Store(stamp(1, 5))
		b.put(gmAddr(0), s)
		b.handler(1, key)(ike.Datagram{Data: d, Remote: netip.AddrPortFrom(gmAddr(0), 848)})
		if s.count.Load() != 0 {
			t.Fatal("counted")
		}
	})
}

// A crowd of goroutines acknowledges and repeats: each message counts once.
func TestAckSlotCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ackSlot{}
		s.sent.Store(stamp(2, 1))
		for range 8 {
			go func() {
				for i := range uint32(1000) {
					s.take(stamp(1, i))
				}
				s.take(stamp(2, 1))
				s.take(stamp(2, 2))
			}()
		}
		synctest.Wait()
		if n := s.count.Load(); n < 1 || n > 1001 || s.acked.Load() != stamp(2, 1) {
			t.Errorf("%d counted, last %x", n, s.acked.Load())
		}
	})
}

// Thousands of acknowledgements wake the actor once: until it looks, it knows.
func TestAcknowledgementsWakeTheActorOnce(t *testing.T) {
	b := newAckBook()
	sa := gdoi.RekeySA{SPI: gdoi.KEKSPI{1, 15: 1}, Key: bytes.Repeat([]byte{7}, 16)}
	key := sa.AckKey(gdoi.AckKEKSHA256)
	take := b.handler(1, key)
	answer := func(i int, seq uint32) {
		a := gmAddr(i)
		s := b.slot(a)
		if s == nil {
			s = &ackSlot{addr: a}
			b.put(a, s)
		}
		s.sent.Store(stamp(1, seq))
		take(ike.Datagram{Data: key.Seal(seq, isakmp.AddrID(a), sa.SPI), Remote: netip.AddrPortFrom(a, 848)})
	}
	for round := uint32(1); round <= 2; round++ {
		answer(0, round)
		select {
		case <-b.arrived:
		default:
			t.Fatalf("round %d: nobody is told", round)
		}
		for i := 1; i < 100; i++ {
			answer(i, round)
		}
		select {
		case <-b.arrived:
			t.Errorf("round %d: told again before it looked", round)
		default:
		}
		if n := b.drops[ackTaken].Load(); n != uint64(100*round) {
			t.Errorf("round %d: %d taken", round, n)
		}
		b.noted.Store(false) // as Group.acknowledged begins
	}
}
