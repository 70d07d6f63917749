package ks

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/policy"
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
			if len(m.numbers()) == 0 || !slices.Equal(m.spis(), teks) || len(m.faults()) > 0 {
				t.Errorf("member %d took rekeys %v, has %x of %x, %v", i, m.numbers(), m.spis(), teks, m.faults())
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
			if len(n) == 0 || n[0] != used || n[len(n)-1] < used+10 || !slices.Equal(m.spis(), teks) || len(m.faults()) > 0 {
				t.Errorf("member %d took rekeys %v (%d was the last), has %x of %x, %v", i, n, used, m.spis(), teks, m.faults())
			}
			if m.kek() != kek {
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
			if !slices.Equal(m.spis(), teks) || len(m.faults()) > 0 {
				t.Errorf("member %d has %x of %x two hours later, %v", i, m.spis(), teks, m.faults())
			}
		}
	})
}

// A split: each side has a primary that rekeys. When they meet, one yields, and one rekey
// gives all members the keys of both; nobody sends with another key before all have it.
func TestSplitAndMerge(t *testing.T) {
	among(t, 4, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, c := l.ks[0], l.ks[2]
		for i := range 12 {
			l.join(i, l.ks[i%4])
		}
		after(5 * time.Second)
		l.apart(0, 0, 1, 1)
		after(100 * time.Second)
		for i, want := range []coop.Role{coop.Primary, coop.Secondary, coop.Primary, coop.Secondary} {
			if r := l.ks[i].role(); r != want {
				t.Fatalf("ks%d is %v in the split", i+1, r)
			}
		}
		for _, s := range []*server{a, c} {
			if err := s.g.Rekey(false, true); err != nil {
				t.Fatal(err)
			}
		}
		after(40 * time.Second)
		one, _ := a.ring()
		two, _ := c.ring()
		if slices.Equal(one, two) {
			t.Fatalf("both sides have %x", one)
		}
		for i, m := range l.gms {
			want := one
			if i%4 >= 2 {
				want = two
			}
			if !subset(want, m.spis()) {
				t.Errorf("member %d has %x, its side %x", i, m.spis(), want)
			}
			m.mu.Lock()
			m.rekeys = nil
			m.mu.Unlock()
		}
		l.apart(0, 0, 0, 0)
		met := time.Now()
		var whole time.Duration
		for whole = 0; time.Since(met) < 2*time.Minute; {
			after(100 * time.Millisecond)
			if !slices.ContainsFunc(l.gms, func(m *fakeMember) bool { return !subset(one, m.spis()) || !subset(two, m.spis()) }) {
				whole = time.Since(met)
				break
			}
		}
		if whole == 0 {
			t.Fatal("no merge within two minutes")
		}
		t.Logf("merged after %v", whole)
		after(time.Minute)
		n := 0
		for _, s := range l.ks {
			if s.role() == coop.Primary {
				n++
			}
		}
		if n != 1 || a.role() != coop.Primary {
			t.Errorf("%d primaries after the merge", n)
		}
		teks, kek := a.ring()
		if len(teks) != 3 {
			t.Errorf("TEKs %x after the merge, not those of both sides and a new one", teks)
		}
		for i, s := range l.ks {
			if t2, k2 := s.ring(); !slices.Equal(teks, t2) || kek != k2 {
				t.Errorf("ks%d has %x %x, the primary %x %x", i+1, t2, k2, teks, kek)
			}
		}
		for i, m := range l.gms {
			if len(m.faults()) > 0 || !subset(teks, m.spis()) || m.kek() != kek {
				t.Errorf("member %d has %x of %x, KEK %x, %v", i, m.spis(), teks, m.kek(), m.faults())
			}
			r := m.first()
			if r.Offer.Activation < 5*time.Second {
				t.Errorf("member %d: activation after %v", i, r.Offer.Activation)
			}
			for _, x := range r.Offer.TEKs {
				if x.Age > 30*time.Second {
					t.Errorf("member %d: TEK %x of age %v", i, x.SPI, x.Age)
				}
				if gone := slices.Contains(r.Delete.TEKs, x.SPI); gone == (x.SPI == newestOf(r.Offer.TEKs)) {
					t.Errorf("member %d: TEK %x is replaced: %v", i, x.SPI, gone)
				}
			}
			if got := r.Offer.Deactivation; got < 30*time.Minute {
				t.Errorf("member %d: what is replaced is received with for %v", i, got)
			}
		}
		after(3 * time.Hour)
		teks, _ = a.ring()
		for i, m := range l.gms {
			if !slices.Equal(m.spis(), teks) || len(m.faults()) > 0 {
				t.Errorf("member %d has %x of %x three hours later, %v", i, m.spis(), teks, m.faults())
			}
		}
	})
}

// newestOf is the TEK that a key server lists last.
func newestOf(l []policy.TEK) uint32 { return l[len(l)-1].SPI }

func subset(a, of []uint32) bool {
	return !slices.ContainsFunc(a, func(x uint32) bool { return !slices.Contains(of, x) })
}

// The guide's numbers: 1, 2 ... 5, 6 by the first key server; its role is cleared, the
// next one goes on with 16, under the same KEK.
func TestRoleHandedOver(t *testing.T) {
	among(t, 2, func(i int, s *Setup) { s.Rekey = unicast(0, 0) }, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, b := l.ks[0], l.ks[1]
		for i := range 4 {
			l.join(i, l.ks[i%2])
		}
		after(5 * time.Second)
		for range 6 {
			if err := a.g.Rekey(false, false); err != nil {
				t.Fatal(err)
			}
			after(25 * time.Second)
		}
		_, kek := a.ring()
		b.in(func(g *Group) { g.apply(withPriority(g.setup, 120), config.Effects{}, g.now()) })
		after(2 * time.Second)
		if err := a.g.ClearRole(); err != nil {
			t.Fatal(err)
		}
		after(15 * time.Second)
		if b.role() != coop.Primary || a.role() != coop.Secondary {
			t.Fatalf("roles %v and %v", a.role(), b.role())
		}
		for range 3 {
			if err := b.g.Rekey(false, false); err != nil {
				t.Fatal(err)
			}
			after(25 * time.Second)
		}
		if _, k := b.ring(); k != kek {
			t.Error("another KEK after a change of roles that all knew of")
		}
		for i, m := range l.gms {
			if n := m.numbers(); !slices.Equal(n, []uint32{1, 2, 3, 4, 5, 6, 16, 17, 18}) {
				t.Errorf("member %d took %v", i, n)
			}
		}
		b.in(func(g *Group) { g.apply(withPriority(g.setup, 10), config.Effects{}, g.now()) })
		after(2 * time.Second)
		if err := b.g.ClearRole(); err != nil {
			t.Fatal(err)
		}
		after(15 * time.Second)
		for range 2 {
			if err := a.g.Rekey(false, false); err != nil {
				t.Fatal(err)
			}
			after(25 * time.Second)
		}
		for i, m := range l.gms {
			if n := m.numbers(); !slices.Equal(n, []uint32{1, 2, 3, 4, 5, 6, 16, 17, 18, 28, 29}) {
				t.Errorf("member %d took %v", i, n)
			}
		}
	})
}

func withPriority(s *Setup, p uint8) *Setup {
	n := *s
	c := *s.Coop
	c.Priority = p
	n.Coop = &c
	return &n
}

// A member behind a NAT at the secondary, and one that the primary can't reach, get rekeys
// from the key server where they registered, and their acknowledgements reach the primary.
func TestRekeysAreRelayed(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, b := l.ks[0], l.ks[1]
		l.join(0, a)
		l.join(1, b)
		l.nat = true
		l.join(2, b)
		l.nat = false
		after(2 * time.Second)
		cut := l.gms[1].addr
		a.air.mu.Lock()
		a.air.lose = func(to netip.AddrPort, _ []byte) bool { return to == cut || to == l.gms[2].addr }
		a.air.mu.Unlock()
		if err := a.g.Rekey(false, false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if n := l.gms[2].numbers(); !slices.Equal(n, []uint32{1}) {
			t.Errorf("the member behind a NAT took %v", n)
		}
		after(30 * time.Second)
		if n := l.gms[1].numbers(); !slices.Equal(n, []uint32{2}) {
			t.Errorf("the member that can't be reached took %v", n)
		}
		for m := range a.store.Load().KeyServers[0].Members.All() {
			if m.AcksRcvd != 1 {
				t.Errorf("member %v: %d acknowledgements", m.Addr, m.AcksRcvd)
			}
		}
		teks, _ := a.ring()
		for i, m := range l.gms {
			if !slices.Equal(m.spis(), teks) {
				t.Errorf("member %d has %x of %x", i, m.spis(), teks)
			}
		}
	})
}
