package ks

import (
	"slices"
	"testing"
	"time"

	"getvpn/ipsec"
)

// clear crypto gdoi ks members: members lose the KEK, are off the list, and find new keys
// beside the old ones, which end early; with now they delete everything.
func TestClearMembers(t *testing.T) {
	for _, now := range []bool{false, true} {
		live(t, func() *Setup { return lifeSetup(time.Hour, unicast(1, 10*time.Second)) }, func(t *testing.T, l *life) {
			m, n := l.join(t, 0), l.join(t, 1)
			old, kek := m.spis(), l.group().KEK.SPI
			n.off.Store(true) // the first message is lost for this one
			l.g.ClearMembers(now)
			after(time.Second)
			n.off.Store(false)
			after(10 * time.Second)
			for _, x := range l.gms {
				if r := x.last(); r == nil || !r.Delete.AllKEKs || r.Delete.AllTEKs != now || r.Offer != nil || len(x.keks) != 0 {
					t.Fatalf("now %v: %+v", now, r)
				}
			}
			if got := m.spis(); now != (len(got) == 0) {
				t.Errorf("now %v: %v", now, got)
			}
			if g := l.group(); g.Members.Len() != 0 || g.KEK.SPI == kek {
				t.Errorf("now %v: %d members", now, g.Members.Len())
			}
			if e := l.events(); e["GMDeleted"] != 2 || e["KSReinitFinish"] != 1 {
				t.Errorf("%v", e)
			}
			l.join(t, 0)
			if got := m.spis(); slices.Contains(got, old[0]) != !now {
				t.Errorf("now %v: registered again with %v, before %v", now, got, old)
			}
			after(4 * time.Minute)
			if slices.Contains(l.ringSPIs(), old[0]) {
				t.Error("the old TEK lives on")
			}
			l.g.Rekey(true, false)
			after(time.Second)
			if r := m.last(); r.Seq != 1 || r.Offer == nil {
				t.Errorf("no rekey under the new KEK: %+v", r)
			}
		})
	}
}

// clear crypto gdoi: everything is gone, nobody is told, keys come with the next member.
func TestClear(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()
		if err := l.g.Clear(); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if g := l.group(); g.Members.Len() != 0 || g.KEK != nil || len(g.Policies[0].TEKs) != 0 || len(m.numbers()) != 0 {
			t.Errorf("%+v", g)
		}
		if err := l.g.Rekey(true, false); err == nil {
			t.Error("a rekey without keys")
		}
		l.join(t, 0)
		if e := l.events(); e["KSClearRegister"] != 1 || e["KSFirstGM"] != 2 {
			t.Errorf("%v", e)
		}
		if slices.Equal(old, l.ringSPIs()) {
			t.Error("the old keys")
		}
		l.g.Rekey(true, false)
		after(time.Second)
		if r := m.last(); r == nil || r.Seq != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// clear crypto gdoi ks policy: new KEK and TEKs at every member, the list stays.
func TestClearPolicy(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old, kek := m.spis(), l.group().KEK.SPI
		if err := l.g.ClearPolicy(); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if r := m.last(); !slices.Equal(r.Delete.TEKs, old) || r.Offer.KEK == nil || !slices.Equal(m.spis(), l.ringSPIs()) {
			t.Errorf("%+v", r)
		}
		if g := l.group(); g.KEK.SPI == kek || g.Members.Len() != 1 {
			t.Errorf("%+v", g)
		}
	})
}

// clear crypto gdoi replay: the pseudotime goes on and is told at once.
func TestClearReplay(t *testing.T) {
	setup := func() *Setup {
		s := daily()
		s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100}
		return s
	}
	live(t, setup, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		l.g.book.drops[ackBadHash].Add(3)
		after(10 * time.Minute)
		if err := l.g.ClearReplay(); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if r := m.last(); r == nil || r.Offer.Clock.Pseudotime.Round(time.Second) != 10*time.Minute || l.group().Rejected["ack-bad-hash"] != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// A group that is given up: members lose the KEK, keep their TEKs, and look elsewhere.
func TestRetire(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		l.g.Retire()
		if r := m.last(); r == nil || !r.Delete.AllKEKs || r.Delete.AllTEKs || len(m.spis()) != 1 || len(m.keks) != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// Sender IDs run out: a warning at three quarters, then everybody loses the KEK and comes
// back for new keys, numbers from 0. No number is given out under an old key any more.
// In an interop group everybody deletes everything.
func TestSenderIDsRunOut(t *testing.T) {
	for _, bits := range []int{8, 12} {
		interop := bits == 12
		setup := func() *Setup {
			s := lifeSetup(time.Hour, unicast(1, 10*time.Second))
			s.Entries[0].Transform, s.SIDBits, s.Group.Interop = gcm128, bits, interop
			return s
		}
		live(t, setup, func(t *testing.T, l *life) {
			m, n := l.join(t, 0), l.join(t, 1)
			old := l.ringSPIs()
			low := 0
			for i := 2; i < 1<<bits; i++ {
				if i == 1<<bits*3/4-1 {
					low = l.events()["KSSIDsLow"]
				}
				if i == 1<<bits-1 {
					n.off.Store(true) // who misses the first message
				}
				l.join(t, 0)
			}
			after(time.Second)
			n.off.Store(false)
			if e := l.events(); low != 0 || e["KSSIDsLow"] != 1 || e["KSReinitFinish"] != 1 || e["KSUnsolicitedAck"] != 0 {
				t.Errorf("%d bits: warned %d before, then %v", bits, low, e)
			}
			after(10 * time.Second)
			for _, x := range []*fakeMember{m, n} {
				if r := x.last(); r == nil || r.Delete.AllTEKs != interop || !r.Delete.AllKEKs || r.Offer != nil || (len(x.spis()) == 0) != interop {
					t.Fatalf("%d bits: %+v", bits, r)
				}
			}
			d := l.register(t, m.addr.Addr(), ours())
			if len(d.KD.TEKs) != 1 {
				t.Errorf("%d bits: %d TEKs with new Sender IDs", bits, len(d.KD.TEKs))
			}
			m.install(t, d)
			if !slices.Equal(d.KD.SIDs.Values, []uint32{0}) || slices.Equal(old, l.ringSPIs()) || l.group().Members.Len() != 1 {
				t.Errorf("%d bits: %+v", bits, d.KD.SIDs)
			}
			l.join(t, 1)
			l.g.Rekey(true, false)
			after(time.Second)
			if a, b := m.spis(), n.spis(); len(a) == 0 || !slices.Equal(a, b) || m.last().Seq != 1 {
				t.Error("the group isn't whole again")
			}
		})
	}
}

// A rekey frees no Sender ID: members keep theirs.
func TestRekeyFreesNoSenderID(t *testing.T) {
	setup := func() *Setup {
		s := daily()
		s.Entries[0].Transform = gcm128
		return s
	}
	live(t, setup, func(t *testing.T, l *life) {
		l.join(t, 0)
		for range 20 {
			l.g.Rekey(true, true)
			after(2 * time.Second)
		}
		if d := l.register(t, gmAddr(0), ours()); !slices.Equal(d.KD.SIDs.Values, []uint32{1}) {
			t.Errorf("%+v", d.KD.SIDs)
		}
	})
}
