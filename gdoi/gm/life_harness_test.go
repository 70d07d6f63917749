package gm

// A member under a key server of the test's own: rekeys are sealed here with the
// product's GROUPKEY-PUSH and handed to what the member registered at its endpoint.

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/internal/clock"
	"getvpn/internal/secret"
	"getvpn/model"
	"getvpn/model/event"
)

var (
	memberAddr = netip.MustParseAddrPort("198.51.100.1:848")
	serverPort = netip.AddrPortFrom(server1, 848)
)

// wire is the endpoint as the member sees it.
type wire struct {
	mu       sync.Mutex
	handlers map[gdoi.KEKSPI]func(ike.Datagram)
	acks     []ike.Datagram // Local: the source
}

func (w *wire) HandlePush(ci, cr isakmp.Cookie, f func(ike.Datagram)) func() {
	k := gdoi.KEKSPI(append(ci[:], cr[:]...))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handlers[k] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.handlers, k)
	}
}

func (w *wire) SendPush(d []byte, local netip.Addr, remote netip.AddrPort) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, ike.Datagram{Data: d, Local: netip.AddrPortFrom(local, 848), Remote: remote})
	return nil
}

func (w *wire) sent() []ike.Datagram {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.acks)
}

// server is a key server: what it offers to whoever registers, and its rekey SA.
type server struct {
	mu    sync.Mutex
	key   *ecdsa.PrivateKey
	kek   policy.KEK
	teks  []policy.TEK // with Lifetime and Age as at their making
	made  map[uint32]time.Time
	clock *policy.Clock // Pseudotime as at zero
	zero  time.Time
	seq   uint32
	down  bool
	noKEK bool // the group has no rekeys yet
	sid   uint32
	pulls []netip.Addr
}

func newServer(t *testing.T, kekLife time.Duration) *server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{key: key, made: map[uint32]time.Time{}, zero: time.Now()}
	s.newKEK(t, kekLife)
	return s
}

func (s *server) newKEK(t *testing.T, life time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.kek = policy.KEK{Src: serverPort, Dst: netip.MustParseAddrPort("0.0.0.0:848"), Cipher: gdoi.KEKAESCBC, KeyBits: 128, Lifetime: life,
		SigAlg: gdoi.SigECDSA256, SigBits: 256, SigHash: gdoi.SigHashSHA256, Public: der, Ack: gdoi.AckKEKSHA256,
		IV: make(secret.Bytes, 16), Key: make(secret.Bytes, 16)}
	rand.Read(s.kek.SPI[:])
	rand.Read(s.kek.IV)
	rand.Read(s.kek.Key)
	s.made[0] = time.Now()
	s.seq = 0
}

func (s *server) sa() gdoi.RekeySA {
	return gdoi.RekeySA{SPI: s.kek.SPI, Algorithm: s.kek.Cipher, IV: s.kek.IV.Clone(), Key: s.kek.Key.Clone(), SigAlg: s.kek.SigAlg, SigHash: s.kek.SigHash}
}

// tek makes a data SA now.
func (s *server) tek(spi uint32, life time.Duration) policy.TEK {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := tekOf(spi, life)
	x.HasAge = true
	s.made[spi] = time.Now()
	s.teks = append(s.teks, x)
	return x
}

// offer is the policy as it is now.
func (s *server) offer() policy.Offer {
	now := time.Now()
	o := policy.Offer{Entries: []policy.Entry{{ACE: ssh}, {ACE: permit}}}
	for _, x := range s.teks {
		age := now.Sub(s.made[x.SPI])
		x.Age, x.Lifetime = age.Truncate(time.Second), (x.Lifetime - age).Truncate(time.Second)
		if x.Lifetime < time.Second {
			continue
		}
		o.TEKs = append(o.TEKs, x)
		o.Entries[1].SPIs = append(o.Entries[1].SPIs, x.SPI)
	}
	k := s.kek
	k.Lifetime = (k.Lifetime - now.Sub(s.made[0])).Truncate(time.Second)
	k.Seq = s.seq
	o.KEK = &k
	if s.noKEK {
		o.KEK = nil
	}
	if s.clock != nil {
		c := *s.clock
		c.Pseudotime += now.Sub(s.zero).Truncate(time.Millisecond)
		o.Clock = &c
	}
	return o
}

// Pull is a registration.
func (s *server) Pull(_ context.Context, r PullRequest) (*PullResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls = append(s.pulls, r.Server)
	if s.down {
		return nil, errors.New("nobody there")
	}
	s.sid++
	return &PullResult{Offer: s.offer(), Keys: policy.Keys{SIDBits: 24, SIDs: []uint32{s.sid}}, Asked: time.Now(), At: time.Now(),
		Local: memberAddr, Remote: serverPort}, nil
}

func (s *server) registrations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pulls)
}

func (s *server) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// world is a member with its key server.
type world struct {
	*rig
	t *testing.T
	s *server
	w *wire
	c *clock.Fake
}

func newWorld(t *testing.T, s *server, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, s: s, w: &wire{handlers: map[gdoi.KEKSPI]func(ike.Datagram){}}, c: clock.NewFake()}
	bus := event.NewBus()
	w.rig = &rig{plane: &plane{}, store: model.NewStore(model.Snapshot{}), sub: bus.Subscribe("test", 10000)}
	o := Options{Setup: Setup{Group: config.Group{Name: "g", HasNumber: true, Number: 1, Servers: []netip.Addr{server1, server2}},
		Attach: []Attachment{{Interface: "eth0", MapName: "MAP", MapSeq: 10}}}, Puller: s, Inst: w.plane, Store: w.store, Events: bus,
		Rekeys: w.w, Clock: w.c, Random: func() float64 { return 0.5 }}
	for _, f := range change {
		f(&o)
	}
	w.m = New(o)
	for _, p := range w.m.Prepare() {
		w.plane.Install(p)
	}
	w.run(t)
	synctest.Wait()
	return w
}

func (w *world) model() model.GMGroup { return w.store.Load().Members[0] }

// rekey is a rekey's content from what the server has; named are the SPIs that it
// names, none: all.
func (w *world) rekey(change func(*policy.Rekey)) *policy.Rekey {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	o := w.s.offer()
	o.KEK.Seq = 0
	w.s.seq++
	r := &policy.Rekey{Seq: w.s.seq, Offer: &o}
	if change != nil {
		change(r)
	}
	return r
}

// seal makes the datagram under an SA, signed with key.
func (w *world) seal(sa gdoi.RekeySA, r *policy.Rekey, key crypto.Signer) []byte {
	w.t.Helper()
	p, err := policy.EncodeRekey(r, false)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := sa.Seal(rand.Reader, p, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// deliver hands a datagram to the endpoint; false: nobody listens to its cookies.
func (w *world) deliver(d []byte) bool { return w.deliverTo(d, memberAddr) }

func (w *world) deliverTo(d []byte, to netip.AddrPort) bool {
	w.w.mu.Lock()
	f := w.w.handlers[gdoi.KEKSPI(d[:16])]
	w.w.mu.Unlock()
	if f == nil {
		return false
	}
	f(ike.Datagram{Data: slices.Clone(d), Remote: serverPort, Local: to})
	synctest.Wait()
	return true
}

// push sends what the server has as its next rekey and returns the datagram.
func (w *world) push(change func(*policy.Rekey)) []byte {
	w.t.Helper()
	d := w.seal(w.s.sa(), w.rekey(change), w.s.key)
	if !w.deliver(d) {
		w.t.Fatal("nobody listens to the rekey")
	}
	return d
}

// records drains the events.
func (w *world) records() (out []event.Event) {
	for {
		select {
		case e := <-w.sub.C():
			out = append(out, e.Event)
		default:
			return out
		}
	}
}

func has[T event.Event](list []event.Event) (n int, last T) {
	for _, e := range list {
		if x, ok := e.(T); ok {
			n++
			last = x
		}
	}
	return n, last
}

// at sleeps until that long after the start of the key server's life.
func (w *world) at(d time.Duration) {
	time.Sleep(time.Until(w.s.zero.Add(d)))
	synctest.Wait()
}

func live(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// rekeyDatagram is a rekey as the endpoint hands it on.
func rekeyDatagram(d []byte) ike.Datagram {
	return ike.Datagram{Data: slices.Clone(d), Remote: serverPort, Local: memberAddr}
}
