package daemon

// What goes wrong in a group's life: rekeys that are lost, replayed, a key server that
// restarts, Sender IDs that run out.

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/sim"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// A member is cut off from the key server, from early in a TEK's life to a minute before
// its end, over the rekey and its repetitions: it has lost nothing, nor has anybody
// else.
func TestAcceptance3CutOffForLessThanALifeLosesNothing(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		from, to  time.Duration
		transport string
	}{
		{time.Second, 700 * time.Second, unicast},         // back before the rekey
		{5 * time.Minute, 840 * time.Second, unicast},     // over it (720 s), until the last minute
		{5 * time.Minute, 840 * time.Second, multicast},   // the same
		{710 * time.Second, 840 * time.Second, unicast},   // just over it and its repetitions
		{730 * time.Second, 1560 * time.Second, unicast},  // over the next one, into the next TEK's last minute
		{1441 * time.Second, 2270 * time.Second, unicast}, // the same a life later, caught between rekey and repetition
	} {
		t.Run(x.from.String()+x.transport, func(t *testing.T) {
			lively(t, 31, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, x.transport, "  rekey retransmit 10 number 2"), "seconds 3600", "seconds 900"))
				gms := l.members(3, lifeGM)
				l.registered()
				made := ks.made()
				l.flow(time.Second)
				l.run(time.Until(made.Add(x.from)))
				l.net.Cut(ks.addr, gms[1].addr)
				l.run(time.Until(made.Add(x.to)))
				l.net.Heal(ks.addr, gms[1].addr)
				l.run(30 * time.Minute)
				l.flawless()
			})
		})
	}
}

// A member misses a rekey and stays cut off past the end of its TEK: its packets drop,
// others' packets to it too, none is in clear; once back it loses nothing.
func TestAcceptance3CutOffPastTheEndOfATEK(t *testing.T) {
	t.Parallel()
	lively(t, 39, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast, "  rekey retransmit 10 number 2"), "seconds 3600", "seconds 900"))
		gms := l.members(3, lifeGM)
		l.registered()
		l.flow(time.Second)
		l.run(10 * time.Minute)
		l.net.Cut(ks.addr, gms[1].addr)
		l.run(10 * time.Minute)
		l.net.Heal(ks.addr, gms[1].addr)
		begin := time.Now()
		l.wait(5*time.Minute, "the member is back", func() bool { return gms[1].spi() != 0 && gms[1].spi() == gms[0].spi() })
		t.Logf("back after %v", time.Since(begin).Round(time.Second))
		l.traffic.Stop()
		r := l.traffic.Report()
		if r.Clear != 0 || r.RepeatedIVs != 0 {
			t.Errorf("%v", &r)
		}
		for _, n := range []string{"gm1", "gm3"} { // what was on its way when the member's only key ended
			if d := r.Drops[n]; d[ipsec.DropUnknownSPI]+d[ipsec.DropExpired] > 1 || len(d) > 1 {
				t.Errorf("%s dropped %v", n, d)
			}
		}
		l.flow(time.Second)
		l.run(30 * time.Minute)
		l.flawless()
	})
}

// failClose is an active map that lets name service pass.
const failClose = `crypto map M gdoi fail-close
 match address FC
 activate
ip access-list extended FC
 deny udp any any eq 53
 deny udp any eq 53 any
`

// A member is cut off for longer: it fails as configured, and returns by itself.
func TestAcceptance3CutOffForLongerFailsAsConfigured(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		lines        string
		permit, free sim.Fate // of a packet that was protected, and of one to port 53
	}{
		"permits drop": {"", sim.Fate{Drop: ipsec.DropNoSA}, sim.Fate{Drop: ipsec.DropNoSA}},
		"fail-close":   {failClose, sim.Fate{Drop: ipsec.DropNoSA}, sim.Fate{Drop: ipsec.DropNoSA}},
		// Without an active map there is nothing to go back to but an open interface.
		"revert, no map":    {"crypto gdoi group G\n client fail-close revert\n", sim.Fate{Drop: ipsec.DropNoSA}, sim.Fate{Drop: ipsec.DropNoSA}},
		"fail-close revert": {failClose + "crypto gdoi group G\n client fail-close revert\n", sim.Fate{Drop: ipsec.DropFailClose}, sim.Fate{}},
	} {
		t.Run(name, func(t *testing.T) {
			lively(t, 32, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast), "seconds 3600", "seconds 900"))
				gms := l.crowd(2, lifeGM+x.lines)
				l.traffic.Pairs(gms[0].site, gms[1].site)
				dns := l.traffic.Add(sim.Flow{From: gms[0].site, To: gms[1].site, Proto: 17, SrcPort: 4000, DstPort: 53})
				l.registered()
				l.flow(time.Second)
				l.run(time.Minute)
				l.flawless()
				l.net.Cut(ks.addr, netipAny)
				l.run(30 * time.Minute)
				if f, _ := l.traffic.Probe(0); f.Drop != x.permit.Drop || f.SPI != 0 {
					t.Errorf("a protected flow: %v %#x, want %v", f.Drop, f.SPI, x.permit.Drop)
				}
				if f, _ := l.traffic.Probe(dns); f.Drop != x.free.Drop || f.SPI != 0 {
					t.Errorf("a flow that fail-close lets pass: %v %#x, want %v", f.Drop, f.SPI, x.free.Drop)
				}
				l.net.Heal(ks.addr, netipAny)
				begin := time.Now()
				l.wait(10*time.Minute, "both are back", func() bool { return gms[0].spi() != 0 && gms[1].spi() != 0 })
				t.Logf("back after %v", time.Since(begin).Round(time.Second))
				l.run(10 * time.Second)
				l.flow(time.Second)
				l.run(time.Hour)
				l.flawless()
			})
		})
	}
}

// A member that is cut off from the start has never heard of a policy: it is open, the
// vendor's default, or closed by an active fail-close map; it comes in by itself.
func TestAcceptance3CutOffFromTheStartIsOpenOrClosed(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		lines        string
		permit, free sim.Fate // of a packet that will be protected, and of one to port 53
	}{
		"open":   {"", sim.Fate{}, sim.Fate{}},
		"closed": {failClose, sim.Fate{Drop: ipsec.DropFailClose}, sim.Fate{}},
	} {
		t.Run(name, func(t *testing.T) {
			lively(t, 30, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
				l.net.Cut(ks.addr, netipAny)
				gms := l.crowd(2, lifeGM+x.lines)
				l.traffic.Pairs(gms[0].site, gms[1].site)
				dns := l.traffic.Add(sim.Flow{From: gms[0].site, To: gms[1].site, Proto: 17, SrcPort: 4000, DstPort: 53})
				l.run(30 * time.Minute)
				for flow, want := range map[int]sim.Fate{0: x.permit, dns: x.free} {
					if f, ok := l.traffic.Probe(flow); f != want || ok != (want.Drop == ipsec.DropNone) {
						t.Errorf("flow %d: %+v, arrived %v, want %+v", flow, f, ok, want)
					}
				}
				l.net.Heal(ks.addr, netipAny)
				l.wait(10*time.Minute, "both are in", func() bool { return gms[0].spi() != 0 && gms[1].spi() != 0 })
				l.run(10 * time.Second)
				l.flow(time.Second)
				l.run(10 * time.Minute)
				l.flawless()
			})
		})
	}
}

// A rekey that was captured is replayed a minute, a TEK and a KEK later: refused and
// told, and nothing changes.
func TestAcceptance5CapturedRekeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, lines := range transports {
		t.Run(name, func(t *testing.T) {
			lively(t, 33, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, lines, "  rekey lifetime seconds 3600"), "seconds 3600", "seconds 900"))
				gms := l.members(2, lifeGM)
				l.registered()
				l.flow(time.Second)
				begin := time.Now()
				ks.command("crypto gdoi ks rekey")
				l.run(time.Second)
				var captured push
				for _, p := range l.rekeys(begin) {
					if p.to.Addr() == gms[0].addr || p.to.Addr().IsMulticast() {
						captured = p
					}
				}
				if captured.data == nil {
					t.Fatal("no rekey")
				}
				replay := func(what string, sequence bool) {
					t.Helper()
					synctest.Wait()
					before, _ := gms[0].site.Policy("G")
					m := gms[0].member()
					now := time.Now()
					l.net.Send(captured.from, captured.to, captured.data)
					l.run(2 * time.Second)
					after, _ := gms[0].site.Policy("G")
					spis := func(p ipsec.GroupPolicy) (s []uint32) {
						for _, k := range p.TEKs {
							s = append(s, k.SPI)
						}
						return s
					}
					if !slices.Equal(spis(before), spis(after)) || m.RekeysReceived != gms[0].member().RekeysReceived || m.AcksSent != gms[0].member().AcksSent {
						t.Errorf("%s: something changed", what)
					}
					seq, other := len(told[event.GMRekeySeqFailure](gms[0], now)), len(told[event.GMRekeyFailure](gms[0], now))
					if sequence && (seq != 1 || other != 0) || !sequence && (seq != 0 || other != 1) {
						t.Errorf("%s: told as an old number %d times, otherwise %d times", what, seq, other)
					}
					if refusals(m.RekeysRefused)+1 != refusals(gms[0].member().RekeysRefused) {
						t.Errorf("%s: counted %v, then %v", what, m.RekeysRefused, gms[0].member().RekeysRefused)
					}
				}
				l.run(time.Minute)
				replay("a minute later", true)
				l.run(15 * time.Minute)
				replay("a TEK later", true)
				l.run(2 * time.Hour)
				replay("a KEK later", false)
				l.flawless()
			})
		})
	}
}

// refusals are all of them.
func refusals(m map[string]uint64) (sum uint64) {
	for _, n := range m {
		sum += n
	}
	return sum
}

// The key server restarts within the keys' life, with the state that it keeps or
// without any: nobody notices.
func TestRestartOfTheKeyServer(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		t.Run(map[bool]string{false: "state kept", true: "state lost"}[lost], func(t *testing.T) {
			lively(t, 34, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast, "  rekey retransmit 10 number 2"), "seconds 3600", "seconds 900"))
				l.members(3, lifeGM)
				l.registered()
				l.flow(time.Second)
				l.run(5 * time.Minute)
				old := *ks.served().KEK
				ks.stop()
				if lost {
					if err := os.RemoveAll(filepath.Join(l.dir, "ks")); err != nil {
						t.Fatal(err)
					}
				}
				l.run(30 * time.Second)
				ks.start()
				l.run(time.Hour)
				l.flawless()
				k := ks.served().KEK
				if k == nil {
					t.Fatal("no KEK")
				}
				t.Logf("same KEK: %v", k.SPI == old.SPI)
				if n := len(ks.listed()); n != 3 {
					t.Errorf("%d members", n)
				}
			})
		})
	}
}

// Case scale-01 in small: the key server is away for 30 s and comes back without state.
// Nobody is cut off before its TEK ends; all are registered again by the 30-second mark.
func Test_scale_01_SmallCrowdAfterARestartWithoutState(t *testing.T) {
	t.Parallel()
	lively(t, 35, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast), "seconds 3600", "seconds 900"))
		gms := l.crowd(30, lifeGM)
		l.traffic.Pairs(gms[0].site, gms[1].site, gms[29].site)
		l.registered()
		l.flow(time.Second)
		end := ks.served().Policies[0].TEKs[0].Expires
		ks.stop()
		if err := os.RemoveAll(filepath.Join(l.dir, "ks")); err != nil {
			t.Fatal(err)
		}
		l.run(30 * time.Second)
		ks.start()
		l.run(time.Until(end) - 30*time.Second)
		if n := len(ks.listed()); n != 30 {
			t.Errorf("%d of 30 registered 30 s before the end", n)
		}
		seconds := map[int64]int{}
		for _, m := range ks.listed() {
			seconds[m.Registered.Unix()]++
		}
		if len(seconds) < 15 {
			t.Errorf("no jitter: they came in %d different seconds", len(seconds))
		}
		l.run(30 * time.Minute)
		l.flawless()
	})
}

// Sender IDs of 8 bits run out: new keys, everybody registers again within a minute, no
// packet is lost meanwhile and no IV comes twice; afterwards it goes on.
func TestSenderIDsRunOut(t *testing.T) {
	t.Parallel()
	lively(t, 36, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast, "  group size small 8"))
		gms := l.members(3, lifeGM)
		l.registered()
		l.flow(100 * time.Millisecond)
		low := 0
		for i := 0; i < 300 && len(told[event.KSReinitFinish](ks, time.Time{})) == 0; i++ {
			gms[0].command("clear crypto gdoi")
			l.run(2 * time.Second)
			low = len(told[event.KSSIDsLow](ks, time.Time{}))
		}
		if low != 1 || len(told[event.KSReinitFinish](ks, time.Time{})) != 1 {
			t.Errorf("warned %d times, began anew %d times", low, len(told[event.KSReinitFinish](ks, time.Time{})))
		}
		old := gms[0].spi()
		l.run(5 * time.Minute)
		for _, g := range gms {
			if k := g.spi(); k == 0 || k == old || k != gms[0].spi() {
				t.Errorf("%s sends with %#x, before with %#x", g.name, k, old)
			}
		}
		l.flawless()
	})
}

// Case esp-12: a TEK of 7200 s with 5000 s left; the transform changes and the policy is
// replaced without "now": 360 s remain to the old SA on every member, and traffic uses
// the new one.
func TestReplacedPolicyShortensTheOldSA(t *testing.T) {
	t.Parallel()
	lively(t, 37, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast), "seconds 3600", "seconds 7200")+"crypto ipsec transform-set T2 esp-aes 256 esp-sha256-hmac\n")
		gms := l.members(3, lifeGM)
		l.registered()
		old := gms[0].spi()
		l.flow(time.Second)
		l.run(2200 * time.Second)
		ks.configure("crypto ipsec profile P\n set transform-set T2")
		l.run(10 * time.Second)
		if gms[0].spi() != old {
			t.Error("the old SA isn't used to its end")
		}
		ks.command("crypto gdoi ks rekey")
		l.run(10 * time.Second)
		for _, g := range gms {
			p, _ := g.site.Policy("G")
			for _, k := range p.TEKs {
				if left := time.Until(k.Expires).Round(time.Second); k.SPI == old && (left < 345*time.Second || left > 352*time.Second) {
					t.Errorf("%s: the old SA lives on for %v, 10 s after it was cut to 360 s", g.name, left)
				}
			}
			if g.spi() == old || g.spi() == 0 {
				t.Errorf("%s sends with %#x", g.name, g.spi())
			}
		}
		l.run(10 * time.Minute)
		l.flawless()
	})
}

// A member that comes late, leaves, comes back under load: the others don't notice.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	lively(t, 38, rough, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, multicast, "  rekey retransmit 10 number 2"), "seconds 3600", "seconds 900"))
		l.members(2, lifeGM)
		l.registered()
		l.flow(500 * time.Millisecond)
		for i := range 5 {
			m := l.gm(fmt.Sprintf("guest%d", i), netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + i)}).String(), lifeGM)
			l.run(3 * time.Minute)
			if m.spi() == 0 {
				t.Errorf("%s isn't registered", m.name)
			}
			m.stop()
			ks.command("crypto gdoi ks rekey replace-now")
			l.run(2 * time.Minute)
		}
		l.flawless()
	})
}
