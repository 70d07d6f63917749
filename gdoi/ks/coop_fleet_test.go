package ks_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/ks"
	"getvpn/gdoi/policy"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// Key servers of one group with endpoints of their own, and many members, over a network
// in memory under a fake clock. What goes between key servers is counted.

type fleet struct {
	t       *testing.T
	net     *memnet.Network
	signer  *ks.Signer
	addrs   []netip.Addr
	servers []*fleetServer
	members []*fleetMember
	life    time.Duration

	mu        sync.Mutex
	listening []*fleetMember
	packets   int // between key servers
	octets    int // … with IP and UDP headers
	largest   int // … of a datagram, with them
}

// headers are an IPv4 header's octets and UDP's.
const headers = 20 + 8

type fleetServer struct {
	addr  netip.Addr
	store *model.Store
	ep    *ike.Endpoint
	group *ks.Group
	stop  func()
}

// fleetMember takes rekeys with what it got when it registered.
type fleetMember struct {
	addr netip.Addr
	conn *memnet.Conn

	mu   sync.Mutex
	keks []fleetKEK
	teks map[uint32]time.Time // SPI to end
	bad  error
}

type fleetKEK struct {
	sa   gdoi.RekeySA
	pub  crypto.PublicKey
	ask  gdoi.AckRequest
	last uint32
}

// newFleet makes n key servers, none of which runs yet.
func newFleet(t *testing.T, n int, life time.Duration) *fleet {
	t.Helper()
	f := &fleet{t: t, net: memnet.New(11), life: life, signer: partySigner(t)}
	f.net.SetAll(memnet.Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
	between := map[netip.Addr]bool{}
	for i := range n {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		f.addrs, f.servers = append(f.addrs, a), append(f.servers, nil)
		between[a] = true
	}
	f.net.Watch(func(d memnet.Datagram) {
		if between[d.Remote.Addr()] && between[d.Local.Addr()] {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.packets++
			f.octets += len(d.Data) + headers
			f.largest = max(f.largest, len(d.Data)+headers)
		}
	})
	return f
}

// hundred are a hundred permits.
func hundred() (list []ipsec.ACE) {
	for i := range 100 {
		list = append(list, ipsec.ACE{Seq: 10 * (i + 1), Action: ipsec.Permit, Family: ipsec.IPv4,
			Src: ipsec.MatchPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)), Dst: ipsec.MatchPrefix(netip.MustParsePrefix("172.16.0.0/16"))})
	}
	return list
}

// start starts a key server.
func (f *fleet) start(i int) *fleetServer {
	f.t.Helper()
	a := f.addrs[i]
	s := &fleetServer{addr: a, store: model.NewStore(model.Snapshot{})}
	bus := event.NewBus()
	var err error
	s.ep, err = ike.New(ike.Options{Locals: []netip.Addr{a}, NATTPort: -1, Config: partyConfig(), Store: s.store, Events: bus, Workers: 1,
		VendorIDs: [][]byte{gdoi.OurCapability().VendorID()},
		Listen:    func(p netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](f.net.Listen(p)) }})
	if err != nil {
		f.t.Fatal(err)
	}
	srv := ks.NewServer(ks.Options{Store: s.store, Events: bus, Rand: rand.Reader, Files: ks.Disk{}, Dir: f.t.TempDir(), Machine: "m", Push: s.ep, Peers: ks.NewEndpointPeers(s.ep)})
	s.ep.HandlePull(srv.HandlePull)
	s.ep.HandlePeerNotify(srv.HandlePeerNotify)
	s.group, err = srv.Add(&ks.Setup{
		Group:   config.Group{Name: "g", HasNumber: true, Number: 1, Local: &config.LocalServer{Address: a, RekeyUnicast: true, RekeyAck: config.AckAny}},
		SIDBits: 24,
		Rekey: &ks.SetupRekey{Cipher: gdoi.KEKAESCBC, KeyBits: 128, Hash: gdoi.SigHashSHA256, Lifetime: 24 * time.Hour, Signer: f.signer,
			Ack: gdoi.AckKEKSHA256, Retransmits: 2, Interval: 10 * time.Second},
		Entries: []ks.SetupEntry{{Seq: 1, Profile: "P", ACL: "A", Lifetime: f.life, ACEs: hundred(),
			Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}}},
		Coop: &ks.CoopSetup{Self: a, Priority: uint8(100 - i), Peers: f.addrs, SIDs: []coop.SIDRange{{Low: uint32(i) << 20, High: uint32(i)<<20 + 1<<20 - 1}}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.group.Run(ctx)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		s.ep.Close()
	})
	f.servers[i] = s
	return s
}

// close ends everything.
func (f *fleet) close() {
	for _, s := range f.servers {
		if s != nil {
			s.stop()
		}
	}
	for _, m := range f.listening {
		if m.conn != nil {
			m.conn.Close()
		}
	}
}

func (s *fleetServer) shown() *model.KSGroup { return &s.store.Load().KeyServers[0] }

// open reports whether it registers members.
func (s *fleetServer) open() bool {
	c := s.shown().Coop
	return c.Role != model.CoopElecting && c.Gate == model.CoopOpen && !c.Reinit
}

// until waits for a state.
func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	for range 30000 {
		if synctest.Wait(); ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatalf("%s: never", what)
}

// enroll registers n members, each at one of the key servers in turn, and lets them
// listen.
func (f *fleet) enroll(n int, at ...*fleetServer) {
	f.t.Helper()
	for i := range n {
		f.members = append(f.members, &fleetMember{addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), teks: map[uint32]time.Time{}})
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := f.register(f.members[i], at[i%len(at)]); err != nil {
					f.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// register registers a member, which then listens for rekeys.
func (f *fleet) register(m *fleetMember, s *fleetServer) error {
	r, err := pullOnce(f.t.Context(), f.net, partyConfig(), m.addr, s.addr)
	if err != nil {
		return err
	}
	if err := m.take(&r.Offer); err != nil {
		return err
	}
	f.mu.Lock()
	f.listening = append(f.listening, m)
	f.mu.Unlock()
	if m.conn, err = f.net.Listen(netip.AddrPortFrom(m.addr, ike.Port)); err != nil {
		return err
	}
	go func() {
		b := make([]byte, 65536)
		for {
			d, err := m.conn.Receive(b)
			if err != nil {
				return
			}
			if ack := m.rekey(d.Data); ack != nil {
				m.conn.Write(ack, m.addr, d.Remote)
			}
		}
	}()
	return nil
}

// take holds what an offer names.
func (m *fleetMember) take(o *policy.Offer) error {
	for _, t := range o.TEKs {
		m.teks[t.SPI] = time.Now().Add(t.Lifetime)
	}
	k := o.KEK
	if k == nil {
		return nil
	}
	pub, err := gdoi.ParsePublic(k.Public)
	if err != nil {
		return err
	}
	m.keks = append(m.keks, fleetKEK{sa: gdoi.RekeySA{SPI: k.SPI, Algorithm: k.Cipher, IV: k.IV, Key: k.Key, SigHash: k.SigHash, SigAlg: k.SigAlg},
		pub: pub, ask: k.Ack, last: k.Seq})
	return nil
}

// rekey takes a rekey and returns the acknowledgement.
func (m *fleetMember) rekey(d []byte) []byte {
	if len(d) <= 18 || isakmp.ExchangeType(d[18]) != isakmp.GroupKeyPush {
		return nil
	}
	h, err := isakmp.ParseHeader(d)
	if err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.keks {
		k := &m.keks[i]
		if ci, cr := k.sa.SPI.Cookies(); ci != h.ICookie || cr != h.RCookie {
			continue
		}
		p, err := k.sa.Open(d, k.last, k.pub)
		if err != nil {
			if gdoi.ReasonOf(err) != gdoi.Replayed.String() {
				m.bad = err
			}
			return nil
		}
		k.last = p.Seq
		a := k.sa.AckKey(k.ask)
		defer a.Zero()
		ack := a.Seal(p.Seq, isakmp.AddrID(m.addr), k.sa.SPI)
		r, err := policy.DecodeRekey(p)
		if err == nil && r.Offer != nil {
			if r.Offer.KEK != nil && r.Offer.KEK.SPI == k.sa.SPI {
				r.Offer.KEK = nil
			}
			err = m.take(r.Offer)
		}
		if err != nil {
			m.bad = err
		}
		return ack
	}
	return nil
}

// count starts to count what goes between key servers anew and returns what did.
func (f *fleet) count() (packets, octets, largest int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	packets, octets, largest = f.packets, f.octets, f.largest
	f.packets, f.octets, f.largest = 0, 0, 0
	return packets, octets, largest
}

// listed reports whether key servers list n members, each of them.
func (f *fleet) listed(n int) bool {
	for _, s := range f.servers {
		if s != nil && s.shown().Members.Len() != n {
			return false
		}
	}
	return true
}
