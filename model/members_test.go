package model

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func memberAddr(i int) netip.Addr {
	if i%5 == 4 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
	}
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// sound checks what the pages promise each other.
func (p *memberPage) sound(t testing.TB, root bool) (depth int) {
	t.Helper()
	n := len(p.rows)
	if len(p.keys) > pageMost || !root && len(p.keys) == 0 || p.below != nil && len(p.rows) > 0 || len(p.keys) != len(p.rows)+len(p.below) {
		t.Fatalf("a page of %d keys, %d rows, %d pages", len(p.keys), len(p.rows), len(p.below))
	}
	for i, b := range p.below {
		d := b.sound(t, false)
		if i > 0 && d != depth {
			t.Fatal("pages of different depth")
		}
		depth = d
		n += b.n
		if p.keys[i] != b.keys[0] {
			t.Fatalf("key %v of a page that begins with %v", p.keys[i], b.keys[0])
		}
	}
	for i, m := range p.rows {
		if p.keys[i] != m.Addr {
			t.Fatalf("key %v of %v", p.keys[i], m.Addr)
		}
	}
	if n != p.n || !slices.IsSortedFunc(p.keys, netip.Addr.Compare) {
		t.Fatalf("%d rows, says %d", n, p.n)
	}
	return depth + 1
}

// Whatever is put, changed and deleted, the table is a sorted map, and tables that were
// read before stay as they were.
func TestMemberTableIsASortedMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		type old struct {
			t    MemberTable
			want []Member
		}
		want := map[netip.Addr]Member{}
		sorted := func() (out []Member) {
			for _, m := range want {
				out = append(out, m)
			}
			slices.SortFunc(out, func(a, b Member) int { return a.Addr.Compare(b.Addr) })
			return out
		}
		space := rapid.SampledFrom([]int{3, 40, 3000}).Draw(r, "addresses")
		var past []old
		var cur MemberTable
		for round := range rapid.IntRange(1, 8).Draw(r, "editions") {
			past = append(past, old{cur, sorted()})
			e := cur.Edit()
			rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1))
			leave := rapid.IntRange(0, 10).Draw(r, "leaving of ten")
			for range rapid.SampledFrom([]int{0, 1, 50, 2000}).Draw(r, "changes") {
				a := memberAddr(rnd.IntN(space))
				if rnd.IntN(10) < leave {
					_, was := want[a]
					if e.Delete(a) != was {
						r.Fatalf("deleting %v, which was there: %v", a, was)
					}
					delete(want, a)
					continue
				}
				m := Member{Addr: a, AcksRcvd: rnd.Uint64(), Version: fmt.Sprint(round)}
				e.Put(m)
				want[a] = m
			}
			cur = e.Table()
		}
		for _, o := range append(past, old{cur, sorted()}) {
			var got []Member
			for m := range o.t.All() {
				got = append(got, *m)
			}
			if !reflect.DeepEqual(got, o.want) || o.t.Len() != len(o.want) {
				r.Fatalf("%d members, want %d", len(got), len(o.want))
			}
			if o.t.root != nil {
				o.t.root.sound(t, true)
			}
			for i, m := range o.want {
				if x := o.t.At(i); x == nil || o.t.Find(m.Addr) != x || x.Addr != m.Addr {
					r.Fatalf("member %d", i)
				}
			}
			a := memberAddr(rapid.IntRange(0, space).Draw(r, "after"))
			i, found := slices.BinarySearchFunc(o.want, a, func(m Member, a netip.Addr) int { return m.Addr.Compare(a) })
			if found {
				i++
			} else if o.t.Find(a) != nil {
				r.Fatal("found nobody")
			}
			n := i
			for m := range o.t.After(a) {
				if m.Addr != o.want[n].Addr {
					r.Fatalf("%v after %v", m.Addr, a)
				}
				n++
			}
			if n != len(o.want) {
				r.Fatalf("%d of %d after %v", n-i, len(o.want)-i, a)
			}
		}
	})
}

func crowd(n int) MemberTable {
	e := MemberTable{}.Edit()
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		e.Put(Member{Addr: memberAddr(i)})
	}
	return e.Table()
}

// A change copies a row and the pages on its way, however many members there are; the
// keys that order them aren't touched.
func TestOctetsCopiedPerChange(t *testing.T) {
	const most = 1400 // a row of 232, three pages of 32 pointers
	for _, n := range []int{1, 100, 10000, 65536} {
		cur := crowd(n)
		rnd := rand.New(rand.NewPCG(3, 4))
		var worst, sum uint64
		for range 1000 {
			m := *cur.At(rnd.IntN(n))
			m.AcksRcvd++
			e := cur.Edit()
			e.Put(m)
			worst, sum = max(worst, e.Copied()), sum+e.Copied()
			next := e.Table()
			if next.root.below != nil && &next.root.keys[0] != &cur.root.keys[0] {
				t.Fatal("the index was copied")
			}
			cur = next
		}
		// All of them in one publication, as the acknowledgements of a rekey come.
		e := cur.Edit()
		for m := range cur.All() {
			x := *m
			x.AcksRcvd++
			e.Put(x)
		}
		t.Logf("%d members: %d octets a change, %d at most; %d where all change at once (the list had %d)", n, sum/1000, worst, e.Copied()/uint64(n), 232*n)
		if worst > most || e.Copied() > uint64(n)*most/2+most {
			t.Errorf("%d members: %d octets copied", n, worst)
		}
	}
}

func TestMemberTableAsJSON(t *testing.T) {
	rows := []Member{{Addr: memberAddr(1), SIDs: []uint32{3}}, {Addr: memberAddr(2), Identity: "x"}, {Addr: memberAddr(9)}}
	list, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(struct{ Members MemberTable }{NewMemberTable(rows[2], rows[0], rows[1])})
	if err != nil || string(b) != `{"Members":`+string(list)+`}` {
		t.Errorf("%s %v", b, err)
	}
	var back struct{ Members MemberTable }
	if err := json.Unmarshal(b, &back); err != nil || back.Members.Len() != 3 || back.Members.At(0).SIDs[0] != 3 {
		t.Errorf("%v", err)
	}
	if b, err = json.Marshal(MemberTable{}); err != nil || string(b) != "[]" {
		t.Errorf("%s %v", b, err)
	}
	if json.Unmarshal([]byte(`{}`), &back.Members) == nil {
		t.Error("no list was read")
	}
}

func BenchmarkMemberTablePut(b *testing.B) {
	cur := crowd(10000)
	rnd := rand.New(rand.NewPCG(3, 4))
	b.ReportAllocs()
	for b.Loop() {
		m := *cur.At(rnd.IntN(10000))
		e := cur.Edit()
		e.Put(m)
		cur = e.Table()
	}
}
