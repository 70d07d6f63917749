package coop

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func member(i int, stamp uint64) Member {
	return Member{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Stamp: stamp, Blob: []byte(fmt.Sprint(i, " ", stamp))}
}

func same(t *testing.T, want, got *table) {
	t.Helper()
	live := 0
	for a, r := range want.rows {
		if r.Gone {
			continue
		}
		live++
		if g := got.rows[a]; g == nil || !g.equal(r.Member) {
			t.Fatalf("row of %v: %+v, should be %+v", a, g, r)
		}
	}
	for a, r := range got.rows {
		if !r.Gone && (want.rows[a] == nil || want.rows[a].Gone) {
			t.Fatalf("row of %v is still here", a)
		}
	}
	if got.have != want.have {
		t.Fatalf("have %d of %d", got.have, want.have)
	}
}

// A copy is what the table is, whatever is lost, repeated and out of order, and however
// the table changes meanwhile.
func TestTablesConverge(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		own, copied := newTable(tableID{}), newTable(tableID{})
		var flight []*rowsPart
		for step := range 400 {
			if step < 300 {
				for range rng.IntN(20) {
					m := member(rng.IntN(200), uint64(step))
					m.Gone = rng.IntN(3) == 0
					own.put(m)
				}
			}
			// what is missing, by the progress that the receiver told
			p := copied.progress()
			for v := p.have; v < own.have; {
				part := own.cut(v, own.have, 400, false)
				flight = append(flight, part)
				v = part.to
			}
			rng.Shuffle(len(flight), func(i, j int) { flight[i], flight[j] = flight[j], flight[i] })
			for len(flight) > 0 && (rng.IntN(5) > 0 || step > 350) {
				if rng.IntN(4) > 0 || step > 350 {
					copied.take(flight[0])
				}
				flight = flight[1:]
			}
		}
		same(t, own, copied)
	}
}

// Who is behind what was forgotten gets the table anew: no member that is gone stays.
func TestTableAnew(t *testing.T) {
	own, copied := newTable(tableID{}), newTable(tableID{})
	for i := range 2 * maxGone {
		own.put(member(i, 1))
	}
	copied.take(own.cut(0, own.have, 1<<30, false))
	for v := copied.have; v < own.have; v = copied.have {
		copied.take(own.cut(v, own.have, 1<<30, false))
	}
	same(t, own, copied)
	for i := range 2*maxGone - 5 {
		m := member(i, 2)
		m.Gone = true
		own.put(m)
	}
	if own.gone > maxGone || own.floor == 0 || copied.have >= own.floor {
		t.Fatalf("%d rows of members that are gone, floor %d", own.gone, own.floor)
	}
	var news []Member
	for v := uint64(0); v < own.have; {
		p := own.cut(v, own.have, 5000, true)
		news = append(news, copied.take(p)...)
		v = p.to
	}
	same(t, own, copied)
	if len(news) != 2*maxGone-5 {
		t.Errorf("%d changes were told", len(news))
	}
}
