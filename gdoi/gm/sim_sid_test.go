package gm_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// Sender IDs of 6 bits: the 65th registration finds new keys and a clean slate, and
// nobody ever gets a pair of key and Sender ID that somebody else had.
func Test_esp_10_SenderIDsRunOut(t *testing.T) {
	simulate(t, 12, func(t *testing.T, n *memnet.Network, dir string) {
		s := setup("red", 1, 30*time.Minute)
		s.SIDBits = 6
		k := startKS(t, n, ks1, "secret", dir, s)
		defer func() { k.stop() }()
		var members []*member
		for i := range 4 {
			m := startGM(t, n, gmAddr(i+1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
			defer m.stop()
			members = append(members, m)
		}
		time.Sleep(5 * time.Second)
		reinits := 0
		for i := range 100 {
			members[i%4].groups["red"].Clear()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			reinits += len(events[event.KSReinitFinish](k.node))
			if i == 60 { // a restart in between
				k.stop()
				k = startKS(t, n, ks1, "secret", dir, s)
			}
		}
		if reinits == 0 {
			t.Error("the Sender IDs never ran out")
		}
		if g := k.store.Load().KeyServers[0]; g.SIDsUsed > 64 || g.SIDBits != 6 {
			t.Errorf("%d Sender IDs of %d bits used", g.SIDsUsed, g.SIDBits)
		}
		for i, a := range members {
			for _, b := range members[:i] {
				for key, sids := range a.plane.sent {
					for sid := range sids {
						if b.plane.sent[key][sid] {
							t.Fatalf("Sender ID %d at two members under one key", sid)
						}
					}
				}
			}
		}
	})
}

// Message 1 alone changes nothing: no key, no member, no Sender ID (RFC 6407 §7.2.5).
func TestMessageOneChangesNothing(t *testing.T) {
	simulate(t, 13, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour))
		defer k.stop()
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
			if from.Addr() == ks1 && len(b) > 18 && isakmp.ExchangeType(b[18]) == isakmp.GroupKeyPull {
				return nil // message 2 never arrives
			}
			return b
		})
		m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer m.stop()
		time.Sleep(50 * time.Second)
		synctest.Wait()
		g := k.store.Load().KeyServers[0]
		if len(g.Policies[0].TEKs) != 0 || g.Members.Len() != 0 || g.SIDsUsed != 0 || g.Counters.PullsCompleted != 0 {
			t.Errorf("changed: %+v", g)
		}
		n.SetTap(nil)
		served(t, n, 1, "red", 2)
	})
}

// A receive-only group reaches the members as such.
func TestDirectionIsCarried(t *testing.T) {
	simulate(t, 14, func(t *testing.T, n *memnet.Network, dir string) {
		s := setup("red", 1, time.Hour)
		s.Entries[0].Direction = ipsec.InboundOnly
		k := startKS(t, n, ks1, "secret", dir, s)
		defer k.stop()
		m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer m.stop()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		p, _ := m.plane.policy("red")
		if len(p.TEKs) != 1 || p.TEKs[0].Direction != ipsec.InboundOnly || m.model("red").Direction != "Inbound Only" {
			t.Errorf("installed %+v", p)
		}
	})
}
