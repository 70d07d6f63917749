package ike

// Key servers that keep phase 1 with each other: who dials, what a restart, a cut link
// and an end of life bring.

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model/event"
)

func TestKeepBothAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.both()
		for i := range 2 {
			if d := k.r[i].wait(1, 3*time.Second); d > 500*time.Millisecond {
				t.Errorf("up after %v", d)
			}
		}
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		for i := range 2 {
			if h := k.r[i].all(); len(h) != 1 {
				t.Errorf("%d:%s", i, k.r[i])
			}
		}
		if n := len(k.e[0].SAs(k.addr(1))); n != 1 {
			t.Errorf("%d SAs", n)
		}
	})
}

// Both dial in the same moment: two SAs, of which one stays, the same at both sides.
func TestKeepCrossing(t *testing.T) {
	for seed := range 20 {
		synctest.Test(t, func(t *testing.T) {
			k := newKeepers(t, pskConfig("k"))
			k.net = memnet.New(uint64(seed))
			k.net.SetAll(memnet.Link{Delay: time.Millisecond, Jitter: 60 * time.Millisecond, Loss: float64(seed%3) * 0.05})
			defer k.close()
			k.both()
			for i := range 2 { // nobody waits for the other
				go func() {
					_, err := k.e[i].Connect(t.Context(), netip.AddrPortFrom(k.addr(1-i), 848), ConnectOptions{Fresh: true})
					if err != nil {
						t.Logf("seed %d: %v", seed, err)
					}
				}()
			}
			for i := range 2 {
				for begin := time.Now(); k.r[i].up() == 0; time.Sleep(10 * time.Millisecond) {
					if time.Since(begin) > 40*time.Second {
						t.Fatalf("seed %d: %d is down", seed, i)
					}
				}
			}
			for range 100 {
				time.Sleep(time.Second)
				for i := range 2 {
					if k.r[i].up() == 0 {
						t.Fatalf("seed %d: a gap at %d:%s", seed, i, k.r[i])
					}
				}
			}
			k.net.SetAll(memnet.Link{})
			time.Sleep(30 * time.Second)
			synctest.Wait()
			a, b := k.e[0].SAs(k.addr(1)), k.e[1].SAs(k.addr(0))
			if len(a) != 1 || len(b) != 1 || pairOf(a[0].Cookies()) != pairOf(b[0].Cookies()) {
				t.Errorf("seed %d: %d and %d SAs:%s;%s", seed, len(a), len(b), k.r[0], k.r[1])
			}
		})
	}
}

func TestKeepOneStartsLater(t *testing.T) {
	for first := range 2 {
		synctest.Test(t, func(t *testing.T) {
			k := newKeepers(t, pskConfig("k"))
			defer k.close()
			k.open(first)
			k.keep(first)
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if c := count[event.IKENoResponse](&k.ev[first]); c != 1 {
				t.Errorf("no answer was told %d times", c)
			}
			k.open(1 - first)
			k.keep(1 - first)
			for i := range 2 {
				if d := k.r[i].wait(1, 40*time.Second); d > 3*time.Second {
					t.Errorf("up after %v", d)
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			for i := range 2 {
				if k.r[i].up() != 1 || len(k.r[i].all()) > 3 {
					t.Errorf("%d:%s", i, k.r[i])
				}
			}
		})
	}
}

// A key server that comes back at once, or later than its SA is found dead, or that said
// goodbye.
func TestKeepPeerRestarts(t *testing.T) {
	for _, v := range []struct {
		away    time.Duration
		goodbye bool
	}{{0, false}, {time.Second, false}, {time.Minute, false}, {0, true}, {time.Minute, true}} {
		for who := range 2 {
			synctest.Test(t, func(t *testing.T) {
				k := newKeepers(t, pskConfig("k"))
				defer k.close()
				k.both()
				other := k.r[1-who]
				other.wait(1, 3*time.Second)
				time.Sleep(time.Minute)
				synctest.Wait()
				old := other.newest()
				if !v.goodbye {
					k.net.Cut(k.addr(0), k.addr(1))
				}
				down := time.Now()
				k.e[who].Close()
				if v.away > 30*time.Second {
					if d := other.wait(0, 30*time.Second); d > 25*time.Second {
						t.Errorf("down after %v", d)
					}
				}
				time.Sleep(time.Until(down.Add(v.away)))
				k.net.HealAll()
				k.open(who)
				k.keep(who)
				for i := range 2 {
					if d := k.r[i].wait(1, 40*time.Second); d > 3*time.Second && i == who {
						t.Errorf("%+v: up after %v", v, d)
					}
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if other.newest() == old || old.Alive() || other.up() != 1 || k.r[who].up() != 1 {
					t.Errorf("%+v:%s", v, other)
				}
				h := other.all()
				if len(h) > 5 || h[0].sa != old || !slices.ContainsFunc(h[1:], func(r report) bool { return r.sa == old && !r.up }) {
					t.Errorf("%+v:%s", v, other)
				}
				for _, r := range h[1:] {
					if r.up && r.sa.ID() <= old.ID() {
						t.Errorf("%+v:%s", v, other)
					}
				}
			})
		}
	}
}

func TestKeepLinkCut(t *testing.T) {
	for seed := range 10 {
		synctest.Test(t, func(t *testing.T) {
			k := newKeepers(t, pskConfig("k"))
			defer k.close()
			k.bothUp()
			time.Sleep(time.Minute + time.Duration(seed)*1300*time.Millisecond)
			k.net.Cut(k.addr(0), k.addr(1))
			cut := time.Now()
			for i := range 2 {
				k.r[i].wait(0, time.Minute)
				if d := time.Since(cut); d > 25*time.Second || d < 5*time.Second {
					t.Errorf("down after %v", d)
				}
			}
			time.Sleep(time.Until(cut.Add(time.Minute)))
			k.net.HealAll()
			heal := time.Now()
			for i := range 2 {
				for k.r[i].up() == 0 {
					time.Sleep(50 * time.Millisecond)
				}
				if d := time.Since(heal); d > 35*time.Second {
					t.Errorf("up after %v", d)
				}
			}
			t.Logf("up %v after healing", time.Since(heal))
		})
	}
}

// SAs of two minutes for an hour: there is always one, and what is
// sent under the newest arrives.
func TestKeepRenewsWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA256, Group: 19, Lifetime: 2 * time.Minute}))
		defer k.close()
		k.bothUp()
		time.Sleep(time.Second)
		const rounds = 7200
		most := 0
		for n := range rounds {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			for i := range 2 {
				up := k.r[i].up()
				most = max(most, up)
				if up == 0 {
					t.Fatalf("a gap at %d in round %d:%s", i, n, k.r[i])
				}
				if err := k.r[i].newest().Inform(isakmp.NotifyCOOP, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i := range 2 {
			if got := k.notify[i].Load(); got != rounds {
				t.Errorf("%d of %d messages arrived; %v", got, rounds, k.e[i].Drops())
			}
			// Each SA lives 96 s at least before its successor, and then some seconds beside it.
			if h := k.r[i].all(); len(h) < 60 || len(h) > 2*3600/90+2 {
				t.Errorf("%d reports", len(h))
			}
		}
		if most != 2 {
			t.Errorf("%d SAs at most, want 2", most)
		}
	})
}
