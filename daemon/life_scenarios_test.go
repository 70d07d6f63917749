package daemon

// The guide's three scenarios of a policy change (l.1827-1915), as they stand there: hosts
// A and B, then C and D; ESP-3DES, then ESP-AES, and time-based anti-replay with it; the
// change comes 1000 s before the TEK's end.

import (
	"testing"
	"time"

	"getvpn/internal/sim"
	"getvpn/ipsec"
)

// Flows of the scenarios.
const (
	fromAToB = iota
	fromBToA
	fromCToD
	fromDToC
)

// What the key server changes.
const (
	listCD = `ip access-list extended get-acl
 no permit ip host 10.0.1.1 host 10.0.2.1
 no permit ip host 10.0.2.1 host 10.0.1.1
 permit ip host 10.0.3.1 host 10.0.4.1
 permit ip host 10.0.4.1 host 10.0.3.1
`
	toAES = "crypto ipsec profile P\n set transform-set AES\ncrypto gdoi group G\n server local\n  sa ipsec 1\n   replay time window-size 10\n"
)

// scenario is a group whose TEK lives for 1000 s more.
type scenario struct {
	*life
	ks  *simNode
	gms []*simNode
	old uint32
	end time.Time
}

func scenarios(t *testing.T, f func(*scenario)) {
	lively(t, 51, calm, func(l *life) {
		s := &scenario{life: l}
		s.ks = l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast), "transform-set T esp-gcm 128", "transform-set T esp-3des esp-sha-hmac",
			"match address ipv4 A", "match address ipv4 get-acl")+`crypto ipsec transform-set AES esp-aes 128 esp-sha256-hmac
ip access-list extended get-acl
 permit ip host 10.0.1.1 host 10.0.2.1
 permit ip host 10.0.2.1 host 10.0.1.1
`)
		s.gms = l.crowd(4, lifeGM)
		for _, x := range [][2]int{{0, 1}, {1, 0}, {2, 3}, {3, 2}} {
			l.traffic.Add(sim.Flow{From: s.gms[x[0]].site, To: s.gms[x[1]].site, Proto: 17, SrcPort: 4000, DstPort: 5000})
		}
		l.registered()
		s.old, s.end = s.gms[0].spi(), s.ks.served().Policies[0].TEKs[0].Expires
		l.run(time.Until(s.end) - 1000*time.Second)
		s.sealed(s.old, fromAToB, fromBToA)
		s.clear(fromCToD, fromDToC)
		f(s)
	})
}

// sealed wants that packets of these flows are sealed with the SPI and arrive.
func (s *scenario) sealed(spi uint32, flows ...int) {
	s.t.Helper()
	for _, i := range flows {
		if f, ok := s.traffic.Probe(i); f.SPI != spi || f.Drop != ipsec.DropNone || !ok {
			s.t.Errorf("flow %d: %+v, arrived %v; want SPI %#x", i, f, ok, spi)
		}
	}
}

// clear wants that they arrive in clear.
func (s *scenario) clear(flows ...int) {
	s.t.Helper()
	for _, i := range flows {
		if f, ok := s.traffic.Probe(i); f.SPI != 0 || f.Drop != ipsec.DropNone || !ok {
			s.t.Errorf("flow %d: %+v, arrived %v; want it in clear", i, f, ok)
		}
	}
}

// changed enters a change and wants one rekey, at once, to every member.
func (s *scenario) changed(lines string) {
	s.t.Helper()
	begin := time.Now()
	s.ks.configure(lines)
	s.run(time.Second)
	if n := len(s.rekeys(begin)); n != len(s.gms) {
		s.t.Errorf("%d rekeys sent", n)
	}
}

// both wants that members hold the old SA, 3DES, and the new one, AES by time.
func (s *scenario) both() (new uint32) {
	s.t.Helper()
	for _, m := range s.gms {
		p, _ := m.site.Policy("G")
		if len(p.TEKs) != 2 {
			s.t.Fatalf("%s: TEKs %+v", m.name, p.TEKs)
		}
		for _, k := range p.TEKs {
			if k.SPI != s.old {
				new = k.SPI
			}
			if want := map[bool]ipsec.Cipher{true: ipsec.Cipher3DES, false: ipsec.CipherAESCBC}[k.SPI == s.old]; k.Transform.Cipher != want || (k.Replay.Mode == ipsec.ReplayTime) == (k.SPI == s.old) {
				s.t.Errorf("%s: %+v", m.name, k)
			}
		}
	}
	return new
}

// Scenario 1: A and B in clear, C and D encrypted, immediately after the rekey.
func TestScenario1ListChanged(t *testing.T) {
	t.Parallel()
	scenarios(t, func(s *scenario) {
		s.changed(listCD)
		s.clear(fromAToB, fromBToA)
		s.sealed(s.old, fromCToD, fromDToC)
		for _, m := range s.gms {
			if n := m.member().Succeeded; n != 1 {
				t.Errorf("%s registered %d times", m.name, n) // as the guide's ISR, not its ASR (l.1856)
			}
		}
	})
}

// Scenario 2: the rekey brings both SAs; the old one is used for 1000 s, to its end (the
// last 30 s of them are figure 8's), then the new one.
func TestScenario2TransformAndReplayChanged(t *testing.T) {
	t.Parallel()
	scenarios(t, func(s *scenario) {
		s.changed(toAES)
		new := s.both()
		s.flow(time.Second)
		s.sealed(s.old, fromAToB, fromBToA)
		s.run(time.Until(s.end) - 40*time.Second)
		s.sealed(s.old, fromAToB, fromBToA)
		s.run(time.Until(s.end))
		s.sealed(new, fromAToB, fromBToA)
		s.flawlessButClear() // C and D
	})
}

// Scenario 3: A and B in clear immediately; C and D with the old SA for 1000 s, then with
// the new one.
func TestScenario3ListTransformAndReplayChanged(t *testing.T) {
	t.Parallel()
	scenarios(t, func(s *scenario) {
		s.changed(listCD + toAES)
		new := s.both()
		s.flow(time.Second)
		s.clear(fromAToB, fromBToA)
		s.sealed(s.old, fromCToD, fromDToC)
		s.run(time.Until(s.end) - 40*time.Second)
		s.sealed(s.old, fromCToD, fromDToC)
		s.run(time.Until(s.end))
		s.sealed(new, fromCToD, fromDToC)
		s.clear(fromAToB, fromBToA)
		s.flawlessButClear() // A and B
	})
}
