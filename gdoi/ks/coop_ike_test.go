package ks_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/internal/memnet"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// Two key servers with their own endpoints over a network that loses a hundredth: phase
// 1, roles, keys; a member gets the same keys from both; the one that is primary stops,
// the other goes on with them.
func TestKeyServersOverEndpoints(t *testing.T) {
	signer := partySigner(t)
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(3)
		net.SetAll(memnet.Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.01})
		addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		permit := ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(netip.MustParsePrefix("10.0.0.0/8")), Dst: ipsec.MatchPrefix(netip.MustParsePrefix("10.0.0.0/8"))}
		type server struct {
			store *model.Store
			stop  func()
		}
		var all []*server
		for i, a := range addrs {
			s := &server{store: model.NewStore(model.Snapshot{})}
			bus := event.NewBus()
			ep, err := ike.New(ike.Options{Locals: []netip.Addr{a}, NATTPort: -1, Config: partyConfig(), Store: s.store, Events: bus, Workers: 1,
				VendorIDs: [][]byte{gdoi.OurCapability().VendorID()},
				Listen:    func(p netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](net.Listen(p)) }})
			if err != nil {
				t.Fatal(err)
			}
			srv := ks.NewServer(ks.Options{Store: s.store, Events: bus, Rand: rand.Reader, Files: ks.Disk{}, Dir: t.TempDir(), Machine: "m", Push: ep, Peers: ks.NewEndpointPeers(ep)})
			ep.HandlePull(srv.HandlePull)
			ep.HandlePeerNotify(srv.HandlePeerNotify)
			g, err := srv.Add(&ks.Setup{
				Group:   config.Group{Name: "g", HasNumber: true, Number: 1, Local: &config.LocalServer{Address: a, RekeyUnicast: true}},
				SIDBits: 24,
				Rekey:   &ks.SetupRekey{Cipher: gdoi.KEKAESCBC, KeyBits: 128, Hash: gdoi.SigHashSHA256, Lifetime: 24 * time.Hour, Signer: signer, Ack: gdoi.AckKEKSHA256},
				Entries: []ks.SetupEntry{{Seq: 1, Profile: "P", ACL: "A", Lifetime: time.Hour, ACEs: []ipsec.ACE{permit},
					Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}}},
				Coop: &ks.CoopSetup{Self: a, Priority: uint8(100 - i), Peers: addrs, SIDs: []coop.SIDRange{{Low: uint32(i) * 1000, High: uint32(i)*1000 + 999}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				g.Run(ctx)
			}()
			s.stop = func() {
				if cancel != nil {
					cancel()
					<-ended
					ep.Close()
					cancel = nil
				}
			}
			defer s.stop()
			all = append(all, s)
		}
		group := func(i int) model.KSGroup { return all[i].store.Load().KeyServers[0] }
		wait := func(what string, ok func() bool) {
			t.Helper()
			for range 120 {
				if synctest.Wait(); ok() {
					return
				}
				time.Sleep(time.Second)
			}
			t.Fatalf("%s: never. %+v and %+v", what, group(0).Coop, group(1).Coop)
		}
		wait("both serve", func() bool {
			a, b := group(0).Coop, group(1).Coop
			return a.Role == model.CoopPrimary && b.Role == model.CoopSecondary && a.Gate == model.CoopOpen && b.Gate == model.CoopOpen && !a.Reinit && !b.Reinit
		})
		pull := func(i int) (spis []uint32, sids []uint32) {
			t.Helper()
			local := netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)})
			r, err := pullOnce(t.Context(), net, partyConfig(), local, addrs[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range r.Offer.TEKs {
				spis = append(spis, x.SPI)
			}
			return spis, r.Keys.SIDs
		}
		one, s1 := pull(0)
		two, s2 := pull(1)
		if !slices.Equal(one, two) || !slices.Equal(s1, []uint32{0}) || !slices.Equal(s2, []uint32{1000}) {
			t.Errorf("TEKs %x and %x, Sender IDs %v and %v", one, two, s1, s2)
		}
		wait("both list both", func() bool { return group(0).Members.Len() == 2 && group(1).Members.Len() == 2 })
		all[0].stop()
		wait("the second takes over", func() bool { return group(1).Coop.Role == model.CoopPrimary })
		if three, _ := pull(1); !slices.Contains(three, one[0]) {
			t.Errorf("TEKs %x after the change of roles, %x before", three, one)
		}
	})
}

func partyConfig() *ike.Config {
	return &ike.Config{
		Policies: []ike.Policy{{Priority: 10, Encr: ike.EncrAES, KeyBits: 128, Hash: ike.HashSHA256, Auth: ike.AuthPSK, Group: 19}},
		Keys:     []ike.Key{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), PSK: secret.Bytes("party")}},
	}
}

// partySigner makes the key that key servers sign rekeys with.
func partySigner(t *testing.T) *ks.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ks.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
