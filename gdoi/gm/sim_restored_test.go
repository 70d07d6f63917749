package gm_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/memnet"
	"getvpn/model"
	"getvpn/model/event"
)

// A member that is put back ten times, while its former self goes on with what it had at
// the moment of the snapshot, and once its key server with it.
func Test_esp_10_RestoredMember(t *testing.T) {
	simulate(t, 16, func(t *testing.T, n *memnet.Network, dir string) {
		k := startKS(t, n, ks1, "secret", dir, setup("red", 1, 20*time.Minute))
		defer k.stop()
		m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
		defer m.stop()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		seen := map[[2]uint64]bool{}
		collect := func() (fresh, again int) {
			// A dataplane that begins at the snapshot's counters is one that begins at zero.
			for _, p := range sealed(t, m, 100) {
				if seen[p] {
					again++
				} else {
					fresh++
				}
				seen[p] = true
			}
			return fresh, again
		}
		if fresh, again := collect(); fresh != 100 || again != 0 {
			t.Fatalf("%d new, %d old", fresh, again)
		}
		if _, again := collect(); again != 100 {
			t.Fatal("a restored dataplane would not repeat itself: nothing is shown here")
		}
		for life := range 10 {
			if life == 5 {
				k.srv.Restored("test")
			}
			m.groups["red"].Restored("test")
			synctest.Wait()
			if spi := m.sending("red"); spi != 0 {
				t.Fatalf("life %d sends with %#x at once", life, spi)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if fresh, again := collect(); fresh != 100 || again != 0 || m.sending("red") == 0 {
				t.Errorf("life %d: %d new, %d old", life, fresh, again)
			}
		}
		told := m.tally()
		if told["GMMachineRestored"] != 10 || m.model("red").Status != model.Registered {
			t.Errorf("events %v", told)
		}
		if e := events[event.KSMachineRestored](k.node); len(e) != 1 {
			t.Errorf("the key server told of %v", e)
		}
	})
}
