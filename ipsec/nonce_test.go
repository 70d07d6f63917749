package ipsec

// The safety property: no (key, IV) of a counter mode is used twice, over any sequence
// of install, merge, registration with another Sender ID, restart, and concurrent
// sending. Judged by the IVs of sealed packets.

import (
	"encoding/binary"
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ledger collects the (key, IV) pairs that reached the wire.
type ledger struct {
	mu   sync.Mutex
	seen map[[2]uint64]bool
}

func (l *ledger) add(t *rapid.T, key byte, iv uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[[2]uint64{uint64(key), iv}] {
		t.Fatalf("key %d: IV %016x used twice", key, iv)
	}
	l.seen[[2]uint64{uint64(key), iv}] = true
}

func TestNonceNeverRepeats(t *testing.T) {
	gcm := Transform{Cipher: CipherAESGCM, KeyBits: 128}
	pkt := ip4(40)
	rapid.Check(t, func(rt *rapid.T) {
		led := &ledger{seen: map[[2]uint64]bool{}}
		bits := rapid.SampledFrom([]int{8, 12, 16, 24, 32}).Draw(rt, "bits")
		nextSID := uint32(rapid.IntRange(0, 3).Draw(rt, "first SID"))
		db := &SADB{}
		sids := []uint32{nextSID}
		type sending struct {
			key byte
			sa  *SA
			s   []*Sealer
		}
		var live []*sending
		now := t0
		install := func(key byte, sids []uint32, bits int) {
			tek := testTEK(gcm, key)
			tek.Expires = t0.Add(24 * time.Hour)
			tek.SIDBits, tek.SIDs = bits, sids
			tek.FirstSeq = rapid.Uint32Range(0, math.MaxUint32).Draw(rt, "first seq")
			sa, err := db.Install(tek, now)
			if err != nil {
				rt.Fatal(err)
			}
			for _, l := range live {
				if l.sa == sa {
					return
				}
			}
			l := &sending{key: key, sa: sa}
			for range 2 {
				s, err := sa.NewSealer(nil)
				if err != nil {
					rt.Fatal(err)
				}
				l.s = append(l.s, s)
			}
			live = append(live, l)
		}
		send := func(key byte, s *Sealer, n int) {
			buf := roomFor(pkt)
			for range n {
				copy(buf[Headroom:], pkt)
				start, _, why := s.Seal(buf, Headroom, len(pkt))
				if why == DropSeqLimit || why == DropNoSID {
					return
				}
				if why != DropNone {
					t.Errorf("seal: %v", why)
					return
				}
				led.add(rt, key, binary.BigEndian.Uint64(buf[start+28:]))
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"install or merge": func(*rapid.T) { install(byte(rapid.IntRange(1, 3).Draw(rt, "key")), sids, bits) },
			"rekey without SID": func(*rapid.T) {
				install(byte(rapid.IntRange(1, 3).Draw(rt, "key")), nil, bits)
			},
			"another registration": func(*rapid.T) {
				if nextSID+1>>bits == 0 {
					nextSID++
					sids = []uint32{nextSID}
					if rapid.Bool().Draw(rt, "keeps the old one too") && nextSID > 0 {
						sids = append(sids, nextSID-1)
					}
					for _, l := range live {
						install(l.key, sids, bits)
					}
				}
			},
			"restart": func(*rapid.T) { // a new process: new objects, so a new Sender ID
				db, live = &SADB{}, nil
				nextSID++
				sids = []uint32{nextSID}
				if nextSID>>bits != 0 {
					rt.Skip("no Sender ID left")
				}
			},
			"send": func(*rapid.T) {
				if len(live) == 0 {
					return
				}
				l := live[rapid.IntRange(0, len(live)-1).Draw(rt, "SA")]
				s := l.s[rapid.IntRange(0, 1).Draw(rt, "queue")]
				if rapid.Bool().Draw(rt, "batch") {
					s.Reserve(rapid.IntRange(1, 50).Draw(rt, "n"))
				}
				send(l.key, s, rapid.IntRange(1, 20).Draw(rt, "packets"))
			},
			"near the end of IVs": func(*rapid.T) {
				for _, l := range live {
					l.sa.mu.Lock()
					for _, s := range l.sa.send.known {
						if s.next.Load() < s.last-10 {
							s.next.Store(s.last - 10)
						}
					}
					l.sa.mu.Unlock()
				}
			},
			"send at once": func(*rapid.T) {
				var wg sync.WaitGroup
				for _, l := range live {
					for _, s := range l.s {
						wg.Go(func() { s.Reserve(7); send(l.key, s, 16) })
					}
				}
				if rapid.Bool().Draw(rt, "merge meanwhile") {
					for _, l := range live {
						install(l.key, sids, bits)
					}
				}
				wg.Wait()
			},
		})
	})
}

// TestIVForm checks the IV against RFC 6054 §3: SID leftmost, then a count from 1
// that doesn't follow the sequence number.
func TestIVForm(t *testing.T) {
	tek := testTEK(Transform{Cipher: CipherAESGMAC, KeyBits: 128}, 1)
	tek.FirstSeq = 5000
	for bits, sid := range map[int]uint32{8: 0xab, 12: 0xabc, 16: 0xabcd, 24: 0xabcdef, 32: 0xabcdef01} {
		tek.SIDBits, tek.SIDs = bits, []uint32{sid}
		sa := mustSA(t, tek)
		s := mustSealer(t, sa)
		for i := uint64(1); i <= 3; i++ {
			p := sealOne(t, s, ip4(40))
			if iv := binary.BigEndian.Uint64(p[28:]); iv>>(64-bits) != uint64(sid) || iv<<bits>>bits != i {
				t.Errorf("%d bits: IV %016x", bits, iv)
			}
			if seq := binary.BigEndian.Uint32(p[24:]); seq != 4999+uint32(i) || s.LastSeq() != seq {
				t.Errorf("sequence number %d", seq)
			}
		}
		// Another registration: the sequence goes on, the sub-counter starts anew;
		// with the same Sender ID it doesn't.
		for _, again := range []struct {
			sid  uint32
			want uint64
		}{{sid, 4}, {sid ^ 1, 1}, {sid, 5}, {sid ^ 1, 2}} {
			tek.SIDs = []uint32{again.sid}
			if err := sa.Merge(tek, t0); err != nil {
				t.Fatal(err)
			}
			p := sealOne(t, s, ip4(40))
			if iv := binary.BigEndian.Uint64(p[28:]); iv>>(64-bits) != uint64(again.sid) || iv<<bits>>bits != again.want {
				t.Errorf("%d bits, again with %x: IV %016x", bits, again.sid, iv)
			}
		}
		tek.SIDBits = bits%32 + 1
		tek.SIDs = []uint32{1}
		if err := sa.Merge(tek, t0); err == nil {
			t.Error("width of Sender IDs changed")
		}
	}
}

func TestWithoutSID(t *testing.T) {
	tek := testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1)
	tek.SIDs = nil
	sa := mustSA(t, tek)
	s := mustSealer(t, sa)
	if n, why := s.Reserve(1); n != 0 || why != DropNoSID {
		t.Errorf("reserve without a Sender ID: %d, %v", n, why)
	}
	if _, _, why := s.Seal(roomFor(ip4(100)), Headroom, 100); why != DropNoSID {
		t.Errorf("seal without a Sender ID: %v", why)
	}
	if sa.Counters().SeqHigh != 0 {
		t.Error("a sequence number was taken")
	}
}

// TestSIDUsedUp goes on with the next Sender ID, then refuses, and tells once.
func TestSIDUsedUp(t *testing.T) {
	tek := testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1)
	tek.SIDBits, tek.SIDs = 32, []uint32{7, 8}
	sa := mustSA(t, tek)
	s := mustSealer(t, sa)
	sa.send.known[7].next.Store(math.MaxUint32 - 2)
	for i, want := range []uint64{7<<32 | 0xfffffffe, 7<<32 | 0xffffffff, 8<<32 | 1} {
		if iv := binary.BigEndian.Uint64(sealOne(t, s, ip4(40))[28:]); iv != want {
			t.Errorf("packet %d: IV %016x", i, iv)
		}
	}
	if sa.TakeNearEnd() {
		t.Error("near its end while a fresh Sender ID is left")
	}
	sa.send.known[8].next.Store(math.MaxUint32 - 1)
	if n, why := s.Reserve(5); n != 1 || why != DropNone {
		t.Errorf("last IV: %d, %v", n, why)
	}
	if !sa.TakeNearEnd() || sa.TakeNearEnd() {
		t.Error("must be told once")
	}
	sealOne(t, s, ip4(40))
	if _, _, why := s.Seal(roomFor(ip4(100)), Headroom, 100); why != DropSeqLimit {
		t.Errorf("IVs used up: %v", why)
	}
}

// TestCase_esp_01: a sender at 0xFFFFFF00 sends 1000 packets.
func TestCase_esp_01(t *testing.T) {
	for _, tr := range []Transform{{Cipher: CipherAESGCM, KeyBits: 128}, {Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA1}} {
		tek := testTEK(tr, 1)
		tek.FirstSeq = 0xFFFFFF00
		sa := mustSA(t, tek)
		s := mustSealer(t, sa)
		sent, refused, warned := 0, 0, -1
		last := uint32(0)
		for range 1000 {
			b := roomFor(ip4(100))
			start, _, why := s.Seal(b, Headroom, 100)
			switch why {
			case DropNone:
				seq := binary.BigEndian.Uint32(b[start+24:])
				if seq <= last {
					t.Fatalf("sequence number %d after %d", seq, last)
				}
				last = seq
				sent++
			case DropSeqLimit:
				refused++
			default:
				t.Fatal(why)
			}
			if sa.TakeNearEnd() {
				if warned >= 0 {
					t.Error("told twice")
				}
				warned = sent
			}
		}
		if sent != 256 || refused != 744 || last != math.MaxUint32 || warned < 1 || warned >= 256 {
			t.Errorf("%v: sent %d, refused %d, last %d, warned after %d", tr, sent, refused, last, warned)
		}
		if c := sa.Counters(); c.SeqHigh != math.MaxUint32 || c.EncapPackets != 256 {
			t.Errorf("counters %+v", c)
		}
		// A restart of the same TEK goes on being refused after a merge.
		if err := sa.Merge(tek, t0); err != nil {
			t.Fatal(err)
		}
		if _, why := s.Reserve(1); why != DropSeqLimit {
			t.Errorf("after a merge: %v", why)
		}
	}
}

// TestReserveConcurrently: many queues, every number once, none beyond the limit.
func TestReserveConcurrently(t *testing.T) {
	tek := testTEK(Transform{Cipher: CipherNull, Auth: AuthSHA1}, 1)
	tek.FirstSeq = math.MaxUint32 - 5000
	sa := mustSA(t, tek)
	var mu sync.Mutex
	seen := map[uint32]bool{}
	var wg sync.WaitGroup
	for q := range 8 {
		wg.Go(func() {
			for range 400 {
				r, why := sa.reserve(q + 1)
				mu.Lock()
				for i := range r.left {
					if seen[r.seq+uint32(i)] {
						t.Errorf("%d twice", r.seq)
					}
					seen[r.seq+uint32(i)] = true
				}
				if why != DropNone && why != DropSeqLimit {
					t.Error(why)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 5001 {
		t.Errorf("%d numbers of 5001", len(seen))
	}
}

func TestSADB(t *testing.T) {
	var db SADB
	tr := Transform{Cipher: CipherAESGCM, KeyBits: 128}
	a, err := db.Install(testTEK(tr, 1), t0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := db.Install(testTEK(tr, 1), t0); err != nil || a != b {
		t.Errorf("same TEK: another object, %v", err)
	}
	other := testTEK(tr, 2)
	other.SPI = a.SPI()
	if b, err := db.Install(other, t0); err != nil || a == b {
		t.Errorf("same SPI, another key: %v", err)
	}
	// One stays in use; the other is buried when it has been unused for the grace.
	const grace = time.Minute
	used := func(sa *SA) bool { return sa != a }
	for _, at := range []time.Duration{0, grace - 1} {
		if gone := db.Retire(used, t0.Add(at), grace, time.Hour); len(gone) != 0 {
			t.Errorf("buried after %v", at)
		}
	}
	s := mustSealer(t, a)
	s.Reserve(100)
	if gone := db.Retire(used, t0.Add(grace), grace, time.Hour); len(gone) != 1 || gone[0] != a {
		t.Errorf("%d buried", len(gone))
	}
	if live, remembered := db.Live(); live != 1 || remembered != 1 {
		t.Errorf("%d live, %d remembered", live, remembered)
	}
	if _, why := s.Reserve(1); why != DropSeqLimit {
		t.Errorf("a sealer of a buried SA got a number: %v", why)
	}
	if _, err := a.NewOpener(); err == nil {
		t.Error("the keys are there still")
	}
	// The same TEK again goes on behind the numbers that were taken.
	b, err := db.Install(testTEK(tr, 1), t0.Add(grace))
	if err != nil || b == a {
		t.Fatalf("again: %v", err)
	}
	p := sealOne(t, mustSealer(t, b), ip4(40))
	if seq, iv := binary.BigEndian.Uint32(p[24:]), binary.BigEndian.Uint64(p[28:]); seq != 101 || iv != 0x102<<40|101 {
		t.Errorf("again: number %d, IV %x", seq, iv)
	}
	// Forgotten is it when its life, the longest that it ever had, is an hour ago.
	none := func(*SA) bool { return false }
	db.Retire(none, t0.Add(grace), grace, time.Hour)
	if gone := db.Retire(none, t0.Add(2*grace), grace, time.Hour); len(gone) != 2 {
		t.Errorf("%d buried", len(gone))
	}
	db.Retire(none, t0.Add(2*time.Hour), grace, time.Hour)
	if _, remembered := db.Live(); remembered != 2 {
		t.Errorf("%d remembered", remembered)
	}
	db.Retire(none, t0.Add(2*time.Hour+1), grace, time.Hour)
	if live, remembered := db.Live(); live+remembered != 0 {
		t.Errorf("%d live, %d remembered", live, remembered)
	}
	if _, err := db.Install(testTEK(tr, 1), t0.Add(2*time.Hour)); err == nil {
		t.Error("an expired TEK came back")
	}
}
