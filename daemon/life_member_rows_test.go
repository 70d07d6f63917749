package daemon

// Rows of the table of changes at members: what users see of a change of a member's own
// configuration: what becomes of traffic and keys, and which key server, address and key
// the next registration uses.

import (
	"slices"
	"testing"
	"time"

	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

const atGroup = "crypto gdoi group G\n "

// unmoved wants that members hold the key that they had, and send with it.
func unmoved(s *scene) {
	s.t.Helper()
	for _, m := range []*simNode{s.a, s.b} {
		if m.spi() != s.old {
			s.t.Errorf("%s sends with %#x, before the change with %#x", m.name, m.spi(), s.old)
		}
	}
}

// rekeyed lets the key server rekey and wants that members take it.
func (s *scene) rekeyed() {
	s.t.Helper()
	begin := time.Now()
	s.ks.command("crypto gdoi ks rekey")
	s.run(5 * time.Second)
	for _, m := range []*simNode{s.a, s.b} {
		if n := len(told[event.GMRecvRekey](m, begin)); n == 0 {
			s.t.Errorf("%s took no rekey", m.name)
		}
	}
}

var memberRows = []row{
	{name: "member-servers", where: "members", change: atGroup + "no server address ipv4 192.0.2.1\n server address ipv4 192.0.2.2",
		prepare: func(s *scene) {
			s.life.ks("ks2", "192.0.2.2", edit(s.t, pushed(s.t, lifeKS, multicast), "address ipv4 192.0.2.1", "address ipv4 192.0.2.2"))
		},
		look: func(s *scene) {
			unmoved(s)
			s.run(time.Minute)
			for _, m := range []*simNode{s.a, s.b} {
				if n := len(told[event.GMRegister](m, s.begin)); n != 0 {
					s.t.Errorf("%s asked %d times for what it has", m.name, n)
				}
				if with, ok := m.joins(); !ok || with.String() != "192.0.2.2" {
					s.t.Errorf("%s registered %v with %v", m.name, ok, with)
				}
				for _, e := range told[event.GMRegister](m, s.begin.Add(20*time.Second)) {
					if e.KS.String() != "192.0.2.2" {
						s.t.Errorf("%s asked %v", m.name, e.KS)
					}
				}
			}
			s.run(time.Until(s.tek(s.old).Expires)) // over to the other key server's keys
			if s.a.spi() == s.old || s.a.spi() != s.b.spi() {
				s.t.Errorf("a life later they send with %#x and %#x", s.a.spi(), s.b.spi())
			}
		}},
	{name: "member-servers", what: "first one away", where: "members", change: atGroup + "no server address ipv4 192.0.2.1\n server address ipv4 192.0.2.9\n server address ipv4 192.0.2.1",
		look: func(s *scene) {
			unmoved(s)
			begin := time.Now()
			s.a.command("clear crypto gdoi")
			s.wait(2*time.Minute, "a registration with the second server", func() bool { return len(told[event.GMRegistrationComplete](s.a, begin)) > 0 })
			if l := told[event.GMRegister](s.a, begin); len(l) < 2 || l[0].KS.String() != "192.0.2.9" || l[len(l)-1].KS != s.ks.addr {
				s.t.Errorf("asked %v", l)
			}
			unmoved(s)
		}},
	{name: "member-map", what: "own list", where: "members", clear: true,
		change: "ip access-list extended L\n deny udp any any eq 5000\n deny udp any eq 5000 any\ncrypto map M 10 gdoi\n match address L", look: func(s *scene) {
			if f, ok := s.traffic.Probe(0); f.SPI != 0 || f.Drop != ipsec.DropNone || !ok {
				s.t.Errorf("what the own list denies: %+v, arrived %v", f, ok)
			}
			if f, ok := s.traffic.Probe(1); f.SPI != s.old || !ok {
				s.t.Errorf("what the key server's list permits: %+v, arrived %v; before with %#x", f, ok, s.old)
			}
		}},
	{name: "member-map", what: "fail-close", where: "members", change: "crypto map M gdoi fail-close\n activate", look: func(s *scene) {
		unmoved(s)
		s.run(time.Minute)
		s.rekeyed()
	}},
	{name: "member-map", what: "taken off the interface", where: "gm1", change: "interface wan\n no crypto map M", clear: true, lossy: true, look: func(s *scene) {
		if f, ok := s.traffic.Probe(0); f.SPI != 0 || f.Drop != ipsec.DropNone || ok {
			s.t.Errorf("without a map: %+v, taken by who still protects: %v", f, ok)
		}
		s.a.configure("interface wan\n crypto map M")
		s.run(10 * time.Second)
		if f, ok := s.traffic.Probe(0); f.SPI != s.b.spi() || !ok {
			s.t.Errorf("with the map again: %+v, arrived %v", f, ok)
		}
	}},
	{name: "member-source", where: "members", transport: unicast, change: atGroup + "client registration interface lo0", look: func(s *scene) {
		unmoved(s)
		s.run(time.Minute)
		for _, m := range []*simNode{s.a, s.b} {
			if _, ok := m.joins(); !ok {
				s.t.Errorf("%s isn't registered", m.name)
			}
			if !slices.ContainsFunc(s.ks.listed(), func(x *model.Member) bool { return x.Addr == m.lo0 }) {
				s.t.Errorf("%s isn't listed with %v", m.name, m.lo0)
			}
		}
		begin := time.Now()
		s.rekeyed()
		for _, m := range []*simNode{s.a, s.b} {
			if !slices.ContainsFunc(s.rekeys(begin), func(p push) bool { return p.to.Addr() == m.lo0 }) {
				s.t.Errorf("no rekey to %v", m.lo0)
			}
		}
	}},
	{name: "member-passive", where: "gm2", change: atGroup + "passive", clear: true, lossy: true, look: func(s *scene) {
		unmoved(s)
		clearly := func(want bool) { // gm1 sends in clear; does gm2 take it?
			s.t.Helper()
			s.a.command("crypto gdoi gm ipsec direction inbound only")
			if f, ok := s.traffic.Probe(0); f.SPI != 0 || f.Drop != ipsec.DropNone || ok != want {
				s.t.Errorf("in clear: %+v, arrived %v", f, ok)
			}
			s.a.command("crypto gdoi gm ipsec direction both")
			if f, ok := s.traffic.Probe(0); f.SPI != s.a.spi() || f.SPI == 0 || !ok {
				s.t.Errorf("encrypted: %+v, arrived %v", f, ok)
			}
			if f, ok := s.traffic.Probe(1); f.SPI != s.b.spi() || f.SPI == 0 || !ok {
				s.t.Errorf("what it sends itself: %+v, arrived %v", f, ok)
			}
		}
		clearly(true)
		s.rekeyed() // the key server's word doesn't undo it (guide l.2388)
		clearly(true)
		s.b.configure(atGroup + "no passive")
		s.run(10 * time.Second)
		clearly(false)
	}},
	{name: "member-client", what: "cipher of rekeys", where: "members", change: atGroup + "client rekey encryption aes 256", look: func(s *scene) {
		unmoved(s)
		s.run(time.Minute)
		s.ks.configure(atLocal + "rekey algorithm aes 192") // a KEK that it doesn't take
		s.run(5 * time.Second)
		for _, m := range []*simNode{s.a, s.b} {
			if len(told[event.GMRecvRekey](m, s.begin)) != 0 || len(told[event.GMRejectingSAPayload](m, s.begin)) == 0 {
				s.t.Errorf("%s: a rekey with another cipher isn't refused", m.name)
			}
		}
		unmoved(s)
		if _, ok := s.a.joins(); ok {
			s.t.Error("registered for what it doesn't accept")
		}
		unmoved(s)
		for _, m := range []*simNode{s.a, s.b} {
			m.configure(atGroup + "no client rekey encryption")
			if _, ok := m.joins(); !ok {
				s.t.Errorf("%s: not registered with what it accepts again", m.name)
			}
		}
		s.rekeyed()
	}},
	{name: "member-client", what: "transform sets", where: "members", change: "crypto ipsec transform-set OTHER esp-aes 256 esp-sha256-hmac\n" + atGroup + "client transform-sets OTHER", look: func(s *scene) {
		unmoved(s)
		s.run(time.Minute)
		if _, ok := s.a.joins(); ok || len(told[event.GMRejectingSAPayload](s.a, s.begin)) == 0 {
			s.t.Error("took what it doesn't accept, or didn't tell")
		}
		unmoved(s)
	}},
	{name: "psk-member", where: "members", change: "crypto isakmp key k2 address 192.0.2.1", look: func(s *scene) {
		unmoved(s)
		s.rekeyed() // the KEK protects it, not the pre-shared key
		if _, ok := s.a.joins(); !ok {
			s.t.Error("an ISAKMP SA that exists doesn't stay")
		}
		s.a.command("clear crypto isakmp")
		if _, ok := s.a.joins(); ok {
			s.t.Error("registered with a key that the key server doesn't know")
		}
		s.ks.configure("crypto isakmp key k2 address 198.51.100.0 255.255.255.0")
		for _, m := range []*simNode{s.a, s.b} {
			if _, ok := m.joins(); !ok {
				s.t.Errorf("%s: not registered with the new key", m.name)
			}
		}
	}},
}

func TestMemberRowsOfTheTables(t *testing.T) {
	t.Parallel()
	look(t, memberRows)
}
