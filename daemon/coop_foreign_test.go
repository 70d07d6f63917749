package daemon

// A key server that isn't ours: an endpoint and a machine of the protocol that say what a
// test wants them to say.

import (
	"net/netip"
	"sync"
	"testing/synctest"
	"time"

	"crypto/rand"

	"getvpn/config"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/gdoi/policy"
	"getvpn/internal/memnet"
	"getvpn/model"
	"getvpn/model/event"
)

// foreign is such a key server. It never leads: its priority is the lowest.
type foreign struct {
	l    *life
	addr netip.Addr
	ep   *ike.Endpoint
	way  ks.Peers
	end  chan struct{}

	mu      sync.Mutex
	m       *coop.Machine
	refused []error
}

// foreign starts one whose configuration change may change.
func (l *life) foreign(addr string, peers []*simNode, change func(*coop.Config)) *foreign {
	l.t.Helper()
	c, _, err := config.Parse("foreign", []byte(common))
	if err != nil {
		l.t.Fatal(err)
	}
	phase1, _ := ikeConfig(c)
	f := &foreign{l: l, addr: netip.MustParseAddr(addr), end: make(chan struct{})}
	f.ep, err = ike.New(ike.Options{Locals: []netip.Addr{f.addr}, NATTPort: -1, Rand: rand.Reader, Config: phase1, Store: model.NewStore(model.Snapshot{}), Events: event.NewBus(), Workers: 1,
		Listen: func(a netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](l.net.Listen(a)) }})
	if err != nil {
		l.t.Fatal(err)
	}
	k := coop.Config{Group: policy.GroupID(model.GroupID{Number: 1}).Body(), Self: f.addr, Priority: 1, Software: [3]uint8{1, 0, 0}}
	for _, p := range peers {
		k.Peers = append(k.Peers, p.addr)
	}
	if change != nil {
		change(&k)
	}
	m, out, err := coop.New(k, rand.Reader, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	f.m, f.way = m, ks.NewEndpointPeers(f.ep)
	f.ep.HandlePeerNotify(func(sa *ike.SA, data []byte) {
		f.do(func(now time.Time) coop.Output {
			out, err := f.m.Receive(sa.Peer().Remote.Addr(), uint64(sa.ID()), data, now)
			if err != nil {
				f.refused = append(f.refused, err)
			}
			return out
		})
	})
	f.do(func(time.Time) coop.Output { return out })
	for _, p := range peers {
		f.way.Keep(p.addr, f.addr, func(id uint64, up bool) {
			f.do(func(now time.Time) coop.Output { return f.m.Session(p.addr, id, up, now) })
		})
	}
	go func() {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-f.end:
				return
			case <-t.C:
				f.do(f.m.Tick)
			}
		}
	}()
	return f
}

// do gives the machine an input and sends what it answers.
func (f *foreign) do(input func(time.Time) coop.Output) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range input(time.Now()).Send {
		_ = f.way.Inform(x.To, f.addr, x.Data) // an SA that isn't there yet: it is said again
	}
}

func (f *foreign) close() {
	close(f.end)
	f.ep.Close()
	synctest.Wait()
}
