package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/clock"
	"getvpn/internal/machine"
	"getvpn/internal/memnet"
)

// What the watch reports reaches members and key servers: a member stops at once and
// comes back with another Sender ID over another ISAKMP SA, a key server has other keys.
func TestRestoredMachinesReachTheirEngines(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k, err := start(t, dir, n, "192.0.2.1", ksConf)
		if err != nil {
			t.Fatal(err, k.out)
		}
		defer k.d.Stop()
		m, err := start(t, dir, n, "198.51.100.1", gmConf)
		if err != nil {
			t.Fatal(err, m.out)
		}
		defer m.d.Stop()
		sources := map[*rig]chan machine.Restored{}
		for _, r := range []*rig{k, m} {
			c := make(chan machine.Restored)
			sources[r] = c
			r.d.o.watch = func(ctx context.Context, _ *slog.Logger, to reports) {
				for {
					select {
					case <-ctx.Done():
						return
					case x := <-c:
						to.restored(x)
						to.suspended(clock.Suspended{For: time.Minute}) // what else may have happened
						to.stepped(clock.Stepped{By: -time.Hour})
					}
				}
			}
			r.d.watchMachine()
		}
		type state struct {
			spi, sid uint32
			sa       string
		}
		now := func() (s state) {
			synctest.Wait()
			p := m.plane.policy("RED wan")
			s.spi = p.Entries[1].SPI
			for _, x := range p.TEKs {
				if x.SPI == s.spi && len(x.SIDs) > 0 {
					s.sid = x.SIDs[0] + 1
				}
			}
			for _, x := range m.d.store.Load().IKE.SAs {
				s.sa += string(x.ICookie[:])
			}
			return s
		}
		time.Sleep(5 * time.Second)
		first := now()
		if first.spi == 0 || first.sid == 0 || first.sa == "" {
			t.Fatalf("not registered: %+v\n%s", first, m.out)
		}
		sources[m] <- machine.Restored{Sources: []string{"a test"}}
		if s := now(); s.sid == first.sid { // the network takes no time here
			t.Errorf("sends as before: %+v", s)
		}
		time.Sleep(5 * time.Second)
		second := now()
		if second.spi != first.spi || second.sid == 0 || second.sid == first.sid || second.sa == first.sa {
			t.Errorf("%+v, then %+v", first, second)
		}

		sources[k] <- machine.Restored{Sources: []string{"a test"}}
		synctest.Wait()
		sources[m] <- machine.Restored{Sources: []string{"a test"}}
		time.Sleep(5 * time.Second)
		if third := now(); third.spi == second.spi || third.sid == 0 {
			t.Errorf("%+v, then %+v", second, third)
		}
		for r, words := range map[*rig][]string{m: {"GM_MACHINE_RESTORED", "(a test)"}, k: {"KS_MACHINE_RESTORED", "KS_REINIT_FINISH"}} {
			w := r.d.o.Console.(*lockedWriter)
			w.mu.Lock()
			for _, x := range words {
				if !strings.Contains(r.out.String(), x) {
					t.Errorf("no %s on the console:\n%s", x, r.out)
				}
			}
			w.mu.Unlock()
		}
	})
}
