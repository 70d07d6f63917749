package ks

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/internal/clock"
	"getvpn/internal/secret"
	"getvpn/model"
	"getvpn/model/event"
)

// Whole key servers beside each other under a fake clock: their messages are carried by a
// network in memory that can be split, their rekeys by the air of life_test.go.

// league is the key servers of one group, and its members.
type league struct {
	t   *testing.T
	mu  sync.Mutex
	ks  []*server
	gms []*fakeMember
	// part is the part of the network that a key server is in.
	part  []int
	sess  uint64
	up    map[[2]int]uint64 // by pair
	mid   uint32
	wires sync.WaitGroup
	nat   bool                  // members that join come through a NAT
	with  map[holder][]uint32   // Sender IDs that are used with it
	sids  map[string]netip.Addr // SPI and Sender ID: whose it is
	tap   func(from, to netip.Addr, data []byte)
}

// holder is a member's copy of a TEK.
type holder struct {
	m   *fakeMember
	spi uint32
}

// server is one key server.
type server struct {
	l      *league
	i      int
	addr   netip.Addr
	air    *air
	disk   *memFiles
	state  *memSaver
	setup  *Setup
	s      *Server
	g      *Group
	sub    *event.Sub
	store  *model.Store
	clock  clock.Clock // nil: the bubble's
	cancel context.CancelFunc
	states map[netip.Addr]func(uint64, bool)
	wire   chan parcel
}

// parcel is a message on its way; a key server gets them in order.
type parcel struct {
	at      time.Time
	deliver func()
}

func (s *server) Keep(peer, _ netip.Addr, state func(uint64, bool)) func() {
	s.l.mu.Lock()
	s.states[peer] = state
	s.l.mu.Unlock()
	s.l.connectAll()
	return func() {
		s.l.mu.Lock()
		delete(s.states, peer)
		s.l.mu.Unlock()
	}
}

func (s *server) Inform(peer, _ netip.Addr, data []byte) error {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	j := slices.IndexFunc(l.ks, func(o *server) bool { return o.addr == peer })
	n := l.up[two(s.i, j)]
	if n == 0 || l.part[s.i] != l.part[j] || l.ks[j].s == nil {
		return fmt.Errorf("no way to %v", peer)
	}
	if l.tap != nil {
		l.tap(s.addr, peer, data)
	}
	to, b := l.ks[j].s, slices.Clone(data)
	l.ks[j].wire <- parcel{time.Now().Add(5 * time.Millisecond), func() { to.HandlePeer(s.addr, n, b) }}
	return nil
}

func two(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

// connectAll makes the SAs that can be.
func (l *league) connectAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, a := range l.ks {
		for j := range i {
			b := l.ks[j]
			x, y := a.states[b.addr], b.states[a.addr]
			if x != nil && y != nil && l.part[i] == l.part[j] && l.up[two(i, j)] == 0 {
				l.sess++
				l.up[two(i, j)] = l.sess
				x(l.sess, true)
				y(l.sess, true)
			}
		}
	}
}

// cut ends the SA of a pair.
func (l *league) cut(i, j int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.up[two(i, j)]
	delete(l.up, two(i, j))
	for _, x := range [][2]int{{i, j}, {j, i}} {
		if f := l.ks[x[0]].states[l.ks[x[1]].addr]; f != nil && n != 0 {
			f(n, false)
		}
	}
}

// apart splits the network for members too: a key server reaches those that stand where
// it does, which is where they registered.
func (l *league) apart(part ...int) {
	l.split(part...)
	for i, s := range l.ks {
		s.air.mu.Lock()
		s.air.lose = func(to netip.AddrPort, _ []byte) bool {
			home := slices.IndexFunc(l.gms, func(m *fakeMember) bool { return m.addr == to }) % len(l.ks)
			return part[i] != part[home]
		}
		s.air.mu.Unlock()
	}
}

// split puts key servers in parts of the network; who is apart finds out after a while.
func (l *league) split(part ...int) {
	l.mu.Lock()
	l.part = part
	l.mu.Unlock()
	for i := range l.ks {
		for j := range i {
			if part[i] != part[j] {
				time.AfterFunc(10*time.Second, func() {
					if l.parted(i, j) {
						l.cut(i, j)
					}
				})
			}
		}
	}
	l.connectAll()
}

func (l *league) parted(i, j int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.part[i] != l.part[j]
}

func newLeague(t *testing.T, n int, setup func(i int, s *Setup)) *league {
	t.Helper()
	testSigner()
	l := &league{t: t, up: map[[2]int]uint64{}, sids: map[string]netip.Addr{}, with: map[holder][]uint32{}, part: make([]int, n)}
	for i := range n {
		l.ks = append(l.ks, &server{l: l, i: i, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), disk: &memFiles{crash: func(string) error { return nil }},
			state: &memSaver{d: map[string]durable{}}, states: map[netip.Addr]func(uint64, bool){}, wire: make(chan parcel, 1<<16)})
		wire := l.ks[i].wire
		l.wires.Go(func() {
			for p := range wire {
				time.Sleep(time.Until(p.at))
				p.deliver()
			}
		})
	}
	members := map[netip.AddrPort][]*fakeMember{}
	for i, s := range l.ks {
		s.air = &air{acks: map[[2]isakmp.Cookie]func(ike.Datagram){}, members: members}
		x := lifeSetup(time.Hour, unicast(2, 10*time.Second))
		x.Group.Local = &config.LocalServer{Address: s.addr, RekeyUnicast: true, RekeyAck: config.AckAny}
		x.Coop = &CoopSetup{Self: s.addr, Priority: uint8(100 - 10*i), Software: [3]uint8{1, 0, 0}, SIDs: []coop.SIDRange{{Low: uint32(i) << 17, High: uint32(i)<<17 + 1<<17 - 1}}}
		for _, o := range l.ks {
			x.Coop.Peers = append(x.Coop.Peers, o.addr)
		}
		if setup != nil {
			setup(i, x)
		}
		s.start(x)
	}
	t.Cleanup(func() {
		for _, s := range l.ks {
			s.stop()
		}
		for _, s := range l.ks {
			close(s.wire)
		}
		l.wires.Wait()
	})
	return l
}

func (s *server) start(x *Setup) {
	s.l.t.Helper()
	s.setup = x
	s.store = model.NewStore(model.Snapshot{})
	bus := event.NewBus()
	s.sub = bus.Subscribe("test", 100000)
	s.s = NewServer(Options{Store: s.store, Events: bus, Rand: rand.Reader, Files: s.disk, Dir: "d", Marks: "run", Machine: "m", Clock: s.clock, Push: s.air, State: s.state, Peers: s,
		Moment: func() clock.Moment { return clock.Moment{RTC: 1} }})
	g, err := s.s.Add(x)
	if err != nil {
		s.l.t.Fatal(err)
	}
	s.g = g
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go g.Run(ctx)
}

// stop ends a key server in order.
func (s *server) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	<-s.g.done
	s.cancel = nil
	for j := range s.l.ks {
		if j != s.i {
			s.l.cut(s.i, j)
		}
	}
}

// kill ends it without a word to anybody; what it has on disk is what it had at that
// moment, whatever its actor does at its end.
func (s *server) kill() {
	var files map[string][]byte
	var state map[string]durable
	s.in(func(*Group) { files, state = maps.Clone(s.disk.m), maps.Clone(s.state.d) })
	defer func() { s.disk.m, s.state.d = files, state }()
	s.l.mu.Lock()
	for j := range s.l.ks { // nothing leaves any more
		if n := s.l.up[two(s.i, j)]; n != 0 && j != s.i {
			delete(s.l.up, two(s.i, j))
			if f := s.l.ks[j].states[s.addr]; f != nil {
				time.AfterFunc(15*time.Second, func() { f(n, false) })
			}
		}
	}
	s.states = map[netip.Addr]func(uint64, bool){}
	s.l.mu.Unlock()
	s.air.mu.Lock()
	s.air.members = map[netip.AddrPort][]*fakeMember{}
	s.air.mu.Unlock()
	s.cancel()
	<-s.g.done
	s.cancel = nil
}

// restart starts it again, with what it has on disk.
func (s *server) restart(x *Setup) {
	s.l.t.Helper()
	s.l.mu.Lock()
	for j := range s.l.ks {
		delete(s.l.up, two(s.i, j))
	}
	s.states = map[netip.Addr]func(uint64, bool){}
	s.l.mu.Unlock()
	s.air.mu.Lock()
	s.air.members = map[netip.AddrPort][]*fakeMember{}
	for _, m := range s.l.gms {
		s.air.members[m.addr] = []*fakeMember{m}
	}
	s.air.mu.Unlock()
	s.start(x)
}

// join registers member i at a key server.
func (l *league) join(i int, s *server) *fakeMember {
	l.t.Helper()
	for len(l.gms) <= i {
		m := &fakeMember{addr: netip.AddrPortFrom(gmAddr(len(l.gms)), 848), teks: map[uint32]time.Time{}, keys: map[uint32]secret.Bytes{}}
		l.gms = append(l.gms, m)
		for _, s := range l.ks {
			s.air.mu.Lock()
			s.air.members[m.addr] = []*fakeMember{m}
			s.air.mu.Unlock()
		}
	}
	l.mid++
	b := &bench{s: s.s, g: s.g, mid: l.mid * 1000, natt: l.nat}
	m := l.gms[i]
	d := b.register(l.t, m.addr.Addr(), ours())
	m.install(l.t, d)
	if d.KD.SIDs != nil {
		m.sids = d.KD.SIDs.Values
		for _, t := range d.KD.TEKs { // what it doesn't name keeps those that it had
			l.with[holder{m, t.SPI}] = m.sids
		}
	}
	return m
}

// open reports whether a key server registers members now.
func (s *server) open() (yes bool) {
	s.in(func(g *Group) { yes = g.blocked() == "" })
	return yes
}

// used notes who may send with which Sender ID under which key.
func (l *league) used() {
	l.t.Helper()
	for i, m := range l.gms {
		for _, spi := range m.spis() {
			if l.with[holder{m, spi}] == nil {
				l.with[holder{m, spi}] = m.sids
			}
			for _, sid := range l.with[holder{m, spi}] {
				k := fmt.Sprintf("%x/%d", spi, sid)
				if o, ok := l.sids[k]; ok && o != m.addr.Addr() {
					l.t.Fatalf("Sender ID %d under %x is member %d's and %v's", sid, spi, i, o)
				}
				l.sids[k] = m.addr.Addr()
			}
		}
	}
}

func (s *server) role() (r coop.Role) {
	s.g.do(func() { r = s.g.coop.role })
	return r
}

// events are the names of those emitted since it was asked last.
func (s *server) events() map[string]int {
	m := map[string]int{}
	for {
		select {
		case r := <-s.sub.C():
			m[fmt.Sprintf("%T", r.Event)[len("event."):]]++
		default:
			return m
		}
	}
}

// model is what is shown.
func (s *server) model() model.KSGroup {
	synctest.Wait()
	return s.store.Load().KeyServers[0]
}

func gmPath(i int) netip.AddrPort { return netip.AddrPortFrom(gmAddr(i), rekeyPort) }

// in runs f in the actor.
func (s *server) in(f func(g *Group)) { s.g.do(func() { f(s.g) }) }

// ring is the SPIs of a key server's TEKs, and of its KEKs.
func (s *server) ring() (teks []uint32, kek [16]byte) {
	s.in(func(g *Group) {
		for _, list := range g.ring.teks {
			for _, t := range list {
				teks = append(teks, t.spi)
			}
		}
		if g.ring.kek != nil {
			kek = g.ring.kek.spi
		}
	})
	slices.Sort(teks)
	return teks, kek
}

// among runs f in a bubble.
func among(t *testing.T, n int, setup func(int, *Setup), f func(t *testing.T, l *league)) {
	t.Helper()
	testSigner()
	synctest.Test(t, func(t *testing.T) { f(t, newLeague(t, n, setup)) })
}

// faults are messages that a member could not take.
func (m *fakeMember) faults() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.bad)
}

// kek is the KEK that a member holds; zero: none, or more than one.
func (m *fakeMember) kek() (spi [16]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keks) == 1 {
		spi = m.keks[0].SPI
	}
	return spi
}

// first is the first rekey that a member took since it was asked to forget them.
func (m *fakeMember) first() *policy.Rekey {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rekeys[0]
}
