package ks

import (
	"os"
	"slices"
	"testing"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
)

// A primary that dies while it rekeys many members, at any moment of the rekey.

// death is a moment of a rekey.
type death struct {
	name string
	// prepare says how members hear and answer.
	prepare func(gms []*fakeMember)
	// now reports whether it is the moment: has members have the new TEK, and the round
	// was transmitted so often.
	now func(members, has, sent int) bool
}

var deaths = []death{
	{name: "before the first message", now: func(_, _, sent int) bool { return sent == 0 }},
	{name: "in the middle", now: func(n, has, _ int) bool { return has >= n/3 }},
	{name: "after the last message, before any answer", now: func(n, has, _ int) bool { return has == n },
		prepare: func(gms []*fakeMember) {
			for _, m := range gms {
				m.mute.Store(true)
			}
		}},
	{name: "in the middle of a retransmission", now: func(n, has, sent int) bool { return sent == 2 && has >= n/2+n/8 },
		prepare: func(gms []*fakeMember) {
			for i, m := range gms {
				m.off.Store(i%2 == 0)
			}
		}},
}

// scaled is how many members a test has: few, or with GETVPN_SOAK all.
func scaled(few, all int) int {
	if os.Getenv("GETVPN_SOAK") != "" {
		return all
	}
	return few
}

// The primary dies while it sends a rekey to members that registered at different key
// servers: each has a new key before the old one ends, in time for the change of senders
// 30 s earlier, and nobody has a key that others lack. The rekey may bring a new KEK too.
func Test_coop_PrimaryDiesInTheMiddleOfARekey(t *testing.T) {
	for _, x := range []struct {
		death
		servers, members int
		kek              bool
	}{
		{deaths[0], 2, scaled(150, 1000), false},
		{deaths[0], 3, scaled(150, 1000), true},
		{deaths[1], 2, scaled(150, 1000), true},
		{deaths[1], 3, scaled(1000, 5000), false},
		{deaths[2], 2, scaled(150, 1000), false},
		{deaths[2], 3, scaled(150, 1000), true},
		{deaths[3], 2, scaled(150, 1000), true},
		{deaths[3], 3, scaled(150, 1000), false},
	} {
		name := x.name
		if x.kek {
			name += ", with a KEK"
		}
		t.Run(name, func(t *testing.T) {
			among(t, x.servers, func(i int, s *Setup) { s.Entries[0].Lifetime = 15 * time.Minute }, func(t *testing.T, l *league) {
				l.dieInARekey(x.death, x.members, x.kek)
			})
		})
	}
}

func (l *league) dieInARekey(d death, members int, kek bool) {
	t := l.t
	after(10 * time.Second)
	a, b := l.ks[0], l.ks[1]
	for i := range members {
		l.join(i, l.ks[i%len(l.ks)])
	}
	after(10 * time.Second)
	old, under := a.ring()
	var ends, due time.Time
	a.in(func(g *Group) { ends, due = g.ring.lastKey(), g.timing().next(g.ring, g.synced) })
	if d.prepare != nil {
		d.prepare(l.gms)
	}
	a.air.mu.Lock()
	a.air.slow = 5 * time.Millisecond // a batch of fifty
	a.air.mu.Unlock()
	time.Sleep(time.Until(due) - 5*time.Second)
	if kek {
		a.in(func(g *Group) {
			if err := g.rekey(g.now(), order{teks: g.everyTEK(), kek: true}); err != nil {
				t.Fatal(err)
			}
		})
	}
	has, sent := 0, 0
	for {
		begun := false
		a.in(func(g *Group) {
			if begun = g.round != nil; begun {
				sent = g.round.sent
			}
		})
		if time.Until(ends) < 30*time.Second {
			t.Fatal("the moment has never come")
		}
		if !begun {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		has = 0
		for _, m := range l.gms {
			if len(m.numbers()) > 0 {
				has++
			}
		}
		if sent == 1 { // whom the first transmission missed hears the second
			var busy bool
			a.in(func(g *Group) { busy = g.job != nil })
			if !busy {
				for _, m := range l.gms {
					m.off.Store(false)
				}
			}
		}
		if d.now(members, has, sent) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	a.kill()
	died := time.Now()
	for _, m := range l.gms {
		m.mute.Store(false)
		m.off.Store(false)
	}
	var late time.Duration // until everybody had a new key
	for time.Until(ends) > 31*time.Second {
		if slices.IndexFunc(l.gms, func(m *fakeMember) bool { return len(m.numbers()) == 0 || kek && m.kek() == under }) < 0 {
			late = time.Since(died)
			break
		}
		after(100 * time.Millisecond)
	}
	t.Logf("%d members, %d key servers: died with %d told, %d transmissions; all told %v after that, %v before the old key's end",
		members, len(l.ks), has, sent, late, time.Until(ends).Round(time.Second))
	if late == 0 && has < members {
		t.Fatal("not all told in time")
	}
	after(time.Until(ends) - 31*time.Second) // senders change over 30 s before the end
	if r := b.role(); r != coop.Primary {
		t.Fatalf("the second is %v", r)
	}
	holders := map[uint32]int{}
	for i, m := range l.gms {
		s := m.spis()
		for _, x := range s {
			holders[x]++
		}
		if m.wronged() || !slices.ContainsFunc(s, func(x uint32) bool { return !slices.Contains(old, x) }) {
			t.Fatalf("member %d has %x, %v", i, s, m.faults())
		}
	}
	for spi, n := range holders {
		if n != members && !slices.Contains(old, spi) {
			t.Errorf("%d of %d members have TEK %x", n, members, spi)
		}
	}
	_, now := b.ring()
	for i, m := range l.gms {
		if m.kek() != now || now == under {
			t.Fatalf("member %d has KEK %x, the group %x, the dead primary had %x", i, m.kek(), now, under)
		}
	}
	after(time.Hour)
	teks, _ := b.ring()
	for i, m := range l.gms {
		if !slices.Equal(m.spis(), teks) || m.wronged() {
			t.Fatalf("member %d has %x of %x an hour later, %v", i, m.spis(), teks, m.faults())
		}
	}
	b.in(func(g *Group) {
		if g.roster.len() != members || g.counters.MembersEjected > 0 {
			t.Errorf("%d members on the list, %d ejected", g.roster.len(), g.counters.MembersEjected)
		}
	})
}

// wronged reports faults beside a second copy of the last rekey: who doesn't answer gets it
// by two ways.
func (m *fakeMember) wronged() bool {
	return slices.ContainsFunc(m.faults(), func(err error) bool { return gdoi.ReasonOf(err) != gdoi.Replayed.String() })
}

// What waits for the actor is taken in turns, in order; that an SA has come is never lost.
func TestMailOfKeyServersIsTakenInTurns(t *testing.T) {
	b := newPeerBox()
	for i := range peerMailbox + 10 {
		b.put(peerMail{session: uint64(i), data: []byte{1}})
	}
	b.put(peerMail{session: peerMailbox, up: true})
	if b.lost.Load() != 10 {
		t.Errorf("%d messages lost", b.lost.Load())
	}
	for i := 0; i <= peerMailbox; {
		select {
		case <-b.ready:
		default:
			t.Fatalf("no word of what is left after %d", i)
		}
		list := b.take()
		if len(list) == 0 || len(list) > turn {
			t.Fatalf("%d at once", len(list))
		}
		for _, m := range list {
			if m.session != uint64(i) {
				t.Fatalf("%d in place of %d", m.session, i)
			}
			i++
		}
	}
	b.put(peerMail{data: []byte{1}})
	if l := b.take(); len(l) != 1 || b.messages != 0 {
		t.Errorf("%d, %d counted as waiting", len(l), b.messages)
	}
}

// Members come off the list one by one; the last one ends its ageing.
func TestMembersAreDroppedOneByOne(t *testing.T) {
	r := newRoster(newAckBook())
	now := time.Now()
	for i := range 100 {
		r.lives(r.join(gmAddr(i), gmAddr(i), now), now)
	}
	for k := range 100 {
		i := k * 37 % 100
		m := r.find(gmAddr(i))
		r.drop(m)
		r.drop(m)
		if r.find(gmAddr(i)) != nil || r.len() != 99-k || r.book.slot(gmAddr(i)) != nil || !m.gone {
			t.Fatalf("member %d is still there", i)
		}
	}
	if !r.ageing.IsZero() || r.published().Len() != 0 {
		t.Error("an empty list ages")
	}
}
