package ks

import (
	"slices"
	"testing"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/model/event"
)

// called counts the members that were told to lose the KEK, and how often at most.
func (l *league) called() (members, most int) {
	for _, m := range l.gms {
		n := 0
		m.mu.Lock()
		for _, r := range m.rekeys {
			if r.Delete.AllKEKs {
				n++
			}
		}
		m.mu.Unlock()
		if most = max(most, n); n > 0 {
			members++
		}
	}
	return members, most
}

// All members are to register again while one of three key servers is down: accepted,
// put off with a line that says whom it waits for, done once when that one is back. There
// is one new KEK.
func Test_coop_03_ReauthenticationWaitsForAll(t *testing.T) {
	among(t, 3, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, c := l.ks[0], l.ks[2]
		for i := range 6 {
			l.join(i, l.ks[i%2])
		}
		c.kill()
		after(2 * time.Minute)
		_, kek := a.ring()
		a.events()
		for range 2 {
			if err := a.g.ClearMembers(false); err != nil {
				t.Fatal(err)
			}
		}
		if e := told[event.CoopMembersPostponed](a); len(e) != 2 || e[0].Peers != c.addr.String() {
			t.Errorf("told: %+v", e)
		}
		after(5 * time.Minute)
		if n, _ := l.called(); n != 0 {
			t.Errorf("%d members were called", n)
		}
		if _, k := a.ring(); k != kek {
			t.Error("another KEK")
		}
		c.restart(c.setup)
		after(30 * time.Second)
		if n, most := l.called(); n != 6 || most != 1 {
			t.Errorf("%d members were called, %d times", n, most)
		}
		if e := a.events(); e["CoopMembersCalled"] != 1 || e["KSReinitFinish"] != 1 {
			t.Errorf("told: %v", e)
		}
		_, now := a.ring()
		if now == kek {
			t.Error("the KEK is the old one")
		}
		for i := range 6 {
			if m := l.join(i, l.ks[i%3]); m.kek() != now {
				t.Errorf("member %d has another KEK", i)
			}
		}
		after(time.Hour)
		if n, most := l.called(); n != 6 || most != 1 {
			t.Errorf("%d members were called, %d times, an hour later", n, most)
		}
		for i, s := range l.ks {
			if _, k := s.ring(); k != now {
				t.Errorf("ks%d has another KEK", i+1)
			}
		}
	})
}

// The order outlives the primary that took it, and the loss of that role in a merge.
func Test_coop_03_TheOrderIsKept(t *testing.T) {
	for _, how := range []string{"takeover", "restart", "merge", "now"} {
		t.Run(how, func(t *testing.T) {
			among(t, 3, nil, func(t *testing.T, l *league) {
				after(10 * time.Second)
				for i := range 6 {
					l.join(i, l.ks[i%3])
				}
				after(5 * time.Second)
				l.apart(0, 0, 1)
				after(100 * time.Second)
				a, b, c := l.ks[0], l.ks[1], l.ks[2]
				from := a
				if how == "merge" {
					from = c
				}
				if err := from.g.ClearMembers(false); err != nil {
					t.Fatal(err)
				}
				after(5 * time.Second)
				want := 6
				switch how {
				case "takeover":
					a.kill()
					after(2 * time.Minute)
					if b.role() != coop.Primary {
						t.Fatalf("the second is %v", b.role())
					}
					a.restart(a.setup)
				case "restart":
					a.stop()
					after(3 * time.Second)
					a.restart(a.setup)
					after(30 * time.Second)
				case "now":
					if err := a.g.ClearMembers(true); err != nil {
						t.Fatal(err)
					}
					after(30 * time.Second)
					want, _ = l.called()
				}
				l.apart(0, 0, 0)
				after(2 * time.Minute)
				if n, most := l.called(); n != want || most != 1 {
					t.Errorf("%d members of %d were called, %d times", n, want, most)
					for i, m := range l.gms {
						t.Errorf("member %d: rekeys %v, KEK %x, %v", i, m.numbers(), m.kek(), m.faults())
					}
				}
				var keks [][16]byte
				for _, s := range l.ks {
					_, k := s.ring()
					keks = append(keks, k)
					s.in(func(g *Group) {
						if g.again {
							t.Errorf("ks%d still waits", s.i+1)
						}
					})
				}
				if len(slices.Compact(keks)) != 1 {
					t.Errorf("KEKs %x", keks)
				}
			})
		})
	}
}
