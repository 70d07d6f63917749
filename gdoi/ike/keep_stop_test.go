package ike

// The ends of keeping, and what goes wrong with it.

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

func TestKeepStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.open(0)
		k.open(1)
		k.keep(0)
		k.r[0].wait(1, 3*time.Second)
		again := newReports(t) // another group with the same peer
		stop := k.e[0].Keep(netip.AddrPortFrom(k.addr(1), 848), k.addr(0), again.f)
		again.wait(1, 0)
		calls := 0
		var inside func()
		begun := make(chan struct{})
		inside = k.e[0].Keep(netip.AddrPortFrom(k.addr(1), 848), k.addr(0), func(*SA, bool) {
			<-begun
			calls++
			inside()
		})
		close(begun)
		synctest.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want up and down", calls)
		}
		k.stop[0]()
		synctest.Wait()
		if k.r[0].up() != 0 || again.up() != 1 || !again.newest().Alive() {
			t.Error("the other one's SA was closed")
		}
		sa := again.newest()
		stop()
		stop()
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		if sa.Alive() || again.up() != 0 || len(k.e[1].SAs(k.addr(0))) != 0 {
			t.Error("what Keep dialed wasn't closed")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(k.e[0].SAs(netip.Addr{}))+len(k.e[1].SAs(netip.Addr{})) != 0 || len(again.all()) != 2 {
			t.Error("it goes on")
		}
		// While an attempt is under way, and after the end.
		k.net.Cut(k.addr(0), k.addr(1))
		k.keep(0)
		time.Sleep(3 * time.Second)
		k.stop[0]()
		k.e[0].Close()
		k.keep(0)
		k.stop[0]()
	})
}

// What the peer dialed stays when we stop.
func TestKeepStopLeavesThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.open(0)
		k.open(1)
		k.keep(0)
		k.r[0].wait(1, 3*time.Second)
		k.keep(1)
		k.r[1].wait(1, 0)
		time.Sleep(time.Minute)
		k.stop[1]()
		time.Sleep(time.Minute)
		synctest.Wait()
		if k.r[1].up() != 0 || k.r[0].up() != 1 {
			t.Errorf("%s;%s", k.r[0], k.r[1])
		}
	})
}

func TestKeepWithAWrongKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.open(0)
		k.conf = pskConfig("K")
		k.open(1)
		var firsts [2][]time.Time
		k.net.SetTap(func(from, _ netip.AddrPort, b []byte) []byte {
			if b[18] == byte(isakmp.MainMode) && isakmp.Cookie(b[8:16]).IsZero() {
				i := slices.Index([]string{ksA, ksB}, from.Addr().String())
				firsts[i] = append(firsts[i], time.Now())
			}
			return b
		})
		k.keep(0)
		k.keep(1)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		k.net.SetTap(nil)
		for i := range 2 {
			if c := count[event.IKEAuthFailed](&k.ev[i]); c != 1 {
				t.Errorf("%d: told %d times", i, c)
			}
			// An attempt takes 15 s, the pause after it 15 s to 30 s in the end.
			if n := len(firsts[i]); n < 2*3600/50 || n > 2*3600/30+10 {
				t.Errorf("%d: %d attempts", i, n)
			}
			for n := 1; n < len(firsts[i]); n++ {
				if d := firsts[i][n].Sub(firsts[i][n-1]); d > 46*time.Second {
					t.Errorf("%d: %v between attempts", i, d)
				}
			}
			if len(k.r[i].all()) != 0 {
				t.Error("an SA")
			}
		}
		// The key is put right: a new series, which tells its first failure.
		k.e[1].SetConfig(pskConfig("k"))
		for i := range 2 {
			k.r[i].wait(1, time.Minute)
		}
		time.Sleep(time.Minute) // attempts that began with the wrong key fail
		synctest.Wait()
		var before [2]int
		for i := range 2 {
			before[i] = count[event.IKEAuthFailed](&k.ev[i])
		}
		k.e[1].SetConfig(pskConfig("K"))
		k.e[0].removeSA(k.r[0].newest(), true, "test")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for i := range 2 {
			if c := count[event.IKEAuthFailed](&k.ev[i]) - before[i]; c != 1 {
				t.Errorf("%d: told %d times", i, c)
			}
		}
	})
}

// Without a key the attempts fail at once: they are as far apart as others.
func TestKeepWithoutAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev recorder
		e := endpoint(t, memnet.New(1), ksA, &Config{Policies: pskConfig("k").Policies}, func(o *Options) { o.Events = &ev })
		defer e.Close()
		r := newReports(t)
		defer e.Keep(netip.AddrPortFrom(netip.MustParseAddr(ksB), 848), netip.Addr{}, r.f)()
		time.Sleep(time.Hour)
		synctest.Wait()
		if c := count[event.IKENoPSK](&ev); c != 1 {
			t.Errorf("told %d times", c)
		}
	})
}

// A handler that hangs holds up nothing but its own queue.
func TestKeepBlockedHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.bothUp()
		block := make(chan struct{})
		k.e[1].HandlePeerNotify(func(*SA, []byte) { <-block })
		echoKS(t, k.e[1])
		g := endpoint(t, k.net, gm, pskConfig("k"), nil)
		defer g.Close()
		flood := make([]byte, 1000)
		for n := range 10000 {
			if err := k.r[0].newest().Inform(isakmp.NotifyCOOP, flood); err != nil {
				t.Fatal(err)
			}
			if n%100 == 0 {
				time.Sleep(time.Millisecond)
			}
			if n == 5000 {
				sa, err := g.Connect(t.Context(), netip.AddrPortFrom(k.addr(1), 848), ConnectOptions{})
				if err != nil {
					t.Fatal(err, k.e[1].Drops())
				}
				if err := pull(t.Context(), sa); err != nil {
					t.Fatal(err, k.e[1].Drops())
				}
				// A member may send as well, but has little room.
				before := k.e[1].Drops()[DropPeerNotify]
				for range 100 {
					if err := sa.Inform(isakmp.NotifyCOOP, flood); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				if d := k.e[1].Drops()[DropPeerNotify] - before; d < 100-uint64(mostStrangers().messages) {
					t.Errorf("%d of a member's were dropped", d)
				}
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		q := k.e[1].peers
		q.mu.Lock()
		waiting := len(q.queue)
		q.mu.Unlock()
		most := mostOf().messages + mostStrangers().messages
		if waiting > most || waiting < mostOf().messages || k.e[1].Drops()[DropPeerNotify] < 7000 {
			t.Errorf("%d wait, drops %v", waiting, k.e[1].Drops())
		}
		if k.r[0].up() != 1 {
			t.Error("the SA died of it")
		}
		close(block)
		synctest.Wait()
		q.mu.Lock()
		defer q.mu.Unlock()
		if len(q.queue)+len(q.waiting)+q.stranger.messages+q.stranger.octets != 0 {
			t.Error("the queue isn't empty")
		}
	})
}
