package daemon

// Life with several key servers under traffic: restarts in turn, roles reset by command,
// key servers that go for good, redundancy at one side only, registrations that are
// refused.

import (
	"testing"
	"time"

	"getvpn/model"
	"getvpn/model/event"
)

// Key servers are upgraded one after the other, the secondary first or the primary first,
// by unicast and multicast rekeys, with Sender IDs and without: no packet is lost, nobody
// registers again, and keys roll on.
func TestKeyServersRestartInTurnUnderTraffic(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		conf      string
		transport string
		order     []int
	}{
		"the secondary first, counter mode, unicast": {lifeKS, unicast, []int{1, 0}},
		"the primary first, counter mode, multicast": {lifeKS, multicast, []int{0, 1}},
		"the primary first, CBC, unicast":            {edit(t, lifeKS, "transform-set T esp-gcm 128", cbcSet), unicast, []int{0, 1}},
		"the secondary first, CBC, multicast":        {edit(t, lifeKS, "transform-set T esp-gcm 128", cbcSet), multicast, []int{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lively(t, 608, calm, func(l *life) {
				kss := l.servers(2, pushed(t, x.conf, x.transport))
				gms := l.spread(3, 2)
				l.registered()
				l.run(time.Minute)
				l.flow(200 * time.Millisecond)
				begin := time.Now()
				for _, i := range x.order {
					kss[i].stop()
					up := l.settled(kss[1-i]) // the other one leads, at once or after an election
					up.command("crypto gdoi ks rekey replace-now")
					l.run(90 * time.Second)
					kss[i].start()
					l.settled(kss...)
					l.run(time.Minute)
				}
				before := map[uint32]bool{}
				for _, g := range gms {
					before[g.spi()] = true
				}
				l.settled(kss...).command("crypto gdoi ks rekey replace-now")
				l.run(time.Minute)
				for _, g := range gms {
					if before[g.spi()] || g.spi() != gms[0].spi() {
						t.Errorf("%s sends with %#x", g.name, g.spi())
					}
				}
				l.flawless()
				l.flow(time.Second)
				l.run(2 * time.Hour)
				for _, g := range gms {
					if n := len(told[event.GMRegistrationComplete](g, begin)); n != 0 {
						t.Errorf("%s registered %d times", g.name, n)
					}
				}
				for _, k := range kss {
					if s := k.served(); s.Members.Len() != 3 || k.coop().Gate != model.CoopOpen {
						t.Errorf("%s lists %d members", k.name, s.Members.Len())
					}
				}
				l.flawless()
			})
		})
	}
}

// Guide l.2303-2322: the command at a secondary changes nothing while there is a primary;
// at the primary all elect, and the highest priority wins, which may be its own again.
func TestCoopRoleIsReset(t *testing.T) {
	t.Parallel()
	lively(t, 609, calm, func(l *life) {
		kss := l.servers(3, pushed(t, lifeKS, unicast))
		l.spread(2, 3)
		l.registered()
		l.run(time.Minute)
		l.flow(500 * time.Millisecond)
		kek, begin := kss[0].served().KEK.SPI, time.Now()
		elections := func(since time.Time) (n int) {
			for _, k := range kss {
				n += len(told[event.CoopElection](k, since))
			}
			return n
		}
		kss[1].command("clear crypto gdoi group G ks coop role")
		l.run(time.Minute)
		if n := elections(begin); n != 0 || kss[0].coop().Role != model.CoopPrimary || kss[1].coop().Role != model.CoopSecondary {
			t.Errorf("at a secondary: %d elections, roles %v, %v", n, kss[0].coop().Role, kss[1].coop().Role)
		}
		begin = time.Now()
		kss[0].command("clear crypto gdoi ks coop role")
		l.run(time.Minute)
		if n := elections(begin); n != 3 || kss[0].coop().Role != model.CoopPrimary || len(told[event.CoopPrimaryUsurped](kss[0], begin)) != 0 {
			t.Errorf("at the primary with the highest priority: %d elections, %v", n, kss[0].coop().Role)
		}
		if kss[0].served().KEK.SPI != kek {
			t.Error("another KEK")
		}
		kss[2].configure(atCoop + "local priority 200")
		begin = time.Now()
		kss[0].command("clear crypto gdoi ks coop role")
		l.run(time.Minute)
		if n := elections(begin); n != 3 || kss[2].coop().Role != model.CoopPrimary || kss[0].coop().Role != model.CoopSecondary || len(told[event.CoopPrimaryUsurped](kss[0], begin)) != 1 {
			t.Errorf("at another primary: %d elections, %v", n, kss[2].coop().Role)
		}
		l.flawless()
	})
}

// A key server that is retired says farewell: a secondary's going is told at once and
// changes nothing, the primary's is followed by an election at once.
func TestKeyServerLeavesForGood(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string]string{"redundancy": atLocal + "no redundancy", "the group": "no crypto gdoi group G"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lively(t, 610, calm, func(l *life) {
				kss := l.servers(3, pushed(t, edit(t, lifeKS, "transform-set T esp-gcm 128", cbcSet), unicast))
				gms := l.members(2, asks(t, 2, 3)) // with the second
				l.registered()
				l.run(time.Minute)
				l.flow(500 * time.Millisecond)
				begin := time.Now()
				kss[2].configure(lines)
				l.run(time.Second)
				for _, k := range kss[:2] {
					if len(told[event.CoopUnreachable](k, begin)) != 1 || len(told[event.CoopElection](k, begin)) != 0 || k.peer(kss[2]).Status != model.CoopDead {
						t.Errorf("%s: %+v", k.name, k.peer(kss[2]))
					}
				}
				l.run(30 * time.Second)
				begin = time.Now()
				kss[0].configure(lines)
				l.wait(5*time.Second, "the second leads", func() bool { return kss[1].coop().Role == model.CoopPrimary })
				for _, k := range []*simNode{kss[0], kss[2]} {
					if g := k.served(); g.Coop != nil {
						t.Errorf("%s: %+v", k.name, g.Coop)
					}
				}
				for _, p := range []string{"192.0.2.1", "192.0.2.3"} {
					kss[1].configure(atCoop + "no peer address ipv4 " + p)
				}
				l.run(time.Minute)
				if e := told[event.CoopPeerRemoved](kss[1], begin); len(e) != 2 || len(kss[1].coop().Peers) != 0 {
					t.Errorf("%+v", e)
				}
				kss[1].command("crypto gdoi ks rekey replace-now")
				l.run(time.Minute)
				if gms[0].spi() == 0 || gms[0].spi() != gms[1].spi() || gms[0].spi() != kss[1].served().Policies[0].TEKs[0].SPI {
					t.Errorf("members send with %#x and %#x", gms[0].spi(), gms[1].spi())
				}
				l.flawless()
			})
		})
	}
}

// Redundancy at one of two key servers only: it leads alone, after the time of an
// election, the other goes on alone. With redundancy at both they become one without a lost packet.
func TestRedundancyAtOneSideOnly(t *testing.T) {
	t.Parallel()
	lively(t, 611, calm, func(l *life) {
		conf := edit(t, pushed(t, lifeKS, unicast), "transform-set T esp-gcm 128", cbcSet)
		a, b := l.server(1, cooperative(t, conf, 1, 2)), l.server(2, alone(t, conf, 2))
		l.settled(a)
		if up := when[event.CoopBecamePrimary](a, time.Time{}); len(up) != 1 {
			t.Errorf("primary at %v", up)
		}
		gms := []*simNode{l.gm("gm1", "198.51.100.1", lifeGM), l.gm("gm2", "198.51.100.2", lifeGM),
			l.gm("gm3", "198.51.100.3", edit(t, lifeGM, "192.0.2.1", "192.0.2.2")), l.gm("gm4", "198.51.100.4", edit(t, lifeGM, "192.0.2.1", "192.0.2.2"))}
		l.traffic.Pairs(gms[0].site, gms[1].site)
		l.traffic.Pairs(gms[2].site, gms[3].site)
		l.registered()
		l.flow(500 * time.Millisecond)
		l.run(2 * time.Minute)
		if p := a.peer(b); p.Status == model.CoopAlive || p.Role != model.CoopElecting || a.coop().Role != model.CoopPrimary || b.served().Coop != nil {
			t.Errorf("%+v", p)
		}
		if gms[0].spi() == gms[2].spi() {
			t.Error("both have the same keys")
		}
		b.configure("crypto gdoi group G\n server local\n" + redundancy(2, 2))
		l.settled(a, b)
		l.run(2 * time.Minute)
		for _, m := range gms {
			if m.spi() == 0 || m.spi() != gms[0].spi() {
				t.Errorf("%s sends with %#x, gm1 with %#x", m.name, m.spi(), gms[0].spi())
			}
		}
		l.flawless()
	})
}

// While key servers elect, and while a secondary's announcements are stale, nobody
// registers there, each time with a message of its own, and the member is told nothing
// that it would stop at: it goes on to the next key server or comes again.
func TestRegistrationsRefusedByCooperativeKeyServers(t *testing.T) {
	t.Parallel()
	lively(t, 612, calm, func(l *life) {
		kss := l.servers(2, timed(t, 86400, 100))
		gm := l.gm("gm1", "198.51.100.1", asks(t, 2, 2))
		l.registered()
		l.run(5 * time.Minute)
		kss[1].clock.Suspend(50 * time.Second)
		l.wait(2*time.Minute, "announcements are stale", func() bool { return kss[1].coop().Gate == model.CoopGateStale })
		begin := time.Now()
		gm.command("clear crypto isakmp")
		if with, ok := gm.joins(); !ok || with != kss[0].addr || len(told[event.CoopBlockedStale](kss[1], begin)) != 1 {
			t.Errorf("registered with %v, %v", with, ok)
		}
		if c := kss[1].coop(); c.Invalid == 0 || c.Retries != 3 || kss[1].served().Rejected["coop-stale"] == 0 {
			t.Errorf("%+v, refused %v", c, kss[1].served().Rejected)
		}
		// The command opens registrations (guide, l.2098).
		kss[1].command("clear crypto gdoi group G")
		if g := kss[1].coop().Gate; g != model.CoopOpen {
			t.Errorf("after clear crypto gdoi: %v", g)
		}
		if with, ok := gm.joins(); !ok || with != kss[1].addr {
			t.Errorf("registered with %v, %v", with, ok)
		}
		// It leads itself: its own pseudotime counts.
		l.wait(2*time.Minute, "announcements are stale again", func() bool { return kss[1].coop().Gate == model.CoopGateStale })
		l.apart(kss[:1], kss[1:])
		l.wait(3*time.Minute, "it leads", func() bool { return kss[1].coop().Role == model.CoopPrimary })
		if g := kss[1].coop().Gate; g != model.CoopOpen {
			t.Errorf("as primary: %v", g)
		}
	})
}
