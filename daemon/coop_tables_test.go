package daemon

// The rows of config's table of changes that are about cooperative key servers, on whole
// daemons with two members under traffic, and the guide's example of sequence numbers
// with two key servers.

import (
	"net/netip"
	"testing"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/model"
	"getvpn/model/event"
)

const atCoop = atLocal + "redundancy\n   "

// coopRow is a change at key servers; look enters it and looks at what comes of it.
type coopRow struct {
	name   string
	start  func(*testing.T) (first, second string) // configurations
	lossy  bool                                    // members lose their keys for a while, as the change says
	rekeys bool                                    // it sends one
	look   func(s *coopLook)
}

// coopLook is a row that is being looked at.
type coopLook struct {
	*life
	a, b  *simNode // key servers
	gms   []*simNode
	old   uint32 // SPI before the change
	begin time.Time
}

// untouched wants that members notice nothing.
func (s *coopLook) untouched() {
	s.t.Helper()
	for _, m := range s.gms {
		if m.spi() != s.old || len(told[event.GMRegistrationComplete](m, s.begin)) != 0 {
			s.t.Errorf("%s noticed: sends with %#x, before %#x", m.name, m.spi(), s.old)
		}
	}
}

// roles wants these two.
func (s *coopLook) roles(a, b model.CoopRole) {
	s.t.Helper()
	if x, y := s.a.coop().Role, s.b.coop().Role; x != a || y != b {
		s.t.Errorf("roles %v and %v, want %v and %v", x, y, a, b)
	}
}

// cbcPair are two cooperative key servers without Sender IDs.
func cbcPair(t *testing.T) (first, second string) {
	conf := edit(t, pushed(t, lifeKS, unicast), "transform-set T esp-gcm 128", cbcSet)
	return cooperative(t, conf, 1, 2), cooperative(t, conf, 2, 2)
}

// sidPair are two whose Sender IDs are configured.
func sidPair(t *testing.T) (first, second string) {
	conf := pushed(t, lifeKS, unicast)
	return edit(t, cooperative(t, conf, 1, 2), "  redundancy\n", "  identifier\n   range 0 - 9\n  redundancy\n"),
		edit(t, cooperative(t, conf, 2, 2), "  redundancy\n", "  identifier\n   range 10 - 19\n  redundancy\n")
}

var coopRows = []coopRow{
	{name: "coop-on", start: func(t *testing.T) (first, second string) {
		conf := edit(t, pushed(t, lifeKS, unicast), "transform-set T esp-gcm 128", cbcSet)
		return alone(t, conf, 1), alone(t, conf, 2)
	}, look: func(s *coopLook) {
		for i, n := range []*simNode{s.a, s.b} {
			n.configure("crypto gdoi group G\n server local\n" + redundancy(i+1, 2))
		}
		if g := s.a.coop().Gate; g != model.CoopGateElection {
			s.t.Errorf("members are registered while the first primary is elected: %v", g)
		}
		s.settled(s.a, s.b)
		s.run(time.Minute)
		s.roles(model.CoopPrimary, model.CoopSecondary)
		if x, y := s.a.served(), s.b.served(); x.KEK == nil || y.KEK == nil || x.KEK.SPI != y.KEK.SPI || x.Policies[0].TEKs[0].SPI != y.Policies[0].TEKs[0].SPI || y.Members.Len() != 2 {
			s.t.Errorf("keys and members of the two differ: %+v\n%+v", x, y)
		}
		s.untouched()
	}},
	{name: "coop-off", start: cbcPair, rekeys: true, look: func(s *coopLook) {
		kek := s.a.served().KEK.SPI
		for _, n := range []*simNode{s.b, s.a} {
			n.configure("crypto gdoi group G\n server local\n  no redundancy")
		}
		s.run(time.Minute)
		x, y := s.a.served(), s.b.served()
		if x.Coop != nil || y.Coop != nil || x.KEK == nil || x.KEK.SPI == kek || x.Members.Len() != 2 {
			s.t.Errorf("the primary goes on with %+v", x)
		}
		if y.KEK != nil || y.Members.Len() != 0 {
			s.t.Errorf("the secondary goes on with %+v", y)
		}
		for _, m := range s.gms {
			if k := m.member().KEK; k.SPI != x.KEK.SPI {
				s.t.Errorf("%s has KEK %x, want %x", m.name, k.SPI, x.KEK.SPI)
			}
		}
		s.untouched()
	}},
	{name: "coop-priority", start: cbcPair, look: func(s *coopLook) {
		s.b.configure(atCoop + "local priority 200")
		s.run(2 * time.Minute)
		s.roles(model.CoopPrimary, model.CoopSecondary)
		if n := len(told[event.CoopElection](s.a, s.begin)) + len(told[event.CoopElection](s.b, s.begin)); n != 0 {
			s.t.Errorf("%d elections", n)
		}
		if p := s.a.peer(s.b).Priority; p != 200 {
			s.t.Errorf("the other one sees priority %d", p)
		}
		s.a.command("clear crypto gdoi ks coop role")
		s.run(time.Minute)
		s.roles(model.CoopSecondary, model.CoopPrimary)
		s.untouched()
	}},
	{name: "coop-peer", start: cbcPair, look: func(s *coopLook) {
		conf := edit(s.t, pushed(s.t, lifeKS, unicast), "transform-set T esp-gcm 128", cbcSet)
		c := s.server(3, cooperative(s.t, conf, 3, 3))
		s.run(10 * time.Second)
		if len(told[event.CoopUnauthorized](s.a, s.begin)) == 0 || c.coop().Role != model.CoopElecting {
			s.t.Errorf("one that nobody lists is %v", c.coop().Role)
		}
		for _, n := range []*simNode{s.a, s.b} {
			n.configure(atCoop + "peer address ipv4 192.0.2.3")
		}
		s.wait(20*time.Second, "the third follows", func() bool {
			return c.coop().Role == model.CoopSecondary && c.coop().Gate == model.CoopOpen && s.a.peer(c).Status == model.CoopAlive && s.b.peer(c).Status == model.CoopAlive
		})
		for _, n := range []*simNode{s.a, s.b} {
			n.configure(atCoop + "no peer address ipv4 192.0.2.3")
		}
		s.wait(2*time.Minute, "the third hears of no primary any more", func() bool { return c.coop().Role != model.CoopSecondary })
		if len(s.a.coop().Peers) != 1 || len(s.b.coop().Peers) != 1 {
			s.t.Errorf("after it was removed: %+v, %v", s.a.coop().Peers, c.coop().Role)
		}
		c.stop()
		s.roles(model.CoopPrimary, model.CoopSecondary)
		s.untouched()
	}},
	{name: "coop-address", start: func(t *testing.T) (first, second string) {
		first, second = cbcPair(t)
		return edit(t, first, "   peer address ipv4 192.0.2.2\n", "   peer address ipv4 192.0.2.2\n   peer address ipv4 203.0.113.202\n"), second
	}, rekeys: true, look: func(s *coopLook) {
		s.b.configure(atCoop + "local address 203.0.113.202\n   no peer address ipv4 192.0.2.2")
		s.run(2 * time.Minute)
		s.roles(model.CoopPrimary, model.CoopSecondary)
		var moved model.CoopPeer
		for _, p := range s.a.coop().Peers {
			if p.Addr == s.b.lo0 {
				moved = p
			}
		}
		if moved.Status != model.CoopAlive || moved.Role != model.CoopSecondary || s.a.peer(s.b).Status != model.CoopDead || s.b.coop().Local != s.b.lo0 {
			s.t.Errorf("%+v", s.a.coop().Peers)
		}
		if x, y := s.a.served(), s.b.served(); x.KEK.SPI != y.KEK.SPI || x.Members.Len() != 2 || y.Members.Len() != 2 {
			s.t.Errorf("keys and members of the two differ")
		}
		for _, m := range s.gms {
			if len(told[event.GMRegistrationComplete](m, s.begin)) != 0 {
				s.t.Errorf("%s registered", m.name)
			}
		}
	}},
	{name: "sender-ids", start: sidPair, look: func(s *coopLook) {
		s.b.configure(atLocal + "identifier\n   no range 10 - 19\n   range 20 - 29")
		s.run(time.Minute)
		s.untouched()
		m := s.gm("gm3", "198.51.100.3", edit(s.t, lifeGM, "192.0.2.1", "192.0.2.2"))
		s.wait(time.Minute, "a new member", func() bool { return m.spi() != 0 })
		for _, x := range s.b.listed() {
			if x.Addr == m.addr && (len(x.SIDs) == 0 || x.SIDs[0]>>17 < 20 || x.SIDs[0]>>17 > 29) {
				s.t.Errorf("it has Sender IDs %v", x.SIDs)
			}
		}
	}},
	{name: "sender-ids-shared", start: sidPair, lossy: true, rekeys: true, look: func(s *coopLook) {
		s.b.configure(atLocal + "identifier\n   no range 10 - 19\n   range 10 - 29")
		s.wait(5*time.Minute, "members are back with new keys", func() bool {
			return s.gms[0].spi() != s.old && s.gms[0].spi() != 0 && s.gms[0].spi() == s.gms[1].spi()
		})
	}},
}

func TestCoopRowsOfTheTables(t *testing.T) {
	t.Parallel()
	for _, x := range coopRows {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			lively(t, 603, calm, func(l *life) {
				first, second := x.start(t)
				s := &coopLook{life: l}
				s.a, s.b = l.server(1, first), l.server(2, second)
				if s.a.served().Coop != nil {
					l.settled(s.a, s.b)
				}
				s.gms = l.members(2, asks(t, 1, 2))
				l.registered()
				l.run(time.Minute)
				l.flow(500 * time.Millisecond)
				s.old, s.begin = s.gms[0].spi(), time.Now()
				x.look(s)
				if n := len(l.rekeys(s.begin)); (n > 0) != x.rekeys {
					t.Errorf("%d rekeys on the wire", n)
				}
				if !x.lossy {
					l.flawless()
				}
			})
		})
	}
}

// The guide's numbered example (l.580-640) whole, with two key servers: 2 to 5 and 6 by
// the first, 16 to 18 by the second, which has become primary, 28 and 29 by the first
// again.
func TestSequenceNumbersOfTwoKeyServersAsInTheGuidesExample(t *testing.T) {
	t.Parallel()
	lively(t, 604, calm, func(l *life) {
		kss := l.servers(2, pushed(t, lifeKS, unicast, "  rekey retransmit 10 number 3"))
		gms := l.spread(2, 2)
		l.registered()
		l.run(time.Minute)
		// step is a rekey of a key server after which gm1 acknowledges the n-th transmission.
		step := func(ks *simNode, n int, want ...uint32) {
			t.Helper()
			begin, seen := time.Now(), 0
			l.net.SetTap(func(from, _ netip.AddrPort, b []byte) []byte {
				if from.Addr() == gms[0].addr && isExchange(b, isakmp.GroupKeyPushAck) {
					if seen++; seen < n {
						return nil
					}
				}
				return b
			})
			ks.command("crypto gdoi ks rekey")
			l.run(2 * time.Minute)
			l.net.SetTap(nil)
			sent := 0
			for _, p := range l.rekeys(begin) {
				if p.to.Addr() == gms[0].addr && p.from.Addr() == ks.addr { // the other one passes on what isn't answered
					sent++
				}
			}
			var got []uint32
			each(gms[0], begin, func(e event.GMRecvRekey, _ time.Time) { got = append(got, e.Seq) })
			last := want[len(want)-1]
			for _, k := range kss {
				if s := k.served().KEK.Seq; s != last {
					t.Errorf("%s is at number %d, want %d", k.name, s, last)
				}
			}
			if s := gms[0].member().LastRekeySeq; s != last || sent != len(want) {
				t.Errorf("gm1 took %d after %d transmissions (%v), want %v", s, sent, got, want)
			}
		}
		kek := kss[0].served().KEK.SPI
		step(kss[0], 1, 1)
		step(kss[0], 4, 2, 3, 4, 5)
		step(kss[0], 1, 6)
		kss[1].configure(atCoop + "local priority 200")
		kss[0].command("clear crypto gdoi ks coop role")
		l.run(time.Minute)
		step(kss[1], 3, 16, 17, 18)
		kss[1].configure(atCoop + "local priority 50")
		kss[1].command("clear crypto gdoi ks coop role")
		l.run(time.Minute)
		step(kss[0], 1, 28)
		step(kss[0], 1, 29)
		if kss[0].served().KEK.SPI != kek {
			t.Error("another KEK")
		}
	})
}
