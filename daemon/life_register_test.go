package daemon

// The life of a group without rekeys: registrations alone carry it.

import (
	"testing"
	"time"

	"getvpn/model/event"
)

// Three members, a TEK life of 15 minutes, three hours, no rekey message: each change of
// keys is by re-registration in time, and no packet is lost, dropped, doubled or clear.
func TestThreeHoursByRegistrationAloneLoseNothing(t *testing.T) {
	t.Parallel()
	lively(t, 1, rough, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, lifeKS, "lifetime seconds 3600", "lifetime seconds 900"))
		gms := l.members(3, lifeGM)
		l.registered()
		l.flow(500 * time.Millisecond)
		begin := time.Now()
		l.run(3 * time.Hour)
		r := l.flawless()
		for _, g := range gms {
			if n := r.Switches[g.name]; n < 11 || n > 15 {
				t.Errorf("%s changed its sending SA %d times in 12 lives", g.name, n)
			}
			if n := r.LiveSAs[g.name]; n > 2 {
				t.Errorf("%s had %d SAs at once", g.name, n)
			}
			if n := len(told[event.GMRegistrationComplete](g, begin)); n < 11 {
				t.Errorf("%s registered %d times", g.name, n)
			}
		}
		if n := len(ks.listed()); n != 3 {
			t.Errorf("%d members at the key server", n)
		}
		if p := l.rekeys(begin); len(p) != 0 {
			t.Errorf("%d rekeys of a group without them", len(p))
		}
		t.Logf("%d packets", r.Sent)
	})
}

// "clear crypto gdoi" at a member: it registers again while what it holds stays in use.
func TestClearAtAMemberLosesNothing(t *testing.T) {
	t.Parallel()
	lively(t, 2, calm, func(l *life) {
		l.ks("ks", "192.0.2.1", lifeKS)
		gms := l.members(3, lifeGM)
		l.registered()
		l.flow(50 * time.Millisecond)
		for range 20 {
			begin := time.Now()
			if err := gms[1].d.ClearGDOI("G"); err != nil {
				t.Fatal(err)
			}
			l.wait(time.Minute, "a registration", func() bool { return len(told[event.GMRegistrationComplete](gms[1], begin)) > 0 })
		}
		l.run(time.Minute)
		l.flawless()
	})
}

// A member's daemon is restarted: its hosts' packets stop at its kernel, never in clear,
// and nobody else loses one; afterwards everything flows, under
// a counter window too, also where no Sender ID tells the new process from the old one:
// the guide's member is dropped then until it has sent as much as before, or the next
// rekey (l.117).
func TestRestartOfAMemberIsItsOwnAffair(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"transform-set T esp-gcm 128", cbcSet} {
		lively(t, 3, calm, func(l *life) {
			l.ks("ks", "192.0.2.1", edit(t, lifeKS, "transform-set T esp-gcm 128", set))
			gms := l.members(3, lifeGM)
			l.registered()
			l.flow(50 * time.Millisecond)
			l.run(time.Minute)
			gms[2].restart(10 * time.Second)
			l.registered()
			l.run(time.Second)
			l.traffic.Stop()
			r := l.traffic.Report()
			if r.Clear != 0 || r.RepeatedIVs != 0 {
				t.Errorf("%v", &r)
			}
			for _, g := range gms[:2] {
				if len(r.Drops[g.name]) > 0 {
					t.Errorf("%s dropped %v", g.name, r.Drops[g.name])
				}
			}
			l.flow(50 * time.Millisecond)
			l.run(5 * time.Minute)
			l.flawless()
		})
	}
}

// The key server is away for less than a TEK's life: members find it again in time.
func TestKeyServerAwayForHalfALife(t *testing.T) {
	t.Parallel()
	lively(t, 4, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, lifeKS, "lifetime seconds 3600", "lifetime seconds 900"))
		l.members(3, lifeGM)
		l.registered()
		l.flow(500 * time.Millisecond)
		l.run(time.Minute)
		l.net.Cut(ks.addr, netipAny)
		l.run(7 * time.Minute)
		l.net.Heal(ks.addr, netipAny)
		l.run(time.Hour)
		l.flawless()
	})
}
