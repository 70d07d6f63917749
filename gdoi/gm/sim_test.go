package gm_test

// Whole key servers and members over a network in memory, under a fake clock: the
// engines are the product's, only the sockets and the dataplane are not.

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/internal/memnet"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// simDelay is the longest way of a datagram in a simulation.
const simDelay = 20 * time.Millisecond

func newNetwork(seed uint64) *memnet.Network {
	n := memnet.New(seed)
	n.SetAll(memnet.Link{Jitter: simDelay})
	return n
}

var (
	ks1 = netip.MustParseAddr("192.0.2.1")
	ks2 = netip.MustParseAddr("192.0.2.2")
	ks3 = netip.MustParseAddr("192.0.2.3")
	gcm = ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}
)

func gmAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }

func phase1(psk string) *ike.Config {
	return &ike.Config{
		Policies: []ike.Policy{{Priority: 10, Encr: ike.EncrAES, KeyBits: 128, Hash: ike.HashSHA256, Auth: ike.AuthPSK, Group: 19}},
		Keys:     []ike.Key{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), PSK: secret.Bytes(psk)}},
	}
}

func endpoint(t *testing.T, n *memnet.Network, a netip.Addr, psk string, store *model.Store, bus *event.Bus) *ike.Endpoint {
	t.Helper()
	ep, err := ike.New(ike.Options{Locals: []netip.Addr{a}, NATTPort: -1, Listen: func(a netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](n.Listen(a)) }, Config: phase1(psk),
		VendorIDs: [][]byte{gdoi.OurCapability().VendorID()}, Store: store, Events: bus, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// node is what key servers and members have in common.
type node struct {
	store  *model.Store
	bus    *event.Bus
	sub    *event.Sub
	ep     *ike.Endpoint
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newNode(t *testing.T, n *memnet.Network, a netip.Addr, psk string) *node {
	x := &node{store: model.NewStore(model.Snapshot{}), bus: event.NewBus()}
	x.sub = x.bus.Subscribe("test", 10000)
	x.ep = endpoint(t, n, a, psk, x.store, x.bus)
	return x
}

func (x *node) stop() {
	x.cancel()
	x.wg.Wait()
	x.ep.Close()
}

// count drains the events so far into a tally.
func (x *node) tally() map[string]int {
	m := map[string]int{}
	for {
		select {
		case r := <-x.sub.C():
			m[fmt.Sprintf("%T", r.Event)[len("event."):]]++
		default:
			return m
		}
	}
}

type keyServer struct {
	*node
	srv    *ks.Server
	groups []*ks.Group
}

func ace(a ipsec.Action, src, dst string) ipsec.ACE {
	return ipsec.ACE{Action: a, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(netip.MustParsePrefix(src)), Dst: ipsec.MatchPrefix(netip.MustParsePrefix(dst))}
}

// setup is a group's configuration.
func setup(name string, number uint32, life time.Duration) *ks.Setup {
	return &ks.Setup{
		Group:   config.Group{Name: name, HasNumber: true, Number: number, Local: &config.LocalServer{Address: ks1}},
		SIDBits: 24,
		Entries: []ks.SetupEntry{{Seq: 1, Profile: "P", ACL: "A", Transform: gcm, Lifetime: life, Replay: ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64},
			ACEs: []ipsec.ACE{ace(ipsec.Deny, "10.9.0.0/16", "10.0.0.0/8"), ace(ipsec.Permit, "10.0.0.0/8", "10.0.0.0/8")}}},
	}
}

func startKS(t *testing.T, n *memnet.Network, a netip.Addr, psk, dir string, groups ...*ks.Setup) *keyServer {
	t.Helper()
	k := &keyServer{node: newNode(t, n, a, psk)}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.srv = ks.NewServer(ks.Options{Store: k.store, Events: k.bus, Rand: rand.Reader, Files: ks.Disk{}, Dir: dir, Machine: "m", Push: k.ep})
	for _, s := range groups {
		g, err := k.srv.Add(s)
		if err != nil {
			t.Fatal(err)
		}
		k.groups = append(k.groups, g)
		k.wg.Go(func() { g.Run(ctx) })
	}
	k.ep.HandlePull(k.srv.HandlePull)
	return k
}

// plane is a dataplane that only remembers.
type plane struct {
	mu   sync.Mutex
	last map[string]ipsec.GroupPolicy // by group
	sent map[string]map[uint32]bool   // (key, SID) pairs used for sending, by key
}

func (p *plane) Install(g ipsec.GroupPolicy) error {
	p.mu.Lock()
	if p.last == nil {
		p.last, p.sent = map[string]ipsec.GroupPolicy{}, map[string]map[uint32]bool{}
	}
	p.last[g.Group] = g
	for _, t := range g.TEKs {
		for _, s := range t.SIDs {
			if p.sent[string(t.Key)] == nil {
				p.sent[string(t.Key)] = map[uint32]bool{}
			}
			p.sent[string(t.Key)][s] = true
		}
	}
	p.mu.Unlock()
	return nil
}

func (p *plane) Remove(string, string) error { return nil }

func (p *plane) policy(group string) (ipsec.GroupPolicy, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, ok := p.last[group]
	return g, ok
}

type member struct {
	*node
	plane  *plane
	groups map[string]*gm.Member
}

type join struct {
	name    string
	number  uint32
	servers []netip.Addr
	interop bool
}

func startGM(t *testing.T, n *memnet.Network, a netip.Addr, psk string, joins ...join) *member {
	t.Helper()
	m := &member{node: newNode(t, n, a, psk), plane: &plane{}, groups: map[string]*gm.Member{}}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	p := gm.NewEndpointPuller(m.ep, rand.Reader)
	for i, j := range joins {
		x := gm.New(gm.Options{Setup: gm.Setup{Group: config.Group{Name: j.name, HasNumber: true, Number: j.number, Servers: j.servers, Interop: j.interop},
			Attach: []gm.Attachment{{Interface: "eth0", MapName: "M", MapSeq: 10 * (i + 1)}}, Local: func(netip.Addr) netip.Addr { return a }}, Puller: p, Inst: m.plane, Rekeys: m.ep, Store: m.store, Events: m.bus})
		if p := x.Prepare(); len(p) != 0 {
			t.Fatal(p)
		}
		m.groups[j.name] = x
		m.wg.Go(func() { x.Run(ctx) })
	}
	return m
}

func (m *member) model(group string) model.GMGroup {
	for _, g := range m.store.Load().Members {
		if g.Name == group {
			return g
		}
	}
	return model.GMGroup{}
}

// sending is the SPI of the permit; 0 when there is none.
func (m *member) sending(group string) uint32 {
	g, _ := m.plane.policy(group)
	for _, e := range g.Entries {
		if e.ACE.Action == ipsec.Permit {
			return e.SPI
		}
	}
	return 0
}

func (m *member) receives(group string, spi uint32) bool {
	g, _ := m.plane.policy(group)
	return slices.ContainsFunc(g.TEKs, func(t ipsec.TEK) bool { return t.SPI == spi && time.Now().Before(t.Expires) })
}

// simulate runs f in a bubble with the network and ends everything that f started.
func simulate(t *testing.T, seed uint64, f func(t *testing.T, n *memnet.Network, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, newNetwork(seed), dir) })
}
