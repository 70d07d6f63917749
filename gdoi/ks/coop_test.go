package ks

import (
	"slices"
	"testing"
	"time"

	"getvpn/gdoi/coop"
)

// Two key servers elect, the primary makes keys, both serve registrations with the same
// keys, and the primary rekeys all members wherever they registered.
func TestTwoKeyServersServeOneGroup(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, b := l.ks[0], l.ks[1]
		if a.role() != coop.Primary || b.role() != coop.Secondary {
			t.Fatalf("roles %v and %v", a.role(), b.role())
		}
		teks, kek := a.ring()
		if t2, k2 := b.ring(); !slices.Equal(teks, t2) || kek != k2 || len(teks) != 1 {
			t.Fatalf("rings %x %x and %x %x", teks, kek, t2, k2)
		}
		for i := range 6 {
			m := l.join(i, l.ks[i%2])
			if !slices.Equal(m.spis(), teks) {
				t.Errorf("member %d has TEKs %x, the group %x", i, m.spis(), teks)
			}
		}
		after(5 * time.Second)
		for _, s := range l.ks {
			s.in(func(g *Group) {
				own := 0
				for _, m := range g.roster.list {
					if !m.origin.IsValid() {
						own++
					}
				}
				if g.roster.len() != 6 || own != 3 {
					t.Errorf("ks%d lists %d members, %d its own", s.i+1, g.roster.len(), own)
				}
			})
		}
		after(time.Hour)
		teks, kek = a.ring()
		if t2, k2 := b.ring(); !slices.Equal(teks, t2) || kek != k2 {
			t.Errorf("rings %x %x and %x %x after an hour", teks, kek, t2, k2)
		}
		for i, m := range l.gms {
			if len(m.numbers()) == 0 || !slices.Equal(m.spis(), teks) || len(m.bad) > 0 {
				t.Errorf("member %d took rekeys %v, has %x of %x, %v", i, m.numbers(), m.spis(), teks, m.bad)
			}
		}
		if n := len(b.air.sent); n > 0 {
			t.Errorf("the secondary has sent %d rekeys", n)
		}
		if n := a.store.Load().KeyServers[0].Counters.AcksRcvd; n < 6 {
			t.Errorf("%d acknowledgements", n)
		}
	})
}

// The primary dies. The other takes over: a new KEK with the first rekey, whose number is
// ten on, and every member follows.
func TestSecondaryTakesOver(t *testing.T) {
	among(t, 3, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, b := l.ks[0], l.ks[1]
		for i := range 9 {
			l.join(i, l.ks[i%3])
		}
		after(5 * time.Second)
		if err := a.g.Rekey(false, false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		var used uint32
		_, old := a.ring()
		a.in(func(g *Group) { used = g.ring.kek.seq.last })
		a.kill()
		after(50 * time.Second)
		if r := b.role(); r != coop.Primary {
			t.Fatalf("the second is %v", r)
		}
		if r := l.ks[2].role(); r != coop.Secondary {
			t.Fatalf("the third is %v", r)
		}
		teks, kek := b.ring()
		if kek == old {
			t.Error("the KEK is the dead primary's")
		}
		for i, m := range l.gms {
			n := m.numbers()
			if len(n) == 0 || n[0] != used || n[len(n)-1] < used+10 || !slices.Equal(m.spis(), teks) || len(m.bad) > 0 {
				t.Errorf("member %d took rekeys %v (%d was the last), has %x of %x, %v", i, n, used, m.spis(), teks, m.bad)
			}
			if len(m.keks) != 1 || m.keks[0].SPI != kek {
				t.Errorf("member %d doesn't have the new KEK alone", i)
			}
		}
		t2, k2 := l.ks[2].ring()
		if !slices.Equal(teks, t2) || kek != k2 {
			t.Errorf("the third has %x %x, the second %x %x", t2, k2, teks, kek)
		}
		l.join(9, l.ks[2])
		after(2 * time.Hour)
		teks, _ = b.ring()
		for i, m := range l.gms {
			if !slices.Equal(m.spis(), teks) || len(m.bad) > 0 {
				t.Errorf("member %d has %x of %x two hours later, %v", i, m.spis(), teks, m.bad)
			}
		}
	})
}
