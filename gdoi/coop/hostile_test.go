package coop

// A peer that has the key of phase 1 and means ill: what it can make another key server
// hold, send and do is bounded.

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// insider is a machine, and a configured peer whose messages are made by hand.
type insider struct {
	*testing.T
	m    *Machine
	now  time.Time
	peer netip.Addr
	seq  uint64
	sent int // octets that the machine has sent
	anns int
	said []Result
}

// newInsider begins beside a primary that has keys of so many octets.
func newInsider(t *testing.T, octets int) *insider {
	x := &insider{T: t, now: time.Unix(1e9, 0), peer: netip.MustParseAddr("172.16.0.1")}
	m, _, err := New(Config{Group: []byte("G"), Self: netip.MustParseAddr("172.16.0.9"), Priority: 200, Peers: []netip.Addr{x.peer}, Skew: 10 * time.Second,
		SIDs: []SIDRange{{0, 99}}}, noise{rand.New(rand.NewPCG(1, 1))}, x.now)
	if err != nil {
		t.Fatal(err)
	}
	x.m = m
	x.note(m.Session(x.peer, 1, true, x.now))
	x.later(time.Minute)
	if m.role != Primary {
		t.Fatalf("%v", m.role)
	}
	out, err := m.SetKeys(Keys{KEKs: []SPI{{1}}, Blob: make([]byte, octets)}, nil, x.now)
	if err != nil {
		t.Fatal(err)
	}
	x.note(out)
	return x
}

func (x *insider) note(out Output) {
	for _, s := range out.Send {
		x.sent += len(s.Data)
		if h, _, err := decodeHeader(s.Data); err == nil && h.kind == kindAnn {
			x.anns++
		}
	}
	x.said = append(x.said, out.Results...)
}

// later lets time pass; nobody wakes without end.
func (x *insider) later(d time.Duration) {
	x.Helper()
	end := x.now.Add(d)
	for range 1 << 16 {
		w := x.m.Wake()
		if w.IsZero() || w.After(end) {
			x.now = end
			return
		}
		if w.After(x.now) {
			x.now = w
		}
		x.note(x.m.Tick(x.now))
	}
	x.Fatal("it wakes without end")
}

func (x *insider) say(k kind, f flag, body func(*cryptobyte.Builder)) error {
	x.seq++
	out, err := x.m.Receive(x.peer, 1, newMessage(header{minor: Minor, kind: k, flags: f, group: []byte("G"), incarnation: 7, seq: x.seq}, body), x.now)
	x.note(out)
	return err
}

// follower is what an honest secondary would say.
func (x *insider) follower() *announcement {
	return &announcement{role: Secondary, priority: 1, primary: x.m.c.Self, held: x.m.keys.ID}
}

func (x *insider) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

// Ten thousand wishes for an answer in a second bring five answers a second, ten thousand
// wishes for all parts of the keys them five times.
func TestWishesAreAnsweredFiveTimesASecond(t *testing.T) {
	for _, octets := range []int{20, 5000, maxKeys} {
		x := newInsider(t, octets)
		x.must(x.say(kindAnn, 0, x.follower().encode))
		x.later(10 * time.Second)
		x.sent, x.anns = 0, 0
		for range 10000 {
			a := x.follower()
			a.missing = fragments{id: x.m.keys.ID}
			x.must(x.say(kindAnn, wantAnswer, a.encode))
			x.later(100 * time.Microsecond)
		}
		if x.anns > 10 {
			t.Errorf("%d announcements in a second", x.anns)
		}
		if most := 6 * (octets + octets/4 + 1200); x.sent > most+10*defaultMTU {
			t.Errorf("%d octets in a second for keys of %d", x.sent, octets)
		}
	}
}

// New keys in each announcement: members pay for a merge every ten seconds, not for each.
func TestMergesAreBounded(t *testing.T) {
	x := newInsider(t, 100)
	for i := range 600 { // a minute
		a := x.follower()
		a.held = KeysID{x.peer, uint64(i) << 16, 1}
		x.must(x.say(kindAnn, 0, a.encode))
		k := keysPart{id: a.held, keks: []SPI{{byte(i), 2}}, numbers: []number{{SPI{byte(i), 2}, 5, 5, []netip.Addr{x.peer}, Lease{}, false}}, length: 10, size: 10, octets: make([]byte, 10)}
		_ = x.say(kindKeys, 0, k.encode) // refused where it wasn't asked for
		x.later(100 * time.Millisecond)
	}
	n := 0
	for _, r := range x.said {
		if _, ok := r.(MergeKeys); ok {
			n++
		}
	}
	if n == 0 || n > 7 {
		t.Errorf("%d merges in a minute", n)
	}
	if len(x.m.ancestors) > maxAncestors || len(x.m.numbers) > maxKEKs*8 {
		t.Errorf("%d ancestors, numbers under %d KEKs", len(x.m.ancestors), len(x.m.numbers))
	}
}

// Tables of members without end, also such as are never complete: memory is bounded, and
// what is beyond is refused.
func TestTablesAreBounded(t *testing.T) {
	for _, full := range []bool{false, true} {
		x := newInsider(t, 100)
		x.must(x.say(kindAnn, 0, x.follower().encode))
		refused := map[Reason]int{}
		next := uint32(0)
		for i := range 200 {
			// One origin is configured, others aren't.
			origin := x.peer
			if i%3 == 0 {
				origin = netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
			}
			p := &rowsPart{table: tableID{origin, uint64(i % 100)}, top: 1 << 40, full: full}
			p.to = 1024
			for v := range 1000 {
				next++
				p.rows = append(p.rows, row{uint64(v + 1), Member{netip.AddrFrom4([4]byte{10, byte(next >> 16), byte(next >> 8), byte(next)}), math.MaxUint64, false, nil}})
			}
			if err := x.say(kindRows, 0, p.encode); err != nil {
				refused[err.(*Error).Reason]++
			}
		}
		total := 0
		for _, tab := range x.m.tables {
			total += len(tab.rows)
			if tab.fresh != nil {
				total += len(tab.fresh.rows)
			}
		}
		if total > maxRows || len(x.m.tables) > maxTables || !full && refused[TooLarge] == 0 {
			t.Errorf("%d rows in %d tables, refused %v", total, len(x.m.tables), refused)
		}
		// A member that registers here counts here, whatever the peer says of it; once
		// the stamps are at their end nobody counts twice.
		a := netip.AddrFrom4([4]byte{10, 0, 0, 1})
		x.note(x.m.PutMembers([]Member{{Addr: a, Stamp: 5}}, x.now))
		x.sent = 0
		x.later(30 * time.Second)
		if x.sent > 20<<20 {
			t.Errorf("%d octets in half a minute for one who confirms nothing", x.sent)
		}
	}
}

// Contradictions and figures at their ends are refused, or do no harm.
func TestAbsurdFigures(t *testing.T) {
	x := newInsider(t, 100)
	held := func(id KeysID) *announcement { a := x.follower(); a.held = id; return a }
	numbers := func(n number) *announcement { a := x.follower(); a.numbers = []number{n}; return a }
	pseudo := func(v uint64) *announcement { a := x.follower(); a.running, a.pseudotime = true, v; return a }
	holders := make([]netip.Addr, maxHolders+1)
	for i := range holders {
		holders[i] = x.peer
	}
	for name, a := range map[string]*announcement{
		"an epoch without a successor":  held(KeysID{x.peer, math.MaxUint64, 1}),
		"a version without a successor": held(KeysID{x.peer, 1, math.MaxUint64}),
		"numbers without a holder":      numbers(number{SPI{1}, 1, 1, nil, Lease{}, false}),
		"a holder without an address":   numbers(number{SPI{1}, 1, 1, []netip.Addr{{}}, Lease{}, false}),
		"too many holders":              numbers(number{SPI{1}, 1, 1, holders, Lease{}, false}),
		"a base beyond the last":        numbers(number{SPI{1}, 1, 2, []netip.Addr{x.peer}, Lease{}, false}),
		"a pseudotime of 300 years":     pseudo(1 << 43),
	} {
		if err, ok := x.say(kindAnn, 0, a.encode).(*Error); !ok || err.Reason != Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The highest that is understood: our own keys still get an identity of their own at
	// each reign, which others understand.
	x.must(x.say(kindAnn, 0, held(KeysID{x.peer, 1<<62 - 1, 1<<62 - 1}).encode))
	seen := map[KeysID]bool{}
	for range 5 {
		x.note(x.m.ClearRole(x.now))
		x.later(time.Minute)
		out, err := x.m.SetKeys(Keys{KEKs: []SPI{{1}}, Blob: make([]byte, 9)}, nil, x.now)
		x.must(err)
		x.note(out)
		id := x.m.keys.ID
		if x.m.role != Primary || seen[id] || id.Epoch >= 1<<62 {
			t.Errorf("%v with keys %v", x.m.role, id)
		}
		seen[id] = true
		a := x.follower()
		a.held = KeysID{x.peer, 1<<61 - 1, 1}
		x.must(x.say(kindAnn, 0, a.encode))
	}
	// Numbers used up by somebody who isn't their leader: none is used again.
	x.note(x.m.Used(SPI{1}, 50, x.now))
	for _, last := range []uint32{100, math.MaxUint32 - 500, math.MaxUint32 - 1, math.MaxUint32} {
		for _, leader := range []netip.Addr{x.peer, x.m.c.Self} {
			n := x.m.numbers[SPI{1}]
			n.hold(x.peer, 7, false)
			x.must(x.say(kindAnn, 0, numbers(number{SPI{1}, last, 50, []netip.Addr{leader, x.peer}, Lease{From: 1, To: math.MaxUint32}, false}).encode))
			for range 3 {
				l := x.m.Lease(SPI{1})
				if l.Left() > 0 && l.From <= 50 || l.Left() == 0 && !l.Ends {
					t.Errorf("lease %+v after %d", l, last)
				}
				n.pass()
			}
		}
	}
	// It claims to be primary, with a priority beyond all: we follow, and when it is gone
	// we lead again.
	a := &announcement{role: Primary, priority: 255, primary: x.peer, held: KeysID{x.peer, 9, 9}}
	x.must(x.say(kindAnn, 0, a.encode))
	if x.m.role != Secondary || x.m.gate() != GateElection {
		t.Errorf("%v, gate %v", x.m.role, x.m.gate())
	}
	x.later(3 * time.Minute)
	if x.m.role != Primary {
		t.Errorf("%v", x.m.role)
	}
}
