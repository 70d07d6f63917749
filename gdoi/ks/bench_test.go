package ks

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"testing"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/model"
	"getvpn/model/event"
)

// echo acknowledges for whoever a rekey goes to.
type echo struct {
	mu  sync.Mutex
	f   func(ike.Datagram)
	key gdoi.AckKey
	spi gdoi.KEKSPI
	seq uint32
}

func (e *echo) HandlePush(_, _ isakmp.Cookie, f func(ike.Datagram)) func() {
	e.mu.Lock()
	e.f = f
	e.mu.Unlock()
	return func() {}
}

func (e *echo) SendPushBatch(_ []byte, _ netip.Addr, to []netip.AddrPort) (int, error) {
	e.mu.Lock()
	f, seq := e.f, e.seq
	e.mu.Unlock()
	for _, a := range to {
		f(ike.Datagram{Data: e.key.Seal(seq, isakmp.AddrID(a.Addr()), e.spi), Remote: a})
	}
	return len(to), nil
}

func benchRekey(b *testing.B, n int) {
	x := &bench{store: model.NewStore(model.Snapshot{}), disk: &memFiles{crash: func(string) error { return nil }}}
	e := &echo{}
	x.s = NewServer(Options{Store: x.store, Events: event.NewBus(), Rand: rand.Reader, Files: x.disk, Dir: "d", Machine: "m", Push: e})
	g, err := x.s.Add(lifeSetup(time.Hour, unicast(2, 10*time.Second)))
	if err != nil {
		b.Fatal(err)
	}
	x.g = g
	go g.Run(b.Context())
	x.register(b, gmAddr(0), ours())
	x.settle()
	g.do(func() {
		for i := 1; i < n; i++ {
			m := g.roster.join(gmAddr(i), gmAddr(i), time.Now())
			m.path, m.local, m.holds = netip.AddrPortFrom(gmAddr(i), 848), g.source(nil), g.ring.kek.ord
		}
		k := g.ring.kek
		e.spi, e.key = k.spi, k.sa().AckKey(k.ack)
	})
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		e.mu.Lock()
		e.seq++
		e.mu.Unlock()
		if err := g.Rekey(true, true); err != nil {
			b.Fatal(err)
		}
		for {
			if k := x.store.Load().KeyServers[0]; k.Unanswered == 0 && k.Counters.AcksRcvd == uint64(n)*uint64(e.seq) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}
