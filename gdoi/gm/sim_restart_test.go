package gm_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/memnet"
	"getvpn/ipsec"
)

// sealed sends n packets with each TEK that the member may send with, through a new
// dataplane as a new process has it, and returns the (SPI, IV) pairs on the wire.
func sealed(t *testing.T, m *member, n int) (out [][2]uint64) {
	t.Helper()
	g, _ := m.plane.policy("red")
	var db ipsec.SADB
	for _, tek := range g.TEKs {
		if len(tek.SIDs) == 0 {
			continue
		}
		sa, err := db.Install(tek, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s, err := sa.NewSealer(nil)
		if err != nil {
			t.Fatal(err)
		}
		pkt := make([]byte, 40)
		pkt[0], pkt[3], pkt[8], pkt[9] = 0x45, 40, 64, 17
		pkt[12], pkt[16] = 10, 10
		buf := make([]byte, ipsec.Headroom+len(pkt)+ipsec.Tailroom)
		for range n {
			copy(buf[ipsec.Headroom:], pkt)
			start, _, why := s.Seal(buf, ipsec.Headroom, len(pkt))
			if why != ipsec.DropNone {
				t.Fatalf("seal: %v", why)
			}
			out = append(out, [2]uint64{uint64(tek.SPI), binary.BigEndian.Uint64(buf[start+28:])})
		}
	}
	return out
}

// A member that is killed and started again 50 times while it and another one send:
// no (SPI, IV) is ever seen twice under the group's AES-GCM keys.
func Test_esp_10_FiftyRestarts(t *testing.T) {
	simulate(t, 15, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, 20*time.Minute))
		defer k.stop()
		other := startGM(t, n, gmAddr(2), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer other.stop()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		seen := map[[2]uint64]int{}
		collect := func(life int, pairs [][2]uint64) {
			if len(pairs) == 0 {
				t.Fatalf("life %d: nothing could be sent", life)
			}
			for _, p := range pairs {
				if was, ok := seen[p]; ok {
					t.Fatalf("SPI %#x, IV %016x in lives %d and %d", p[0], p[1], was, life)
				}
				seen[p] = life
			}
		}
		collect(-1, sealed(t, other, 200))
		for life := range 51 {
			m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
			time.Sleep(40 * time.Second) // through several TEKs
			synctest.Wait()
			collect(life, sealed(t, m, 200))
			n.Cut(netip.Addr{}, netip.Addr{}) // killed: it says nothing any more
			m.stop()
			n.HealAll()
		}
		if g := k.store.Load().KeyServers[0]; g.Members.Len() != 2 || len(k.ep.SAs(gmAddr(1))) > 2 {
			t.Errorf("%d members, %d SAs with the restarted one", g.Members.Len(), len(k.ep.SAs(gmAddr(1))))
		}
	})
}
