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
