package daemon

// What the management model says of cooperative key servers is right at all of them
// within one announcement after each change.

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/model"
)

// announced is how long a change may take to be known everywhere.
const announced = 20 * time.Second

// differs is what key servers that hear each other show wrongly of each other; "": nothing.
func differs(list []*simNode) string {
	primary := list[0].coop().Primary
	leads := 0
	for _, a := range list {
		x := a.coop()
		until, every := time.Until(x.Next), x.Periodic
		if x.Role == model.CoopPrimary {
			leads++
			every = x.Refresh
		}
		switch {
		case x.Local != a.addr || x.Primary != primary || (x.Role == model.CoopPrimary) != (primary == a.addr) || x.Role == model.CoopElecting:
			return a.name + ": role or primary"
		case x.Gate != model.CoopOpen || x.Retries != 0 || x.Invalid != 0 || x.Reinit:
			return a.name + ": gate, requests, bad announcements"
		case until < 0 || until > every || x.Sequence == 0 || x.Version != [3]uint8{1, 0, 0} || x.Protocol != [3]uint8{coop.Major, coop.Minor, 0}:
			return a.name + ": timer, number, versions"
		}
		for _, b := range list {
			if a == b {
				continue
			}
			p, y := a.peer(b), b.coop()
			own := 0
			for _, m := range b.listed() {
				if !m.KeyServer.IsValid() {
					own++
				}
			}
			switch {
			case p.Role != y.Role || p.Status != model.CoopAlive || !p.IKE:
				return a.name + " of " + b.name + ": role, status, IKE"
			case p.Priority != y.Priority || p.Version != y.Version || p.Protocol != y.Protocol || !slices.Equal(p.SIDs, y.SIDs) || p.Overlap:
				return a.name + " of " + b.name + ": priority, versions, Sender IDs"
			case int(p.Registered) != own || a.served().Members.Len() != b.served().Members.Len():
				return a.name + " of " + b.name + ": members"
			case p.Sequence == 0 || p.Sequence > y.Sequence || p.Counters.AnnRcvd == 0 || p.Counters.AnnSent == 0 || p.Counters.OctetsRcvd == 0 || p.Counters.OctetsSent == 0:
				return a.name + " of " + b.name + ": numbers, counters"
			}
		}
	}
	if leads != 1 {
		return "not one primary"
	}
	return ""
}

func TestModelOfCooperativeKeyServersWithinAnAnnouncement(t *testing.T) {
	t.Parallel()
	lively(t, 606, steady, func(l *life) {
		kss := l.servers(3, edit(t, pushed(t, lifeKS, unicast), "transform-set T esp-gcm 128", cbcSet))
		a, b, c := kss[0], kss[1], kss[2]
		gms := l.spread(2, 2)
		l.registered()
		l.run(time.Minute)
		seen := func(p model.CoopPeer, s model.CoopStatus, r model.CoopRole, ike bool) bool {
			return p.Status == s && p.Role == r && p.IKE == ike
		}
		for _, x := range []struct {
			what  string
			do    func()
			found time.Duration // until the change is noticed: nobody tells of a crash
			here  []*simNode    // who hears each other then
			ok    func() bool   // beside
		}{
			{"nothing", func() {}, 0, kss, func() bool {
				x, y := a.peer(b).Counters, b.peer(a).Counters
				return a.coop().Role == model.CoopPrimary && a.coop().Priority == 100 && x.AnnRcvd == y.AnnSent && x.AnnSent == y.AnnRcvd &&
					x.AnnRcvdAsking == y.AnnSentAsking && x.OctetsRcvd == y.OctetsSent && x.OctetsSent == y.OctetsRcvd
			}},
			{"a member registers", func() { l.gm("gm3", "198.51.100.3", edit(t, lifeGM, "192.0.2.1", "192.0.2.3")) }, 0, kss,
				func() bool { return a.peer(c).Registered == 1 && b.peer(c).Registered == 1 }},
			{"a member moves", func() {
				l.net.Cut(b.addr, gms[1].addr)
				gms[1].command("clear crypto isakmp")
				gms[1].command("clear crypto gdoi")
			}, time.Minute, kss, func() bool { return b.peer(a).Registered == 2 && a.peer(b).Registered == 0 }},
			{"a priority", func() { c.configure(atCoop + "local priority 150") }, 0, kss,
				func() bool {
					return a.peer(c).Priority == 150 && b.peer(c).Priority == 150 && a.coop().Role == model.CoopPrimary
				}},
			{"timers", func() {
				a.configure(atCoop + "protocol timeout refresh 10")
				b.configure(atCoop + "protocol timeout periodic 50")
			}, 0, kss, func() bool { return a.coop().Refresh == 10*time.Second && b.coop().Periodic == 50*time.Second }},
			{"the protocol's form", func() {
				for _, n := range kss {
					n.configure(atCoop + "protocol version optimize")
				}
			}, 0, kss, func() bool { return a.peer(b).Optimize && b.peer(c).Optimize && c.peer(a).Optimize }},
			{"the role is reset at a secondary", func() { b.command("clear crypto gdoi ks coop role") }, 0, kss,
				func() bool { return a.coop().Role == model.CoopPrimary && b.peer(a).Counters.AnnSentAsking > 1 }},
			{"the role is reset at the primary", func() { a.command("clear crypto gdoi ks coop role") }, 0, kss,
				func() bool { return c.coop().Role == model.CoopPrimary }},
			{"the primary ends in order", c.stop, 0, kss[:2],
				func() bool {
					return a.coop().Role == model.CoopPrimary && seen(a.peer(c), model.CoopDead, model.CoopElecting, false) && seen(b.peer(c), model.CoopDead, model.CoopElecting, false)
				}},
			{"it comes back", c.start, 0, kss, func() bool { return c.coop().Role == model.CoopSecondary }},
			{"it is cut off", func() { l.apart(kss[2:], kss[:2]) }, time.Minute, kss[:2],
				func() bool {
					return seen(a.peer(c), model.CoopDead, model.CoopElecting, false) && seen(c.peer(a), model.CoopDead, model.CoopElecting, false)
				}},
			{"it is alone for long", func() {}, time.Minute, kss[2:],
				func() bool { return c.coop().Role == model.CoopPrimary && c.coop().Primary == c.addr }},
			{"it is reached again", func() { l.together(kss[2:], kss[:2]) }, time.Minute, kss, func() bool { return a.coop().Role == model.CoopPrimary && c.coop().Role == model.CoopSecondary }},
			{"a key server is taken off", func() {
				a.configure(atLocal + "no redundancy")
				for _, n := range kss[1:] {
					n.configure(atCoop + "no peer address ipv4 192.0.2.1")
				}
			}, 2 * time.Minute, kss[1:], func() bool {
				return a.served().Coop == nil && len(b.coop().Peers) == 1 && len(c.coop().Peers) == 1 && !b.coop().Reinit && !c.coop().Reinit && differs(kss[1:]) == ""
			}},
		} {
			x.do()
			if x.found > 0 {
				l.wait(x.found, x.what, x.ok)
			}
			l.run(announced)
			if why := differs(x.here); why != "" || !x.ok() {
				t.Errorf("%s: %q, %v", x.what, why, x.ok())
				for _, n := range x.here {
					t.Logf("%s: %+v", n.name, n.coop())
				}
			}
		}
	})
}

// What is refused and what is sent again is counted, and counters go back to nothing by
// command: at the key server where it is given only.
func TestCountersOfCooperativeKeyServers(t *testing.T) {
	t.Parallel()
	lively(t, 607, steady, func(l *life) {
		conf := pushed(t, lifeKS, unicast)
		kss := []*simNode{l.server(1, cooperative(t, conf, 1, 3)), l.server(2, cooperative(t, conf, 2, 3))}
		f := l.foreign("192.0.2.3", kss, nil)
		defer f.close()
		a, b := kss[0], kss[1]
		l.settled(a, b)
		l.run(time.Minute)
		its := func() model.CoopPeer {
			for _, p := range a.coop().Peers {
				if p.Addr == f.addr {
					return p
				}
			}
			return model.CoopPeer{}
		}
		was := its()
		for _, data := range [][]byte{{}, {coop.Major}, bytes.Repeat([]byte{coop.Major}, 64<<10-600)} { // nothing in it of a group
			f.do(func(time.Time) coop.Output { return coop.Output{Send: []coop.Send{{To: a.addr, Data: data}}} })
		}
		l.run(time.Second)

		if is := its(); is.Status != model.CoopAlive || is.Role != was.Role || is.Sequence != was.Sequence {
			t.Errorf("garbage changes something: %+v", is)
		}
		// Rows of members that are lost on the way are sent again.
		l.net.Cut(a.addr, b.addr)
		l.gm("gm1", "198.51.100.1", asks(t, 1, 1))
		l.wait(time.Minute, "a member of the first", func() bool { return a.served().Members.Len() == 1 })
		l.run(3 * time.Second)
		l.net.Heal(a.addr, b.addr)
		l.wait(announced, "the second hears of it", func() bool { return b.served().Members.Len() == 1 })
		if n := a.peer(b).Counters.Resent; n == 0 {
			t.Error("nothing was sent again")
		}
		a.command("clear crypto gdoi ks coop counters")
		l.run(100 * time.Millisecond)
		if n := a.peer(b).Counters; n.AnnSent > 1 || n.AnnRcvd > 1 || n.Resent != 0 || n.RcvdDrops != 0 || n.SentDrops != 0 {
			t.Errorf("after they were cleared: %+v", n)
		}
		if n := b.peer(a).Counters; n.AnnSent < 5 {
			t.Errorf("the other's too: %+v", n)
		}
		l.run(time.Minute)
		if n := a.peer(b).Counters; n.AnnSent < 3 || n.AnnRcvd < 3 {
			t.Errorf("a minute later: %+v", n)
		}
	})
}
