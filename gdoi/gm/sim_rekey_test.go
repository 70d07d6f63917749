package gm_test

// Rekeys from a whole key server to whole members, over a network that loses and doubles
// datagrams: whatever a member sends with, every other one can open.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ks"
	"getvpn/internal/memnet"
	"getvpn/model"
)

func rekeying(t *testing.T, s *ks.Setup, kek time.Duration) *ks.Setup {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ks.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	s.Rekey = &ks.SetupRekey{Cipher: gdoi.KEKAESCBC, KeyBits: 256, Hash: gdoi.SigHashSHA256, Lifetime: kek, Signer: signer,
		Ack: gdoi.AckKEKSHA256, Retransmits: 2, Interval: 10 * time.Second}
	return s
}

// watchers looks at members: each sends, and each can open what the others send.
type watchers struct {
	t        *testing.T
	ms       []*member
	last     []uint32
	switches []int
	most     int
}

func watch(t *testing.T, ms ...*member) *watchers {
	return &watchers{t: t, ms: ms, last: make([]uint32, len(ms)), switches: make([]int, len(ms))}
}

func (w *watchers) look(when string) {
	w.t.Helper()
	for i, m := range w.ms {
		spi := m.sending("red")
		if spi == 0 {
			w.t.Fatalf("%s: member %d doesn't send", when, i)
		}
		if spi != w.last[i] {
			w.last[i] = spi
			w.switches[i]++
		}
		for j, peer := range w.ms {
			if !peer.receives("red", spi) {
				w.t.Fatalf("%s: member %d sends with %#x, which member %d doesn't have", when, i, spi, j)
			}
		}
		p, _ := m.plane.policy("red")
		w.most = max(w.most, len(p.TEKs))
	}
}

// during looks ten times a second.
func (w *watchers) during(d time.Duration, when string) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.look(when)
	}
}

func startGroup(t *testing.T, n *memnet.Network, dir string, tek, kek time.Duration) (*keyServer, []*member, func()) {
	k := startKS(t, n, ks1, "secret", dir, rekeying(t, setup("red", 1, tek), kek))
	var ms []*member
	for i := range 3 {
		ms = append(ms, startGM(t, n, gmAddr(i+1), "secret", join{"red", 1, []netip.Addr{ks1}, false}))
	}
	time.Sleep(30 * time.Second)
	synctest.Wait()
	return k, ms, func() {
		for _, m := range ms {
			m.stop()
		}
		k.stop()
	}
}

// Six hours of scheduled rekeys and KEK rollovers with 5 % loss.
func TestHoursOfRekeys(t *testing.T) {
	simulate(t, 21, func(t *testing.T, n *memnet.Network, dir string) {
		_, ms, stop := startGroup(t, n, dir, 10*time.Minute, 40*time.Minute)
		defer stop()
		n.SetAll(memnet.Link{Jitter: simDelay, Loss: 0.05, Duplicate: 0.05})
		w := watch(t, ms...)
		w.during(6*time.Hour, "hours")
		for i, m := range ms {
			g := m.model("red")
			if w.switches[i] < 30 || g.RekeysReceived < 35 || g.AcksSent < 35 || g.Succeeded > 2 {
				t.Errorf("member %d: %d changes of key, %d rekeys, %d ACKs, %d registrations", i, w.switches[i], g.RekeysReceived, g.AcksSent, g.Succeeded)
			}
		}
		if w.most > 3 {
			t.Errorf("up to %d TEKs at once", w.most)
		}
	})
}

// 200 times replace-now, every two seconds, with 2 % loss: each changes the key that
// members send with, and no packet meets a peer without it.
func TestReplaceNowEveryTwoSeconds(t *testing.T) {
	simulate(t, 22, func(t *testing.T, n *memnet.Network, dir string) {
		k, ms, stop := startGroup(t, n, dir, time.Hour, 24*time.Hour)
		defer stop()
		n.SetAll(memnet.Link{Jitter: simDelay, Loss: 0.02, Duplicate: 0.02})
		w := watch(t, ms...)
		for range 200 {
			if err := k.groups[0].Rekey(true, true); err != nil {
				t.Fatal(err)
			}
			w.during(2*time.Second, "storm")
		}
		w.during(40*time.Second, "afterwards")
		for i, m := range ms {
			if g := m.model("red"); w.switches[i] < 200 || g.Succeeded != 1 || len(g.TEKs) != 1 || g.Status != model.Registered {
				t.Errorf("member %d: %d changes of key, %d registrations, %d TEKs", i, w.switches[i], g.Succeeded, len(g.TEKs))
			}
		}
		if w.most > 14 {
			t.Errorf("up to %d TEKs at once", w.most)
		}
	})
}
