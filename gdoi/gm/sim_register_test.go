package gm_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model"
)

func TestRegistrationEndToEnd(t *testing.T) {
	simulate(t, 1, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, time.Hour), setup("blue", 2, 2*time.Hour))
		a := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false}, join{"blue", 2, []netip.Addr{ks1}, false})
		b := startGM(t, n, gmAddr(2), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer k.stop()
		defer a.stop()
		defer b.stop()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if a.sending("red") == 0 || a.sending("red") != b.sending("red") || a.sending("blue") == 0 || a.sending("blue") == a.sending("red") {
			t.Fatalf("SPIs red %#x %#x blue %#x", a.sending("red"), b.sending("red"), a.sending("blue"))
		}
		pa, _ := a.plane.policy("red")
		pb, _ := b.plane.policy("red")
		if !pa.TEKs[0].Key.Equal(pb.TEKs[0].Key) {
			t.Error("members of a group have different keys")
		}
		if pa.TEKs[0].SIDs[0] == pb.TEKs[0].SIDs[0] || pa.TEKs[0].SIDBits != 24 {
			t.Errorf("Sender IDs %v and %v", pa.TEKs[0].SIDs, pb.TEKs[0].SIDs)
		}
		if len(pa.Entries) != 2 || pa.Entries[0].ACE.Action != ipsec.Deny || pa.TEKs[0].Replay.Window != 64 {
			t.Errorf("list %+v", pa.Entries)
		}
		s := k.store.Load()
		red := s.KeyServers[0]
		if red.Members.Len() != 2 || red.Members.At(0).Addr != gmAddr(1) || red.Counters.PullsCompleted != 2 || red.SIDsUsed != 2 {
			t.Errorf("published %+v", red)
		}
		if g := a.model("red"); g.Status != model.Registered || g.Remote.Addr() != ks1 {
			t.Errorf("member %+v", g)
		}
		ev := k.tally()
		if ev["KSRegistrationComplete"] != 3 || ev["KSFirstGM"] != 2 {
			t.Errorf("events %v", ev)
		}
	})
}
