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

	"getvpn/internal/memnet"
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

func newReports(t *testing.T) *reports {
	return &reports{t: t, start: time.Now(), state: map[*SA]bool{}}
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

// wait waits until n SAs are up, or more where both sides dialed at once, and returns how
// long it took. n 0 is none.
func (r *reports) wait(n int, most time.Duration) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for {
		synctest.Wait()
		if up := r.up(); up == n || n > 0 && up > n {
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
	k.r[i] = newReports(k.t)
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

// bothUp is both, and waits until each has an SA.
func (k *keepers) bothUp() {
	k.t.Helper()
	k.both()
	for i := range 2 {
		k.r[i].wait(1, 3*time.Second)
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
