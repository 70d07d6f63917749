package ipsec

// The replay window against an obvious model, and what keys it.

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// slowWindow remembers everything.
type slowWindow struct {
	seen map[uint32]bool
	top  uint32
}

func (w *slowWindow) accept(seq uint32, size int) bool {
	if seq == 0 || w.seen[seq] || uint64(seq)+uint64(size) <= uint64(w.top) {
		return false
	}
	w.seen[seq] = true
	w.top = max(w.top, seq)
	return true
}

func TestWindowModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.SampledFrom([]int{64, 128, 256, 512, 1024}), rapid.IntRange(64, 1024)).Draw(rt, "size")
		w, m := &window{}, &slowWindow{seen: map[uint32]bool{}}
		at := rapid.SampledFrom([]uint32{0, 1, 63, 64, 5000, 0xfffffff0 - 5000, 0xffffff00}).Draw(rt, "start")
		for range rapid.IntRange(1, 300).Draw(rt, "packets") {
			var seq uint32
			switch rapid.IntRange(0, 5).Draw(rt, "kind") {
			case 0, 1:
				at++
				seq = at
			case 2: // late or copied
				seq = m.top - uint32(rapid.IntRange(0, size+70).Draw(rt, "behind"))
			case 3: // at the window's edge
				seq = m.top - uint32(size) + uint32(rapid.IntRange(0, 2).Draw(rt, "edge"))
			case 4: // jump
				at += uint32(rapid.IntRange(1, 3*size).Draw(rt, "jump"))
				seq = at
			case 5:
				seq = rapid.Uint32().Draw(rt, "any")
				if rapid.IntRange(0, 9).Draw(rt, "rarely") > 0 {
					seq = m.top
				}
			}
			look := w.check(seq, size)
			got, want := w.commit(seq, size), m.accept(seq, size)
			if got != want || look != want {
				rt.Fatalf("window %d, top %d, number %d: check %v, commit %v, model %v", size, m.top, seq, look, got, want)
			}
		}
	})
}

// TestWindowResize: a policy with another window never accepts a copy.
func TestWindowResize(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, seen := &window{}, map[uint32]bool{}
		at := uint32(1)
		for range 400 {
			size := rapid.SampledFrom([]int{64, 256, 1024}).Draw(rt, "size")
			at += uint32(rapid.IntRange(0, 100).Draw(rt, "step"))
			seq := at - min(at, uint32(rapid.IntRange(0, 1100).Draw(rt, "back")))
			if w.commit(seq, size) {
				if seen[seq] {
					rt.Fatalf("%d accepted twice", seq)
				}
				seen[seq] = true
			}
		}
	})
}

// TestEverySenderHasItsWindow: two members with the same numbers don't hurt each other.
func TestEverySenderHasItsWindow(t *testing.T) {
	for _, tr := range []Transform{
		{Cipher: CipherAESGCM, KeyBits: 128}, {Cipher: CipherAESGMAC, KeyBits: 128},
		{Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA256}, {Cipher: CipherNull, Auth: AuthSHA1},
	} {
		for _, f := range []Family{IPv4, IPv6} {
			rx := mustSA(t, testTEK(tr, 1))
			o := mustOpener(t, rx)
			var packets [][]byte
			for sender := range byte(3) {
				tek := testTEK(tr, 1)
				if tr.Counter() {
					tek.SIDs = []uint32{uint32(sender)}
				}
				s := mustSealer(t, mustSA(t, tek))
				for range 5 {
					p := ip4(100)
					if f == IPv6 {
						p = ip6(100)
					}
					if !tr.Counter() { // known by address
						if f == IPv6 {
							p[23] = sender
						} else {
							p[15] = sender
						}
					}
					packets = append(packets, sealOne(t, s, p))
				}
			}
			for i := range packets { // first, sixth, eleventh, second, …
				p := packets[i%3*5+i/3]
				if _, why := o.Open(bytes.Clone(p)); why != DropNone {
					t.Fatalf("%v: packet %d: %v", tr, i, why)
				}
			}
			for _, p := range packets {
				if _, why := o.Open(bytes.Clone(p)); why != DropReplay {
					t.Fatalf("%v: copy: %v", tr, why)
				}
			}
			senders := 0
			for s := range rx.Senders {
				senders++
				if s.Top != 5 || s.Drops != 5 || s.MaxLate != 4 || s.BySID != tr.Counter() || !s.BySID && s.IPv6 != (f == IPv6) {
					t.Errorf("%v: %+v", tr, s)
				}
			}
			if c := rx.Counters(); senders != 3 || c.ReplayDrops != 15 || c.DecapPackets != 15 {
				t.Errorf("%v: %d senders, %+v", tr, senders, c)
			}
		}
	}
}

// TestForgeriesMakeNoState: only an authentic packet makes a window.
func TestForgeriesMakeNoState(t *testing.T) {
	sa := mustSA(t, testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1))
	s, o := mustSealer(t, sa), mustOpener(t, sa)
	p := sealOne(t, s, ip4(100))
	for i := range 100 {
		b := bytes.Clone(p)
		b[28+i%3] ^= byte(i + 1) // Sender ID
		b[24] = 0xff             // a number far ahead
		if _, why := o.Open(b); why != DropICV {
			t.Fatal(why)
		}
	}
	if len(sa.recv.m) != 0 {
		t.Errorf("%d windows", len(sa.recv.m))
	}
	if _, why := o.Open(p); why != DropNone {
		t.Errorf("genuine: %v", why)
	}
}

func TestSenderLimit(t *testing.T) {
	sa := mustSA(t, testTEK(Transform{Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA1}, 1))
	for i := range MaxSenders - 1 {
		sa.recv.m[senderKey{kind: 1, lo: uint64(i)}] = nil
	}
	s, o := mustSealer(t, sa), mustOpener(t, sa)
	if _, why := o.Open(sealOne(t, s, ip4(100))); why != DropNone {
		t.Errorf("last free one: %v", why)
	}
	p := ip4(100)
	p[15] = 99
	if _, why := o.Open(sealOne(t, s, p)); why != DropSenderLimit {
		t.Errorf("one too many: %v", why)
	}
	if _, why := o.Open(sealOne(t, s, ip4(100))); why != DropNone {
		t.Errorf("known one: %v", why)
	}
	if sa.Counters().OtherDrops != 1 {
		t.Error("not counted")
	}
}

// TestOpenersRace: the same packets through several queues are accepted once.
func TestOpenersRace(t *testing.T) {
	sa := mustSA(t, testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1))
	s := mustSealer(t, sa)
	var packets [][]byte
	for range 60 {
		packets = append(packets, sealOne(t, s, ip4(100)))
	}
	var opened atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		o := mustOpener(t, sa)
		wg.Go(func() {
			for _, p := range packets {
				if _, why := o.Open(bytes.Clone(p)); why == DropNone {
					opened.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if opened.Load() != 60 || sa.Counters().ReplayDrops != 180 {
		t.Errorf("%d opened, %+v", opened.Load(), sa.Counters())
	}
}
