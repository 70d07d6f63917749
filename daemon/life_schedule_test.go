package daemon

// When rekeys leave a key server, with which numbers, to whom again, and what becomes
// of who doesn't answer: the guide's formulas and examples, seen on the wire.

import (
	"net/netip"
	"testing"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/model/event"
)

// made is when the key server made its newest TEK.
func (n *simNode) made() time.Time {
	t := n.served().Policies[0].TEKs[0]
	return t.Expires.Add(-t.Lifetime)
}

// at is how long after the newest TEK was made the next rekey was on the wire.
func (l *life) at(ks *simNode) time.Duration {
	l.t.Helper()
	made, now := ks.made(), time.Now()
	l.wait(2*time.Hour, "a rekey", func() bool { return len(l.rekeys(now)) > 0 })
	return l.rekeys(now)[0].at.Sub(made).Round(time.Second)
}

// The guide's examples: multicast, 3 repetitions of 10 s: 300 s of life 180 s after the
// TEK was made, 3600 s after 3210 s.
func TestMulticastRekeyAtTheGuidesSecond(t *testing.T) {
	t.Parallel()
	lively(t, 21, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, multicast, "  rekey retransmit 10 number 3"), "seconds 3600", "seconds 300"))
		l.members(2, lifeGM)
		l.registered()
		if d := l.at(ks); d != 180*time.Second {
			t.Errorf("300 s: %v after it was made", d)
		}
		ks.configure("crypto ipsec profile P\n set security-association lifetime seconds 3600")
		l.run(time.Minute) // retransmissions
		l.at(ks)           // the next rekey brings the new life
		l.run(time.Minute)
		if d := l.at(ks); d != 3210*time.Second {
			t.Errorf("3600 s: %v after it was made", d)
		}
	})
}

// The guide's examples and case scale-02: unicast to 100 members: 170 s, and 3200 s.
func TestUnicastRekeyAtTheGuidesSecond(t *testing.T) {
	t.Parallel()
	lively(t, 22, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast, "  rekey retransmit 10 number 3"), "seconds 3600", "seconds 300"))
		l.crowd(100, lifeGM)
		l.registered()
		if d := l.at(ks); d != 170*time.Second {
			t.Errorf("300 s: %v after it was made", d)
		}
		ks.configure("crypto ipsec profile P\n set security-association lifetime seconds 3600")
		l.run(time.Minute)
		l.at(ks)
		l.run(time.Minute)
		if d := l.at(ks); d != 3200*time.Second {
			t.Errorf("3600 s: %v after it was made", d)
		}
		if n := ks.served().Members.Len(); n != 100 {
			t.Errorf("%d members", n)
		}
	})
}

// A KEK's successor is sent at least 200 s before the KEK ends, whatever the rest says.
func TestKEKRekeyTwoHundredSecondsBeforeItsEnd(t *testing.T) {
	t.Parallel()
	for name, lines := range transports {
		t.Run(name, func(t *testing.T) {
			lively(t, 23, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, lines, "  rekey lifetime seconds 1000"), "seconds 3600", "seconds 300"))
				l.members(2, lifeGM)
				l.registered()
				for range 5 {
					old := *ks.served().KEK
					l.wait(time.Hour, "a new KEK", func() bool { return ks.served().KEK.SPI != old.SPI })
					brought := l.rekeys(time.Now().Add(-5 * time.Second))
					if len(brought) == 0 {
						t.Fatal("no rekey brought it")
					}
					if d := old.Expires.Sub(brought[0].at).Round(time.Second); d < 200*time.Second || d > 500*time.Second {
						t.Errorf("new KEK %v before the old one's end", d)
					}
				}
			})
		})
	}
}

// deaf drops what members acknowledge.
func (l *life) deaf(members ...*simNode) {
	l.net.SetTap(func(from, _ netip.AddrPort, b []byte) []byte {
		for _, m := range members {
			if m.addr == from.Addr() && len(b) > 18 && isakmp.ExchangeType(b[18]) == isakmp.GroupKeyPushAck {
				return nil
			}
		}
		return b
	})
}

// The guide's numbered example, steps 1 to 3 (the others are of cooperative key
// servers): from 1, a rekey takes 2; three repetitions bring it to 5; the next rekey,
// sent once, is 6.
func TestSequenceNumbersAsInTheGuidesExample(t *testing.T) {
	t.Parallel()
	lively(t, 24, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast, "  rekey retransmit 10 number 3"))
		gms := l.members(2, lifeGM)
		l.registered()
		step := func(want uint32, transmissions int) {
			t.Helper()
			begin := time.Now()
			ks.command("crypto gdoi ks rekey")
			l.run(2 * time.Minute)
			if got := ks.served().KEK.Seq; got != want {
				t.Errorf("number %d, want %d", got, want)
			}
			n := 0
			for _, p := range l.rekeys(begin) {
				if p.to.Addr() == gms[0].addr {
					n++
				}
			}
			if n != transmissions {
				t.Errorf("%d transmissions to gm1, want %d", n, transmissions)
			}
			if got := gms[0].member().LastRekeySeq; got != want {
				t.Errorf("gm1 took %d, want %d", got, want)
			}
		}
		step(1, 1)
		l.deaf(gms[0])
		step(5, 4)
		l.deaf()
		step(6, 1)
	})
}

// A new KEK's numbers begin at 1; the rekey that brings it still has the old one's.
func TestSequenceBeginsAnewUnderANewKEK(t *testing.T) {
	t.Parallel()
	lively(t, 25, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
		gms := l.members(2, lifeGM)
		l.registered()
		for range 3 {
			ks.command("crypto gdoi ks rekey")
			l.run(20 * time.Second)
		}
		old := ks.served().KEK.SPI
		ks.configure("crypto gdoi group G\n server local\n  rekey algorithm aes 256")
		l.run(20 * time.Second)
		if k := gms[0].member(); k.LastRekeySeq != 4 || k.KEK.SPI == old || k.KEK.KeyBits != 256 {
			t.Errorf("rekey %d brought %+v", k.LastRekeySeq, k.KEK)
		}
		begin := time.Now()
		ks.command("crypto gdoi ks rekey")
		l.run(20 * time.Second)
		if n := gms[0].member().LastRekeySeq; n != 1 {
			t.Errorf("first rekey under the new KEK has number %d", n)
		}
		for _, p := range l.rekeys(begin) {
			if p.cookies == old {
				t.Error("a rekey under the old KEK")
			}
		}
	})
}

// A repetition is left out when another rekey is due within 120 s.
func TestNoRepetitionShortlyBeforeTheNextRekey(t *testing.T) {
	t.Parallel()
	for interval, want := range map[string]int{"20": 2, "60": 1} {
		lively(t, 26, calm, func(l *life) {
			ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, multicast, "  rekey retransmit "+interval+" number 1"), "seconds 3600", "seconds 300"))
			l.members(2, lifeGM)
			l.registered()
			l.at(ks)
			begin := time.Now().Add(-time.Second)
			l.run(140 * time.Second)
			if n := len(l.rekeys(begin)); n != want {
				t.Errorf("interval %s s: %d transmissions, want %d", interval, n, want)
			}
		})
	}
}

// Three rekeys without an answer, and a member that used to answer is off the list; one
// that never did stays. The member goes on with what it has, comes back by itself, and
// no packet is lost.
func TestThreeSilentRekeysAndAMemberIsOut(t *testing.T) {
	t.Parallel()
	lively(t, 27, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast, "  rekey retransmit 10 number 1"), "seconds 3600", "seconds 900"))
		gms := l.members(3, lifeGM)
		l.deaf(gms[0])
		l.registered()
		l.flow(time.Second)
		ks.command("crypto gdoi ks rekey")
		l.run(time.Minute)
		l.deaf(gms[0], gms[1])
		for i := 1; i <= 3; i++ {
			if n := len(told[event.KSMemberEjected](ks, time.Time{})); n != 0 {
				t.Errorf("ejected after %d silent rekeys", i-1)
			}
			ks.command("crypto gdoi ks rekey")
			l.run(time.Minute)
		}
		out := told[event.KSMemberEjected](ks, time.Time{})
		if len(out) != 1 || out[0].GM != gms[1].addr {
			t.Errorf("ejected: %v", out)
		}
		if n := ks.served().Members.Len(); n != 2 {
			t.Errorf("%d members are listed", n)
		}
		l.deaf()
		l.wait(15*time.Minute, "the member is back", func() bool { return ks.served().Members.Len() == 3 })
		l.run(30 * time.Minute)
		l.flawless()
	})
}

// Case ike-03: the registration's ISAKMP SA has ended; the rekey comes and is answered.
func TestRekeyAfterTheRegistrationSAHasEnded(t *testing.T) {
	t.Parallel()
	lively(t, 28, calm, func(l *life) {
		short := func(c string) string { return edit(t, c, " group 19\n", " group 19\n lifetime 300\n") }
		ks := l.ks("ks", "192.0.2.1", short(pushed(t, lifeKS, unicast)))
		gms := l.members(2, short(lifeGM))
		l.registered()
		l.run(400 * time.Second)
		if n := len(gms[0].d.store.Load().IKE.SAs); n != 0 {
			t.Errorf("%d ISAKMP SAs", n)
		}
		begin := time.Now()
		ks.command("crypto gdoi ks rekey")
		l.run(10 * time.Second)
		if n := len(told[event.GMRecvRekey](gms[0], begin)); n != 1 {
			t.Errorf("%d rekeys received", n)
		}
		for m := range ks.served().Members.All() {
			if m.AcksRcvd != 1 {
				t.Errorf("%v acknowledged %d", m.Addr, m.AcksRcvd)
			}
		}
	})
}

// Case esp-02: one member has each rekey 3 s later than the others, 20 times.
func TestRekeyThreeSecondsLaterAtOneMember(t *testing.T) {
	t.Parallel()
	for _, cmd := range []string{"crypto gdoi ks rekey", "crypto gdoi ks rekey replace-now"} {
		lively(t, 29, calm, func(l *life) {
			ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
			gms := l.members(3, lifeGM)
			l.registered()
			late := calm
			late.Delay = 3 * time.Second
			l.net.SetLink(ks.addr, gms[1].addr, late)
			begin := time.Now()
			l.flow(100 * time.Millisecond)
			for range 20 {
				ks.command(cmd)
				l.run(10 * time.Second)
			}
			l.run(time.Minute)
			l.rolled(begin, 20, 22)
		})
	}
}
