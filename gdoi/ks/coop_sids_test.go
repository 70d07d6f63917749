package ks

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi/coop"
)

func counting(i int, s *Setup) {
	s.Entries[0].Transform = gcm128
	s.Coop.SIDs = []coop.SIDRange{{Low: uint32(i) * 1000, High: uint32(i)*1000 + 999}}
}

// Each key server gives out Sender IDs of its own range.
func TestSenderIDsOfEachKeyServer(t *testing.T) {
	among(t, 3, counting, func(t *testing.T, l *league) {
		after(15 * time.Second)
		for i := range 9 {
			m := l.join(i, l.ks[i%3])
			if want := uint32(i%3*1000 + i/3); !slices.Equal(m.sids, []uint32{want}) {
				t.Errorf("member %d has Sender IDs %v, not %d", i, m.sids, want)
			}
		}
		l.used()
		after(5 * time.Second)
		if k := l.ks[1].store.Load().KeyServers[0]; k.SIDsMax != 1000 || k.SIDsUsed != 3 || k.Coop.Reinit || k.Coop.Peers[0].Registered != 3 {
			t.Errorf("%d of %d, %+v", k.SIDsUsed, k.SIDsMax, k.Coop)
		}
	})
}

// Two key servers with overlapping ranges give out nothing, and say so, until they don't
// overlap. The range that was another's before is given out under new keys only.
func Test_coop_04_OverlappingSenderIDs(t *testing.T) {
	among(t, 2, func(i int, s *Setup) {
		counting(i, s)
		s.Coop.SIDs = []coop.SIDRange{{Low: uint32(i) * 255 << 15, High: uint32(i)*255<<15 + 256<<15 - 1}}
	}, func(t *testing.T, l *league) {
		after(15 * time.Second)
		for i, s := range l.ks {
			if s.open() {
				t.Errorf("ks%d registers members", i+1)
			}
			if e := s.events(); e["CoopSIDOverlap"] != 1 {
				t.Errorf("ks%d: %v", i+1, e)
			}
		}
		x := *l.ks[1].setup
		c := *x.Coop
		c.SIDs = []coop.SIDRange{{Low: 256 << 15, High: 511<<15 + 1<<15 - 1}}
		x.Coop = &c
		if err := l.ks[1].g.Apply(&x, config.Effects{}); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Second)
		for i, s := range l.ks {
			if !s.open() {
				t.Errorf("ks%d registers nobody", i+1)
			}
			if e := s.events(); e["CoopSIDOverlapCleared"] != 1 {
				t.Errorf("ks%d: %v", i+1, e)
			}
		}
	})
}

// A key server that lost its disk doesn't know what it gave out: new keys come first.
func TestLostLedgerAtASecondary(t *testing.T) {
	among(t, 2, counting, func(t *testing.T, l *league) {
		after(15 * time.Second)
		for i := range 4 {
			l.join(i, l.ks[i%2])
		}
		l.used()
		old, _ := l.ks[0].ring()
		b := l.ks[1]
		b.kill()
		b.disk.m, b.state.d = nil, map[string]durable{}
		after(time.Minute)
		b.restart(b.setup)
		after(20 * time.Second)
		if !b.open() {
			t.Fatal("it registers nobody")
		}
		teks, _ := l.ks[0].ring()
		if slices.Contains(teks, old[0]) {
			t.Errorf("keys %x are still %x", teks, old)
		}
		m := l.join(1, b)
		if !slices.Equal(m.sids, []uint32{1000}) || !subset(teks, m.spis()) {
			t.Errorf("%v %x", m.sids, m.spis())
		}
		l.used()
	})
}

// Lives of three key servers by chance: no Sender ID is ever two members' under one key.
func TestNoSenderIDTwiceAmongKeyServers(t *testing.T) {
	testSigner()
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) { sidLife(t, rand.New(rand.NewPCG(seed, 3))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func sidLife(t *testing.T, r *rand.Rand) {
	l := newLeague(t, 3, counting)
	after(15 * time.Second)
	joins := 0
	for range 40 {
		s := l.ks[r.IntN(3)]
		switch r.IntN(10) {
		case 0, 1, 2, 3, 4:
			if s.cancel != nil && s.open() {
				i := min(r.IntN(12), len(l.gms))
				l.join(i, s)
				joins++
			}
		case 5:
			if s.cancel != nil && s.role() == coop.Primary {
				_ = s.g.Rekey(false, r.IntN(2) == 0) // refused while another one waits
			}
		case 6:
			part := []int{r.IntN(2), r.IntN(2), r.IntN(2)}
			l.split(part...)
		case 7:
			l.split(0, 0, 0)
		case 8:
			switch {
			case s.cancel == nil:
				s.restart(s.setup)
			case r.IntN(2) == 0:
				s.kill()
			default:
				s.stop()
			}
		case 9:
			if s.cancel == nil {
				if r.IntN(2) == 0 {
					s.disk.m, s.state.d = nil, map[string]durable{}
				}
				s.restart(s.setup)
			}
		}
		l.used()
		after(time.Duration(r.IntN(60000)) * time.Millisecond)
		l.used()
	}
	l.split(0, 0, 0)
	for _, s := range l.ks {
		if s.cancel == nil {
			s.restart(s.setup)
		}
	}
	after(2 * time.Minute)
	l.used()
	for i, s := range l.ks {
		if !s.open() {
			s.in(func(g *Group) { t.Errorf("ks%d registers nobody: %s", i+1, g.blocked()) })
			continue
		}
		l.join(i, s)
	}
	l.used()
	t.Logf("%d registrations", joins)
}
