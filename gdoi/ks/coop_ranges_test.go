package ks

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi/coop"
	"getvpn/internal/clock"
)

// change applies a changed setup.
func (s *server) change(e config.Effects, f func(*Setup)) {
	s.l.t.Helper()
	x := *s.setup
	x.Entries = slices.Clone(x.Entries)
	if x.Coop != nil {
		c := *x.Coop
		x.Coop = &c
	}
	f(&x)
	if err := s.g.Apply(&x, e); err != nil {
		s.l.t.Fatal(err)
	}
	s.setup = &x
}

func giving(low, high uint32) func(*Setup) {
	return func(s *Setup) { s.Coop.SIDs = []coop.SIDRange{{Low: low, High: high}} }
}

// Other Sender IDs with former ones among them: whichever key server changes, with or
// without a word of the table of changes, none is given out twice under one key.
func TestOwnSenderIDsChangeWithFormerOnesAmongThem(t *testing.T) {
	for _, who := range []int{0, 1} {
		for _, e := range []config.Effects{{}, {Reregister: true}} {
			among(t, 2, counting, func(t *testing.T, l *league) {
				after(15 * time.Second)
				for i := range 6 {
					l.join(i, l.ks[i%2])
				}
				l.used()
				after(5 * time.Second)
				old, _ := l.ks[0].ring()
				low := uint32(who) * 1000
				l.ks[who].change(e, giving(low, low+499))
				after(5 * time.Second)
				teks, _ := l.ks[0].ring()
				if slices.Contains(teks, old[0]) {
					t.Errorf("ks%d, %v: keys %x are still %x", who+1, e, teks, old)
				}
				for i := range 6 {
					if s := l.ks[i%2]; !s.open() {
						t.Fatalf("ks%d registers nobody", i%2+1)
					}
					l.join(i, l.ks[i%2])
					l.used()
				}
				if m := l.ks[who].model(); m.SIDsMax != 500 || m.SIDsUsed != 3 || len(m.Coop.OldSIDs) > 0 {
					t.Errorf("%d of %d, old %v", m.SIDsUsed, m.SIDsMax, m.Coop.OldSIDs)
				}
			})
		}
	}
}

// Other Sender IDs, none of the former among them: keys and members stay, what was given
// out is shown as old and never given out again under these keys, by nobody.
func TestOwnSenderIDsChangeForOthers(t *testing.T) {
	for _, who := range []int{0, 1} {
		among(t, 2, counting, func(t *testing.T, l *league) {
			after(15 * time.Second)
			for i := range 4 {
				l.join(i, l.ks[i%2])
			}
			l.used()
			after(5 * time.Second)
			old, _ := l.ks[0].ring()
			s := l.ks[who]
			s.change(config.Effects{}, giving(5000, 5999))
			after(5 * time.Second)
			if m := l.join(4, s); !slices.Equal(m.sids, []uint32{5000}) {
				t.Errorf("ks%d gives %v", who+1, m.sids)
			}
			l.used()
			after(5 * time.Second)
			low := uint32(who) * 1000
			if o := s.model().Coop.OldSIDs; len(o) != 1 || o[0].Low != low || o[0].High != low+999 {
				t.Errorf("old Sender IDs %v", o)
			}
			s.stop() // an orderly end: it goes on
			after(3 * time.Second)
			s.restart(s.setup)
			after(time.Minute)
			if m := l.join(5, s); !slices.Equal(m.sids, []uint32{5001}) {
				t.Errorf("ks%d gives %v after a restart", who+1, m.sids)
			}
			l.used()
			if teks, _ := s.ring(); !slices.Contains(teks, old[0]) {
				t.Errorf("keys %x, were %x", teks, old)
			}
			// The other one takes the range that was this one's: new keys come first.
			l.ks[1-who].change(config.Effects{}, giving(low, low+999))
			after(10 * time.Second)
			l.join(6, l.ks[1-who])
			l.used()
			if teks, _ := s.ring(); slices.Contains(teks, old[0]) {
				t.Errorf("keys are still %x", teks)
			}
			if o := s.model().Coop.OldSIDs; len(o) != 0 {
				t.Errorf("old Sender IDs %v under new keys", o)
			}
		})
	}
}

// What the keys say of ledgers outlives any other change of the configuration.
func TestListedLedgersOutliveAChange(t *testing.T) {
	for _, who := range []int{0, 1} {
		among(t, 2, counting, func(t *testing.T, l *league) {
			after(15 * time.Second)
			for i := range 2 {
				l.join(i, l.ks[i])
			}
			l.used()
			s := l.ks[who]
			s.change(config.Effects{}, giving(5000, 5999))
			after(5 * time.Second)
			s.change(config.Effects{Rekey: true}, func(x *Setup) { x.Coop.Priority++; x.Entries[0].Lifetime += time.Minute })
			if !s.open() {
				t.Errorf("ks%d registers nobody", who+1)
			}
			s.in(func(g *Group) {
				if len(g.ring.listed) != 3 {
					t.Errorf("%d ledgers are listed", len(g.ring.listed))
				}
			})
		})
	}
}

// The width of Sender IDs is changed at one key server after the other: while it differs
// nobody gives out the narrower or the wider ones under keys of the other width.
func TestWidthOfSenderIDsChanges(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		among(t, 2, func(i int, s *Setup) {
			counting(i, s)
			s.Coop.SIDs = []coop.SIDRange{{Low: uint32(i) << 23, High: uint32(i)<<23 + 1<<23 - 1}}
		}, func(t *testing.T, l *league) {
			after(15 * time.Second)
			for i := range 2 {
				l.join(i, l.ks[i])
			}
			for n, i := range order {
				l.ks[i].change(config.Effects{Reregister: true}, func(s *Setup) {
					s.SIDBits = 32
					s.Coop.SIDs = []coop.SIDRange{{Low: uint32(i) << 31, High: uint32(i)<<31 + 1<<31 - 1}}
				})
				after(20 * time.Second)
				for j, s := range l.ks {
					bits := 0
					s.in(func(g *Group) { bits = g.ring.bits })
					if s.open() && bits != s.setup.SIDBits {
						t.Errorf("after ks%d: ks%d gives %d bits for keys with %d", i+1, j+1, s.setup.SIDBits, bits)
					}
					if n == 1 && (!s.open() || bits != 32) {
						t.Errorf("ks%d registers nobody: %d bits", j+1, bits)
					}
				}
			}
			for i := range 2 {
				if m := l.join(i, l.ks[i]); !slices.Equal(m.sids, []uint32{uint32(i) << 31}) {
					t.Errorf("%x", m.sids)
				}
			}
			l.used()
		})
	}
}

// Sender IDs change between messages 2 and 3 of a registration at a secondary: the primary
// hasn't listed the new ones, so none is given out. At a primary, keys are new by then.
func TestSenderIDsChangeDuringARegistration(t *testing.T) {
	for _, who := range []int{0, 1} {
		among(t, 2, counting, func(t *testing.T, l *league) {
			after(15 * time.Second)
			for i := range 4 {
				l.join(i, l.ks[i%2])
			}
			s := l.ks[who]
			b := &bench{s: s.s, g: s.g, mid: 77000}
			w, _, three := b.upToThree(t, gmAddr(9), ourVID, ours())
			// The other one's numbers: its own are in use.
			s.change(config.Effects{}, giving(uint32(1-who)*1000, uint32(1-who)*1000+999))
			b.s.handle(w, three)
			after(time.Second)
			select {
			case <-w.sent:
				t.Errorf("ks%d delivers", who+1)
			default:
			}
			if r := s.model().Rejected; r[blockedSIDs]+r["stale-offer"] != 1 {
				t.Errorf("ks%d: %v", who+1, r)
			}
		})
	}
}

// A key server is replaced by one with its Sender IDs: once it is off the list of peers,
// new keys come and the new one registers members.
func TestAnotherKeyServerTakesTheSenderIDsOfARemovedOne(t *testing.T) {
	among(t, 3, func(i int, s *Setup) {
		counting(i, s)
		if i == 2 {
			giving(1000, 1999)(s)
		}
		s.Coop.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		if i != 1 {
			s.Coop.Peers[1] = netip.MustParseAddr("192.0.2.3")
		}
		if i == 0 {
			s.Coop.Peers[1] = netip.MustParseAddr("192.0.2.2")
		}
	}, func(t *testing.T, l *league) {
		after(15 * time.Second)
		a, b, c := l.ks[0], l.ks[1], l.ks[2]
		for i := range 4 {
			l.join(i, l.ks[i%2])
		}
		l.used()
		old, _ := a.ring()
		b.stop()
		after(10 * time.Second)
		a.change(config.Effects{}, func(s *Setup) { s.Coop.Peers = []netip.Addr{c.addr} })
		after(2 * time.Minute)
		if !c.open() {
			t.Fatal("it registers nobody")
		}
		if m := l.join(4, c); !slices.Equal(m.sids, []uint32{1000}) || subset(old, m.spis()) {
			t.Errorf("%v %x, before %x", m.sids, m.spis(), old)
		}
		l.used()
	})
}

// A key server that lost its disk and whose clock went back makes its ledger known all the
// same: what it said once seems later, and isn't.
func TestLedgerOfAKeyServerWhoseClockWentBack(t *testing.T) {
	among(t, 2, counting, func(t *testing.T, l *league) {
		after(15 * time.Second)
		for i := range 4 {
			l.join(i, l.ks[i%2])
		}
		l.used()
		b := l.ks[1]
		b.kill()
		b.disk.m, b.state.d = nil, map[string]durable{}
		after(time.Minute)
		b.clock = clock.NewFakeAt(time.Hour, time.Now().Add(-24*time.Hour))
		b.restart(b.setup)
		after(20 * time.Second)
		if !b.open() {
			t.Fatal("it registers nobody")
		}
		l.join(1, b)
		l.used()
	})
}

// Ledgers without number, or without a range, aren't listed for ever.
func TestListsOfLedgersAreBounded(t *testing.T) {
	k := newKeyring(nil, nil, nil)
	k.bits = 24
	known := map[ledgerID]sharedLedger{}
	for i := range uint32(mostLedgers + 1) {
		id := ledgerID{byte(i), byte(i >> 8), 1}
		known[id] = sharedLedger{id, 24, []coop.SIDRange{{Low: i, High: i}}}
	}
	known[ledgerID{9}] = sharedLedger{ledgerID{9}, 24, nil}
	known[ledgerID{8}] = sharedLedger{ledgerID{8}, 32, []coop.SIDRange{{Low: 1 << 20, High: 1 << 20}}}
	slate, more := k.listLedgers(known)
	if !slate || !more || len(k.listed) != mostLedgers || k.lists(ledgerID{9}) || k.lists(ledgerID{8}) {
		t.Errorf("%d are listed, new keys: %v", len(k.listed), slate)
	}
	if _, err := decodeLedgerRow(append([]byte{rowVersion}, make([]byte, 40)...)); err == nil {
		t.Error("a row with a rest")
	}
	r := ledgerRow{sharedLedger: sharedLedger{ledgerID{1}, 24, []coop.SIDRange{{Low: 2, High: 1}}}}
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeLedgerRow(b); err == nil {
		t.Error("a range that ends before it begins")
	}
}
