package ike

// Phase 1 between key servers, kept under a fake clock.

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model/event"
)

const ksA, ksB = "172.16.8.2", "172.16.9.2"

// reports holds Keep to what it promises and remembers what it told.
type reports struct {
	t       *testing.T
	start   time.Time
	busy    atomic.Bool
	mu      sync.Mutex
	history []report
	state   map[*SA]bool // up; false: down again
	live    int
}

type report struct {
	sa *SA
	up bool
	at time.Duration
}

func (r *reports) f(sa *SA, up bool) {
	if r.busy.Swap(true) {
		r.t.Error("f was called twice at once")
	}
	r.mu.Lock()
	was, known := r.state[sa]
	if up && known || !up && !was {
		r.t.Errorf("SA %d is told up=%v, known %v %v", sa.ID(), up, known, was)
	}
	r.state[sa] = up
	if up {
		r.live++
	} else {
		r.live--
	}
	r.history = append(r.history, report{sa, up, time.Since(r.start)})
	r.mu.Unlock()
	r.busy.Store(false)
}

func (r *reports) String() (s string) {
	for _, h := range r.all() {
		s += fmt.Sprintf(" %v:%d:%v", h.at, h.sa.ID(), h.up)
	}
	return s
}

func (r *reports) all() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.history)
}

func (r *reports) up() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

// wait waits until n SAs are up and returns how long it took.
func (r *reports) wait(n int, most time.Duration) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for {
		synctest.Wait()
		if r.up() == n {
			return time.Since(begin)
		}
		if time.Since(begin) > most {
			r.t.Fatalf("%d SAs are up after %v, want %d:%s", r.up(), most, n, r)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// keepers is two key servers that keep each other.
type keepers struct {
	t      *testing.T
	net    *memnet.Network
	conf   *Config
	ev     [2]recorder
	e      [2]*Endpoint
	r      [2]*reports
	stop   [2]func()
	notify [2]atomic.Int64
}

func newKeepers(t *testing.T, c *Config) *keepers {
	k := &keepers{t: t, net: memnet.New(1), conf: c}
	k.net.SetAll(memnet.Link{Delay: 5 * time.Millisecond, Jitter: 10 * time.Millisecond})
	return k
}

func (k *keepers) addr(i int) netip.Addr { return netip.MustParseAddr([]string{ksA, ksB}[i]) }

// open makes an endpoint, keep has it keep the other.
func (k *keepers) open(i int) {
	k.e[i] = endpoint(k.t, k.net, k.addr(i).String(), k.conf, func(o *Options) { o.Events = &k.ev[i] })
	k.e[i].HandlePeerNotify(func(*SA, []byte) { k.notify[i].Add(1) })
}

func (k *keepers) keep(i int) {
	k.r[i] = &reports{t: k.t, start: time.Now(), state: map[*SA]bool{}}
	k.stop[i] = k.e[i].Keep(netip.AddrPortFrom(k.addr(1-i), 848), k.addr(i), k.r[i].f)
}

func (k *keepers) both() {
	for i := range 2 {
		k.open(i)
	}
	for i := range 2 {
		k.keep(i)
	}
}

// close ends both and checks that everything that was up is down.
func (k *keepers) close() {
	for i, e := range k.e {
		if e == nil {
			continue
		}
		e.Close()
		if k.r[i] != nil && k.r[i].up() != 0 {
			k.t.Errorf("%d SAs of %d were never told down:%s", k.r[i].up(), i, k.r[i])
		}
	}
}

// newest is what one is to send under.
func (r *reports) newest() (sa *SA) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, up := range r.state {
		if up && (sa == nil || s.ID() > sa.ID()) {
			sa = s
		}
	}
	return sa
}

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
				var last uint32
				for _, r := range h { // in order
					if r.up && r.sa.ID() <= last {
						t.Errorf("%+v:%s", v, other)
					} else if r.up {
						last = r.sa.ID()
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
			k.both()
			for i := range 2 {
				k.r[i].wait(1, 3*time.Second)
			}
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
		k.both()
		for i := range 2 {
			k.r[i].wait(1, 3*time.Second)
		}
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

func TestKeepStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.open(0)
		k.open(1)
		k.keep(0)
		k.r[0].wait(1, 3*time.Second)
		again := &reports{t: t, start: time.Now(), state: map[*SA]bool{}} // another group with the same peer
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
		k.e[1].SetConfig(pskConfig("K"))
		k.e[0].removeSA(k.r[0].newest(), true, "test")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for i := range 2 {
			if c := count[event.IKEAuthFailed](&k.ev[i]); c != 2 {
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
		r := &reports{t: t, state: map[*SA]bool{}}
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
		k.both()
		for i := range 2 {
			k.r[i].wait(1, 3*time.Second)
		}
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
