package gm_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
)

// words are a failed test's.
func (m *member) words(group string) string {
	g := m.model(group)
	s := fmt.Sprintf("registered at %v, next at %v, %d of %d attempts, last error %q, failures %v, IKE drops %v", g.RegisteredAt, g.ReRegisters,
		g.Succeeded, g.Attempted, g.LastError, g.FailuresByReason, m.store.Load().IKE.Drops)
	for _, t := range g.TEKs {
		s += fmt.Sprintf("\n  SPI %#x until %v", t.SPI, t.Expires)
	}
	return s
}

// oracle judges all members at this instant: what anybody sends with, everybody holds,
// and nobody has a permit without an SA.
func oracle(t *testing.T, group string, members []*member) {
	t.Helper()
	for i, a := range members {
		spi := a.sending(group)
		if spi == 0 {
			t.Fatalf("%v: member %d has a permit without SA", time.Now(), i)
		}
		for j, b := range members {
			if !b.receives(group, spi) {
				t.Fatalf("%v: member %d sends with %#x, which member %d doesn't hold\nsender: %s\nreceiver: %s", time.Now(), i, spi, j, a.words(group), b.words(group))
			}
		}
	}
}

// Every TEK ends each 120 s for hours, over a network that loses, doubles and reorders:
// no instant without a common key, and no (key, Sender ID) pair at two members.
func Test_esp_10_TEKsRollOverWithoutAGap(t *testing.T) {
	hours := 4 * time.Hour
	if testing.Short() {
		hours = time.Hour
	}
	for _, life := range []time.Duration{60 * time.Second, 120 * time.Second, 600 * time.Second} {
		simulate(t, uint64(life), func(t *testing.T, n *memnet.Network, dir string) {
			n.SetAll(memnet.Link{Loss: 0.02, Duplicate: 0.05, Jitter: simDelay})
			k := startKS(t, n, ks1, "secret", dir, setup("red", 1, life))
			defer k.stop()
			var members []*member
			for i := range 4 {
				m := startGM(t, n, gmAddr(i+1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
				defer m.stop()
				members = append(members, m)
				time.Sleep(life / 3) // members join at all phases of a TEK's life
			}
			spis := map[uint32]bool{}
			for end := time.Now().Add(hours); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
				synctest.Wait()
				oracle(t, "red", members)
				spis[members[0].sending("red")] = true
			}
			if want := int(hours / life); len(spis) < want {
				t.Errorf("life %v: %d TEKs in %v, want %d at least", life, len(spis), hours, want)
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
			t.Logf("life %v: %d TEKs, %d registrations", life, len(spis), k.store.Load().KeyServers[0].Counters.PullsCompleted)
		})
	}
}

// The key server goes away until all keys have ended, then comes back with new ones.
func TestKeyServerAwayAndBack(t *testing.T) {
	simulate(t, 3, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, 2*time.Minute))
		defer func() { k.stop() }()
		var members []*member
		for i := range 3 {
			m := startGM(t, n, gmAddr(i+1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
			defer m.stop()
			members = append(members, m)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		oracle(t, "red", members)
		k.ep.Close() // no farewell: the members must notice by themselves
		k.stop()
		time.Sleep(100 * time.Second)
		synctest.Wait()
		oracle(t, "red", members)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for i, m := range members {
			g, _ := m.plane.policy("red")
			if m.sending("red") != 0 || len(g.TEKs) != 0 || g.State != ipsec.Registered {
				t.Errorf("member %d after the end: %+v", i, g)
			}
		}
		k = startKS(t, n, ks1, "secret", dir, setup("red", 1, 2*time.Minute))
		// The longest pause of the back-off, and the longest silence of an attempt.
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		oracle(t, "red", members)
	})
}

// A key server that restarts has new keys. Members hold the old ones until their end,
// register in their windows, and never stop talking to each other, as long as it
// doesn't die while a successor has reached some of them only (those would go on with
// it, the others with what the new process made: nothing tells them before they
// register again).
func TestKeyServerRestart(t *testing.T) {
	simulate(t, 4, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, 5*time.Minute))
		defer func() { k.stop() }()
		var members []*member
		for i := range 3 {
			m := startGM(t, n, gmAddr(i+1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
			defer m.stop()
			members = append(members, m)
		}
		settled := func() bool {
			synctest.Wait()
			first, _ := members[0].plane.policy("red")
			for _, m := range members {
				if g, _ := m.plane.policy("red"); len(g.TEKs) != 1 || g.TEKs[0].SPI != first.TEKs[0].SPI {
					return false
				}
			}
			left := time.Until(first.TEKs[0].Expires)
			return left > policy.ReadyBefore(5*time.Minute)+5*time.Second
		}
		time.Sleep(30 * time.Second)
		for range 5 {
			for !settled() {
				time.Sleep(time.Second)
			}
			k.stop()
			time.Sleep(3 * time.Second)
			k = startKS(t, n, ks1, "secret", dir, setup("red", 1, 5*time.Minute))
			for end := time.Now().Add(7 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
				synctest.Wait()
				oracle(t, "red", members)
			}
		}
	})
}
