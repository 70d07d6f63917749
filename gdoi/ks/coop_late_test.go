package ks_test

import (
	"net/netip"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/gdoi/coop"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model"
)

// A key server that joins late, with many members there already.

// pathMTU is what key servers have to get along with.
const pathMTU = 1400

// spent is the processor time of this process.
func spent(t *testing.T) time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A third key server joins two with a thousand members and a hundred permits: it opens and
// lists all of them within seconds; what goes over the network for it is little more than
// the state, also where a hundredth is lost, and no datagram needs fragments. Then
// announcements are small, and a registration costs what its row does.
func Test_scale_LateKeyServer(t *testing.T) {
	n := 1000
	if os.Getenv("GETVPN_SOAK") != "" {
		n = 10000
	}
	for _, x := range []struct {
		name string
		loss float64
	}{{"no loss", 0}, {"1 % loss", 0.01}} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { joinLate(t, n, x.loss) })
		})
	}
}

func joinLate(t *testing.T, n int, loss float64) {
	f := newFleet(t, 3, time.Hour)
	defer f.close()
	a, b := f.start(0), f.start(1)
	f.until("both serve", func() bool { return a.open() && b.open() })
	f.enroll(n, a, b)
	f.until("both list all", func() bool { return f.listed(n) })
	time.Sleep(time.Minute)
	f.net.SetAll(memnet.Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: loss})
	z, err := a.group.Sizes()
	if err != nil {
		t.Fatal(err)
	}

	f.count()
	before, cpu, begin := heap(), spent(t), time.Now()
	c := f.start(2)
	f.until("the third serves", c.open)
	opened := time.Since(begin)
	f.until("the third lists all", func() bool { return f.listed(n) })
	took := time.Since(begin)
	cpu = spent(t) - cpu
	time.Sleep(5 * time.Second) // what is under way yet
	packets, octets, largest := f.count()
	state := z.Rows + z.Keys
	grown := heap() - before
	t.Logf("%d members: state handed on %d octets (rows %d, keys %d), saved %d; open after %v, complete after %v", n, state, z.Rows, z.Keys, z.Saved, opened, took)
	t.Logf("on the wire %d datagrams, %d octets: %.2f × the state; the largest %d", packets, octets, float64(octets)/float64(state), largest)
	t.Logf("processor time %v; heap grown by %d octets: %.1f × the state, %d a member", cpu, grown, float64(grown)/float64(state), grown/int64(n))
	if largest > pathMTU {
		t.Errorf("a datagram of %d octets doesn't fit a path of %d", largest, pathMTU)
	}
	if most := 3 * state; octets > most {
		t.Errorf("%d octets on the wire for a state of %d", octets, state)
	}
	if took > 30*time.Second {
		t.Errorf("complete after %v", took)
	}
	if v := a.shown().Rejected["coop-mailbox-full"] + b.shown().Rejected["coop-mailbox-full"] + c.shown().Rejected["coop-mailbox-full"]; v > 0 {
		t.Errorf("%d messages didn't fit", v)
	}
	if c.shown().Coop.Role != model.CoopSecondary {
		t.Errorf("the third is %v", c.shown().Coop.Role)
	}

	// Nothing happens.
	const period = coop.DefaultRefresh
	time.Sleep(time.Minute)
	f.count()
	time.Sleep(5 * period)
	_, quiet, _ := f.count()
	quiet /= 5
	pairs := len(f.servers) * (len(f.servers) - 1)
	t.Logf("nothing happens: %d octets each %v from each key server to each other", quiet/pairs, period)
	if quiet > 2*pathMTU*pairs {
		t.Errorf("%d octets each %v though nothing happens", quiet, period)
	}
	// A member more.
	if err := f.register(&fleetMember{addr: netip.MustParseAddr("10.2.0.1"), teks: map[uint32]time.Time{}}, b); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * period)
	_, more, _ := f.count()
	more -= 3 * quiet
	t.Logf("a registration: %d octets", more)
	if !f.listed(n + 1) {
		t.Error("the member isn't listed everywhere")
	}
	if more > 3*pathMTU*len(f.servers) {
		t.Errorf("%d octets for a registration", more)
	}
}

// The primary is cut off while it sends a rekey to members that registered at three key
// servers, over a network that loses some: the next one tells all of them in time.
func Test_coop_PrimaryDiesOverTheNetwork(t *testing.T) {
	n := 200
	if os.Getenv("GETVPN_SOAK") != "" {
		n = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 15*time.Minute)
		defer f.close()
		a, b, c := f.start(0), f.start(1), f.start(2)
		f.until("all serve", func() bool { return a.open() && b.open() && c.open() })
		f.enroll(n, a, b, c)
		f.until("all list all", func() bool { return f.listed(n) })
		f.net.SetAll(memnet.Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.005})
		var ends time.Time
		for _, end := range f.members[0].teks {
			ends = end
		}
		told, dead := 0, make(chan time.Time, 1)
		f.net.SetTap(func(from, to netip.AddrPort, d []byte) []byte {
			if from.Addr() == a.addr && len(d) > 18 && isakmp.ExchangeType(d[18]) == isakmp.GroupKeyPush {
				if told++; told == n/3 {
					dead <- time.Now()
				}
			}
			if told >= n/3 && (from.Addr() == a.addr || to.Addr() == a.addr) {
				return nil
			}
			return d
		})
		died := <-dead
		all := func() bool {
			for _, m := range f.members {
				if !m.has(ends) {
					return false
				}
			}
			return true
		}
		if all() {
			t.Fatal("it died too late")
		}
		f.until("all have a new key", all)
		t.Logf("%d members: all told %v after the primary's death, %v before the old key's end", n, time.Since(died), time.Until(ends))
		if time.Until(ends) < 31*time.Second { // senders change over
			t.Error("too late")
		}
		if b.shown().Coop.Role != model.CoopPrimary || c.shown().Coop.Role != model.CoopSecondary {
			t.Errorf("roles %v and %v", b.shown().Coop.Role, c.shown().Coop.Role)
		}
		time.Sleep(time.Until(ends) - 31*time.Second)
		holders := map[uint32]int{}
		for _, m := range f.members {
			m.mu.Lock()
			if m.bad != nil {
				t.Errorf("%v: %v", m.addr, m.bad)
			}
			for spi := range m.teks {
				holders[spi]++
			}
			m.mu.Unlock()
		}
		for spi, k := range holders {
			if k != n {
				t.Errorf("%d of %d members have TEK %x", k, n, spi)
			}
		}
	})
}

// has reports whether a member has a TEK that outlives a moment.
func (m *fleetMember) has(beyond time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, end := range m.teks {
		if end.After(beyond.Add(time.Minute)) {
			return true
		}
	}
	return false
}
