package gm_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// refusals are all that a key server has counted: endpoint, server, groups.
func (k *keyServer) refusals() (n uint64) {
	for _, v := range k.ep.Drops() {
		n += v
	}
	n += sum(k.srv.Rejected())
	for _, g := range k.store.Load().KeyServers {
		n += sum(g.Rejected)
	}
	return n
}

// served proves that the key server serves the next member.
func served(t *testing.T, n *memnet.Network, number uint32, name string, addr int) {
	t.Helper()
	m := startGM(t, n, gmAddr(addr), "secret", join{name, number, []netip.Addr{ks1}, false})
	defer m.stop()
	time.Sleep(5 * time.Second)
	synctest.Wait()
	if m.sending(name) == 0 {
		t.Errorf("the next member isn't served: %+v", m.model(name))
	}
}

func events[E event.Event](x *node) (out []E) {
	for {
		select {
		case r := <-x.sub.C():
			if e, ok := r.Event.(E); ok {
				out = append(out, e)
			}
		default:
			return out
		}
	}
}

// A wrong key for five minutes, three key servers in the list.
func Test_ike_01_WrongPreSharedKey(t *testing.T) {
	simulate(t, 5, func(t *testing.T, n *memnet.Network, dir string) {
		var servers []*keyServer
		for _, a := range []netip.Addr{ks1, ks2, ks3} {
			k := startKS(t, n, a, "secret", dir+a.String(), setup("red", 1, time.Hour))
			defer k.stop()
			servers = append(servers, k)
		}
		m := startGM(t, n, gmAddr(1), "secreT", join{"red", 1, []netip.Addr{ks1, ks2, ks3}, false})
		defer m.stop()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		g := m.model("red")
		if m.sending("red") != 0 || g.FailuresByReason["authentication-failed"] < 3 || g.Attempted > 30 {
			t.Errorf("member: %d attempts, failures %v", g.Attempted, g.FailuresByReason)
		}
		tried := map[netip.Addr]int{}
		for _, e := range events[event.IKEAuthFailed](m.node) {
			tried[e.Peer]++
		}
		for _, k := range servers {
			a := k.ep.Drops()
			n := len(events[event.IKEAuthFailed](k.node))
			if n == 0 || n > 30 {
				t.Errorf("key server tells of the failure %d times; drops %v", n, a)
			}
		}
		for _, a := range []netip.Addr{ks1, ks2, ks3} {
			if tried[a] == 0 || tried[a] > 10 {
				t.Errorf("the member tells of %v %d times", a, tried[a])
			}
		}
		served(t, n, 1, "red", 2)
	})
}

// One member, 200 times "clear crypto gdoi" within 10 minutes.
func Test_ike_02_TwoHundredClears(t *testing.T) {
	simulate(t, 6, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour))
		defer k.stop()
		short := phase1("secret")
		short.Policies[0].Lifetime = 300 * time.Second
		k.ep.SetConfig(short)
		m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer m.stop()
		m.ep.SetConfig(short)
		time.Sleep(5 * time.Second)
		live := func() (n int) {
			for _, s := range k.store.Load().IKE.SAs {
				if !s.Deleted {
					n++
				}
			}
			return n
		}
		before := k.store.Load().KeyServers[0].Members.At(0).Registrations
		for range 200 {
			m.groups["red"].Clear()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if l := live(); l > 2 {
				t.Fatalf("%d live ISAKMP SAs", l)
			}
			if m.sending("red") == 0 {
				t.Fatal("the member has no key meanwhile")
			}
		}
		g := k.store.Load().KeyServers[0]
		if g.Members.Len() != 1 || g.Members.At(0).Registrations != before+200 {
			t.Errorf("%d member records, %d registrations more", g.Members.Len(), g.Members.At(0).Registrations-before)
		}
	})
}

func TestUnknownGroupUnauthorisedAddressAndOldMember(t *testing.T) {
	simulate(t, 7, func(t *testing.T, n *memnet.Network, dir string) {
		closed := setup("closed", 2, time.Hour)
		closed.Auth = &config.ACL{Entries: []ipsec.ACE{{Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(netip.PrefixFrom(gmAddr(9), 32))}}}
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour), closed)
		defer k.stop()
		bad := startGM(t, n, gmAddr(1), "secret", join{"red", 77, []netip.Addr{ks1}, false}, join{"closed", 2, []netip.Addr{ks1}, false})
		defer bad.stop()
		old := startGM(t, n, gmAddr(2), "secret", join{"red", 1, []netip.Addr{ks1}, true})
		defer old.stop()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if bad.sending("red") != 0 || bad.sending("closed") != 0 || old.sending("red") != 0 {
			t.Error("somebody got keys")
		}
		if r := k.store.Load().KSRejected; r["unknown-group"] == 0 {
			t.Errorf("server counts %v", r)
		}
		s := k.store.Load()
		if r := s.KeyServers[1].Rejected; r["unauthorized-address"] == 0 {
			t.Errorf("closed counts %v", r)
		}
		if r := s.KeyServers[0].Rejected; r["capability-mismatch"] == 0 && r["capability-missing"] == 0 {
			t.Errorf("red counts %v", r)
		}
		if s.KeyServers[1].KEK != nil || len(s.KeyServers[1].Policies[0].TEKs) != 0 || s.KeyServers[0].Members.Len() != 0 {
			t.Error("a refused member changed the group")
		}
		if f := bad.model("red").FailuresByReason; f["refused"] == 0 {
			t.Errorf("the member learns nothing: %v", f)
		}
		ev := k.tally()
		if ev["KSBadID"] == 0 || ev["UnauthorizedIPAddr"] == 0 || ev["KSRejectVersion"] == 0 {
			t.Errorf("events %v", ev)
		}
		served(t, n, 1, "red", 3)
	})
}

// A group for foreign members gets nothing private, and serves both kinds.
func TestInteropGroup(t *testing.T) {
	simulate(t, 8, func(t *testing.T, n *memnet.Network, dir string) {
		s := setup("red", 1, time.Hour)
		s.Group.Interop = true
		k := startKS(t, n, ks1, "secret", dir, s)
		defer k.stop()
		m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, true})
		defer m.stop()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		p, _ := m.plane.policy("red")
		if m.sending("red") == 0 || len(p.Entries) != 1 || p.TEKs[0].Replay.Mode != ipsec.ReplayNone {
			t.Errorf("installed %+v, %+v", p, m.model("red"))
		}
	})
}

// mutations of a datagram: bits flipped in header, first block, middle and end;
// lengths cut; garbage.
func mutations(b []byte) map[string][]byte {
	out := map[string][]byte{}
	for _, i := range []int{0, 8, 16, 17, 18, 19, 20, 27, 28, 33, 45, len(b) / 2, len(b) - 1} {
		if i < len(b) {
			c := bytes.Clone(b)
			c[i] ^= 0x10
			out["bit of octet "+string(rune('0'+i%10))+string(rune('a'+i/10%26))] = c
		}
	}
	for _, n := range []int{0, 1, 27, 28, 44, len(b) - 16, len(b) - 1} {
		if n < len(b) && n >= 0 {
			c := bytes.Clone(b[:n])
			out["cut to "+string(rune('a'+n%26))] = c
			if n >= 28 {
				c = bytes.Clone(c)
				binary.BigEndian.PutUint32(c[24:], uint32(n))
				out["cut with length "+string(rune('a'+n%26))] = c
			}
		}
	}
	out["longer"] = append(bytes.Clone(b), make([]byte, 16)...)
	return out
}

func pull(b []byte) bool { return len(b) > 28 && isakmp.ExchangeType(b[18]) == isakmp.GroupKeyPull }

// Forged copies before each genuine message change nothing: the registration works,
// forgeries are counted, and no member or Sender ID more than that one exists.
func Test_wire_01_ForgedCopiesAtEveryStep(t *testing.T) {
	simulate(t, 9, func(t *testing.T, n *memnet.Network, dir string) {
		n.SetAll(memnet.Link{})
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour))
		defer k.stop()
		var inject [][3]any
		var history [][]byte
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
			if !pull(b) {
				return b
			}
			for _, c := range mutations(b) {
				inject = append(inject, [3]any{from, to, c})
			}
			for _, h := range history { // replays, in either direction
				inject = append(inject, [3]any{from, to, h})
			}
			history = append(history, bytes.Clone(b))
			for _, x := range inject {
				from, to, c := x[0].(netip.AddrPort), x[1].(netip.AddrPort), x[2].([]byte)
				n.Deliver(from, to, c)
			}
			inject = nil
			return b
		})
		before := k.refusals()
		m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer m.stop()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		n.SetTap(nil)
		if m.sending("red") == 0 {
			t.Fatalf("forgeries stopped the registration: %+v", m.model("red"))
		}
		g := k.store.Load().KeyServers[0]
		if g.Members.Len() != 1 || g.Members.At(0).Registrations != 1 || g.SIDsUsed != 1 {
			t.Errorf("forgeries changed the group: %+v", g)
		}
		if c := k.refusals() - before; c < 40 {
			t.Errorf("%d refusals counted", c)
		}
		served(t, n, 1, "red", 2)
	})
}

// A member all of whose messages of one step arrive broken gets nothing.
func Test_wire_01_BrokenMessagesGetNothing(t *testing.T) {
	for step := 1; step <= 3; step += 2 {
		for _, kind := range []string{"flip", "cut", "extend"} {
			simulate(t, 10, func(t *testing.T, n *memnet.Network, dir string) {
				k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour))
				defer k.stop()
				seen := map[string]int{} // distinct messages of the member, by number: 1, 3
				n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
					if !pull(b) || to.Addr() != ks1 {
						return b
					}
					if seen[string(b)] == 0 {
						seen[string(b)] = 2*len(seen) + 1
					}
					if seen[string(b)] == step {
						switch kind {
						case "flip":
							b = bytes.Clone(b)
							b[len(b)-20] ^= 1
						case "cut":
							b = b[:len(b)-16]
						case "extend":
							b = append(bytes.Clone(b), 0)
						}
					}
					return b
				})
				before := k.refusals()
				m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
				time.Sleep(20 * time.Second)
				synctest.Wait()
				got := m.sending("red") != 0
				m.stop()
				n.SetTap(nil)
				if got || k.store.Load().KeyServers[0].Members.Len() != 0 {
					t.Errorf("step %d, %s: registered", step, kind)
				}
				if k.refusals() == before {
					t.Errorf("step %d, %s: nothing counted", step, kind)
				}
				served(t, n, 1, "red", 2)
			})
		}
	}
}

// A hostile key server (authenticated, but broken or taken over) sends an attribute
// that claims 65535 octets in SAT, SAK and GAP of message 2 and in KD of message 4.
func Test_wire_01_HostileKeyServer(t *testing.T) {
	overrun := func(a uint16) []byte {
		b := binary.BigEndian.AppendUint16(nil, a)
		b = append(b, 0xff, 0xff)
		return append(b, make([]byte, 12)...)
	}
	sat := append([]byte{1, 0, 1, 0, 0, 4, 10, 0, 0, 1, 1, 0, 0, 4, 10, 0, 0, 2, 12, 0, 0, 9, 9}, overrun(2)...)
	sak := append([]byte{17, 1, 0, 0, 4, 10, 0, 0, 1, 1, 0, 0, 4, 10, 0, 0, 2}, make([]byte, 16+4)...)
	sak = append(sak, overrun(4)...)
	inSA := func(t isakmp.PayloadType, body []byte) []byte {
		b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, byte(t), 0, 0, 0, 0}
		return append(binary.BigEndian.AppendUint16(b, uint16(4+len(body))), body...)
	}
	good := append([]byte{1, 0, 1, 0, 0, 4, 10, 0, 0, 1, 1, 0, 0, 4, 10, 0, 0, 2, 12, 0, 0, 9, 9}, 0x80, 6, 0, 128, 0x80, 5, 0, 5)
	kd := []byte{0, 1, 0, 0, 1, 0, 0, 25, 4, 0, 0, 9, 9}
	kd = append(kd, overrun(1)...)
	for name, c := range map[string]struct {
		sa, kd []byte
		reason string
	}{
		"SAT": {sa: inSA(isakmp.PayloadSAT, sat), reason: "attribute-overrun"},
		"SAK": {sa: inSA(isakmp.PayloadSAK, sak), reason: "attribute-overrun"},
		"GAP": {sa: inSA(isakmp.PayloadGAP, overrun(1)), reason: "attribute-overrun"},
		"KD":  {sa: inSA(isakmp.PayloadSAT, good), kd: kd, reason: "attribute-overrun"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 11, func(t *testing.T, n *memnet.Network, dir string) {
				k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour))
				defer k.stop()
				m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks2, ks1}, false})
				defer m.stop()
				time.Sleep(2 * time.Minute) // ks2 is silent, ks1 serves
				synctest.Wait()
				spi, before := m.sending("red"), m.model("red")
				if spi == 0 {
					t.Fatal("not registered")
				}
				m.tally()
				evil := newNode(t, n, ks2, "secret")
				evil.cancel = func() {}
				defer evil.stop()
				evil.ep.HandlePull(hostile(t, c.sa, c.kd))
				m.groups["red"].Clear()
				time.Sleep(20 * time.Second)
				synctest.Wait()
				g := m.model("red")
				if sum(g.FailuresByReason) != sum(before.FailuresByReason)+1 || g.FailuresByReason[c.reason] != 1 {
					t.Errorf("counted %v, before %v", g.FailuresByReason, before.FailuresByReason)
				}
				if m.sending("red") != spi || g.Succeeded != before.Succeeded+1 || g.RegisteredWith != ks1 || g.Status != model.Registered {
					t.Errorf("afterwards %+v", g)
				}
				ev := events[event.GMRejectingSAPayload](m.node)
				if len(ev) != 1 || ev[0].KS != ks2 || !strings.Contains(ev[0].Reason, name) || !strings.Contains(ev[0].Reason, "offset") {
					t.Errorf("told %v", ev)
				}
			})
		})
	}
}

// hostile answers PULL with raw bodies under correct hashes.
func hostile(t *testing.T, sa, kd []byte) func(x *ike.Exchange, d []byte) {
	var ni, nr []byte
	send := func(x *ike.Exchange, ps []isakmp.Payload, covered ...[]byte) {
		raw, err := isakmp.AppendChain(nil, ps)
		if err != nil {
			t.Error(err)
			return
		}
		all := append([]isakmp.Payload{isakmp.HashPayload(x.Hash(append(covered, raw)...))}, ps...)
		d, err := x.Encrypt(isakmp.GroupKeyPull, all)
		if err != nil {
			t.Error(err)
			return
		}
		if err := x.Send(d); err != nil {
			t.Error(err)
		}
	}
	return func(x *ike.Exchange, d []byte) {
		ps, _, err := x.Decrypt(d)
		if err != nil {
			return
		}
		x.Accept()
		if p, ok := isakmp.Find(ps, isakmp.PayloadNonce); ok {
			ni, nr = bytes.Clone(p.Body), make([]byte, 16)
			send(x, []isakmp.Payload{isakmp.NoncePayload(nr), {Type: isakmp.PayloadSA, Body: sa}}, ni)
			return
		}
		send(x, []isakmp.Payload{{Type: isakmp.PayloadKD, Body: kd}}, ni, nr)
	}
}
