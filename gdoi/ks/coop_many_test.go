package ks

import (
	"slices"
	"testing"
	"time"
)

// Two sides that both hold many keys, since their operators rekeyed often, meet again: the
// key that the other side sends with is told to all members, whatever else is left out.
func TestMergeOfManyKeysKeepsThoseInUse(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		for i := range 4 {
			l.join(i, l.ks[i%2])
		}
		rekeys := func(n int, s ...*server) {
			for range n {
				for _, x := range s {
					if err := x.g.Rekey(false, false); err != nil {
						t.Fatal(err)
					}
				}
				after(6 * time.Second)
			}
		}
		rekeys(10, l.ks[0])
		l.apart(0, 1)
		after(60 * time.Second)
		rekeys(8, l.ks...)
		var used []uint32
		for _, s := range l.ks {
			s.in(func(g *Group) { used = append(used, g.ring.teks[0][len(g.ring.teks[0])-1].spi) })
		}
		l.apart(0, 0)
		after(20 * time.Second)
		for i, m := range l.gms {
			for _, spi := range used {
				if !slices.Contains(m.spis(), spi) {
					t.Errorf("member %d lacks %x, with which others send", i, spi)
				}
			}
			if r := m.last(); r == nil || !slices.Contains(r.Delete.TEKs, used[0]) || !slices.Contains(r.Delete.TEKs, used[1]) {
				t.Errorf("member %d isn't told to stop sending with %x", i, used)
			}
		}
	})
}
