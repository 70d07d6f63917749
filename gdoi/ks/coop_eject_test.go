package ks

import (
	"testing"
	"time"
)

// In a long split each side rekeys until it takes the members of the other side, which it
// can't reach, off its list. They are alive where they registered: the rekey of the merge
// is for them too.
func TestMembersTakenOffInASplitHearOfTheMerge(t *testing.T) {
	among(t, 4, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		for i := range 8 {
			l.join(i, l.ks[i%4])
		}
		l.apart(0, 1, 0, 1)
		after(90 * time.Second)
		for range ejectAfter + 3 {
			for _, i := range []int{0, 1} {
				if err := l.ks[i].g.Rekey(false, false); err != nil {
					t.Fatal(err)
				}
			}
			after(time.Minute)
		}
		for _, i := range []int{0, 1} {
			if n := l.ks[i].model().Members.Len(); n == 8 {
				t.Fatalf("ks%d lists %d members in the split", i+1, n)
			}
		}
		l.apart(0, 0, 0, 0)
		after(time.Minute)
		teks, kek := l.ks[0].ring()
		for i, m := range l.gms {
			if m.kek() != kek || !subset(teks, m.spis()) || len(m.faults()) > 0 {
				t.Errorf("member %d has the KEK %x, not %x, and %x of %x: %v", i, m.kek(), kek, m.spis(), teks, m.faults())
			}
		}
		for i, s := range l.ks {
			if n := s.model().Members.Len(); n != 8 {
				t.Errorf("ks%d lists %d members", i+1, n)
			}
		}
	})
}
