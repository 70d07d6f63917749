package ike

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
)

// The window against a set that forgets nothing.
func TestMIDWindow(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		next := []uint32{5, 1<<32 - 700, rnd.Uint32()}[seed%3]
		var w midWindow
		taken := map[uint32]bool{}
		top := next - 1
		for range 5000 {
			mid := next
			switch rnd.IntN(4) {
			case 0: // an older one
				mid -= uint32(rnd.IntN(2 * midsBack))
			case 1: // some are lost
				next += uint32(rnd.IntN(40))
				if rnd.IntN(50) == 0 {
					next += uint32(rnd.IntN(3 * midsBack))
				}
				mid = next
			}
			if mid == next {
				next++
			}
			behind := int32(top - mid)
			want := !taken[mid] && (!w.begun || behind < midsBack)
			if got := w.take(mid); got != want {
				t.Fatalf("seed %d: %d is %v, want %v; top %d", seed, mid, got, want, top)
			}
			if want {
				taken[mid] = true
				if int32(mid-top) > 0 || len(taken) == 1 {
					top = mid
				}
			}
		}
	}
}

// Ten thousand messages under one SA, each taken once, in order, and each refused when it
// comes again; nothing is left of them.
func TestInformALot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, ksA, pskConfig("k"), nil), endpoint(t, n, ksB, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		remote := netip.AddrPortFrom(netip.MustParseAddr(ksB), 848)
		sa, err := g.Connect(t.Context(), remote, ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		got, wrong := 0, 0
		k.HandlePeerNotify(func(_ *SA, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			if !bytes.Equal(b[:4], be32(uint32(got))) {
				wrong++
			}
			got++
		})
		defer k.Keep(netip.AddrPortFrom(netip.MustParseAddr(ksA), 848), netip.Addr{}, func(*SA, bool) {})()
		synctest.Wait()
		theirs := k.SAs(netip.Addr{})[0]
		heap := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		data := make([]byte, 300)
		send := func(from, to int) {
			for i := from; i < to; i++ {
				copy(data, be32(uint32(i)))
				if err := sa.Inform(isakmp.NotifyCOOP, data); err != nil {
					t.Fatal(i, err)
				}
				if i%200 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
		}
		send(0, 1000)
		var record []memnet.Datagram
		stop := n.Watch(func(d memnet.Datagram) { record = append(record, d) })
		send(1000, 1100)
		stop()
		sa.mu.Lock()
		used := len(sa.used)
		sa.mu.Unlock()
		before := heap()
		send(1100, 11000)
		grown := heap() - before
		t.Logf("heap %+d octets after 9,900 messages", grown)
		if grown > 200<<10 {
			t.Errorf("the heap grew by %d octets", grown)
		}
		for _, s := range []*SA{sa, theirs} {
			s.mu.Lock()
			if len(s.used) > used {
				t.Errorf("%d message IDs are remembered, %d before", len(s.used), used)
			}
			s.mu.Unlock()
		}
		if got != 11000 || wrong != 0 {
			t.Errorf("%d arrived, %d out of order", got, wrong)
		}
		drops := k.Drops()[DropMIDReused]
		for _, d := range record {
			n.Send(d.Remote, d.Local, d.Data)
		}
		synctest.Wait()
		if d := k.Drops()[DropMIDReused] - drops; got != 11000 || d != uint64(len(record)) || len(record) != 100 {
			t.Errorf("%d of %d copies were refused; %d calls", d, len(record), got)
		}
	})
}

func TestInform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, ksA, pskConfig("k"), nil), endpoint(t, n, ksB, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		remote := netip.AddrPortFrom(netip.MustParseAddr(ksB), 848)
		sa, err := g.Connect(t.Context(), remote, ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		inform := func(ty isakmp.NotifyType, data []byte) {
			t.Helper()
			if err := sa.Inform(ty, data); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		inform(isakmp.NotifyCOOP, []byte("x")) // nobody is there
		if c := k.Drops()[DropNoHandler]; c != 1 {
			t.Errorf("without a handler %d are counted", c)
		}
		var got [][]byte
		k.HandlePeerNotify(func(s *SA, b []byte) {
			if s.Peer().Remote.Addr().String() != ksA {
				t.Errorf("from %v", s.Peer().Remote)
			}
			got = append(got, b)
		})
		var others []isakmp.Notify
		k.HandleNotify(func(_ *SA, n isakmp.Notify) { others = append(others, n) })
		large := bytes.Repeat([]byte("large"), MaxInform/5)
		inform(isakmp.NotifyCOOP, nil)
		inform(isakmp.NotifyCOOP, large)
		inform(isakmp.NotifyInvalidID, large)
		if len(got) != 2 || len(got[0]) != 0 || !bytes.Equal(got[1], large) || len(others) != 1 || !bytes.Equal(others[0].Data, large) {
			t.Errorf("%d and %d arrived; %v", len(got), len(others), k.Drops())
		}
		if err := sa.Inform(isakmp.NotifyCOOP, append(large, 0)); err == nil {
			t.Error("a message beyond the limit")
		}
		// Not alone, of another protocol, of another SA: refused. Unprotected: never.
		good := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: isakmp.NotifyCOOP}
		esp, spi := good, good
		esp.Protocol, spi.SPI = 3, make([]byte, 16)
		bad := [][]isakmp.Payload{{good.Payload(), good.Payload()}, {esp.Payload()}, {spi.Payload()},
			{good.Payload(), isakmp.Delete{DOI: 1, Protocol: 1, SPIs: [][]byte{sa.cookiesSPI()}}.Payload()}}
		for _, ps := range bad {
			if err := sa.inform(ps...); err != nil {
				t.Error(err)
			}
		}
		ci, cr := sa.Cookies()
		b, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: ci, RCookie: cr, Exchange: isakmp.Informational, MessageID: 7}, []isakmp.Payload{good.Payload()})
		if err != nil {
			t.Fatal(err)
		}
		n.Send(netip.AddrPortFrom(netip.MustParseAddr(ksA), 848), remote, b)
		synctest.Wait()
		d := k.Drops()
		if len(got) != 2 || d[DropUnexpected] != uint64(len(bad)) || d[DropUnprotected] != 1 || !sa.Alive() {
			t.Errorf("%d calls, drops %v", len(got), d)
		}
		sa.Close()
		if err := sa.Inform(isakmp.NotifyCOOP, nil); err == nil {
			t.Error("under a dead SA")
		}
	})
}

// Who sends more than is good for registrations is dropped unopened, but for what is
// small, R-U-THERE among it.
func TestInformTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		k.HandlePeerNotify(func(*SA, []byte) { got++ })
		inform := func(octets int) {
			if err := sa.Inform(isakmp.NotifyCOOP, make([]byte, octets)); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		for range 300 {
			inform(1000)
		}
		if d := k.Drops()[DropRateLimit]; got != strangerRate || d != 300-strangerRate {
			t.Errorf("%d taken, %d dropped", got, d)
		}
		if !sa.Probe(t.Context(), 1, time.Second) {
			t.Error("no answer to R-U-THERE")
		}
		time.Sleep(500 * time.Millisecond)
		for range 100 {
			inform(1000)
		}
		if got != strangerRate*3/2 {
			t.Errorf("%d taken after half a second", got)
		}
	})
}

// A message between key servers shows that its sender lives, a recorded one doesn't.
func TestInformAndDPD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeepers(t, pskConfig("k"))
		defer k.close()
		k.both()
		for i := range 2 {
			k.r[i].wait(1, 3*time.Second)
		}
		var record []memnet.Datagram
		stop := k.net.Watch(func(d memnet.Datagram) {
			if d.Remote.Addr() == k.addr(0) && d.Data[18] == byte(isakmp.Informational) {
				record = append(record, d)
			}
		})
		for range 20 {
			if err := k.r[0].newest().Inform(isakmp.NotifyCOOP, []byte("x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		stop()
		k.net.Cut(k.addr(0), k.addr(1))
		cut := time.Now()
		for k.r[1].up() == 1 && time.Since(cut) < time.Minute {
			for _, d := range record {
				k.net.Deliver(d.Remote, d.Local, d.Data)
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(cut); d > 25*time.Second {
			t.Errorf("alive by copies for %v", d)
		}
	})
}
