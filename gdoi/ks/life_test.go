package ks

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
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
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// A key server's group under a fake clock with members that are nothing but a rekey
// machine, and a wire that is a function call.

// air carries rekeys to members and acknowledgements back.
type air struct {
	mu      sync.Mutex
	acks    map[[2]isakmp.Cookie]func(ike.Datagram)
	members map[netip.AddrPort][]*fakeMember // by where a datagram goes; several for multicast
	sent    []sending
	lose    func(to netip.AddrPort, d []byte) bool
	slow    time.Duration // what sending a batch takes
}

type sending struct {
	at time.Time
	to int
	n  int // octets
}

func (a *air) HandlePush(ci, cr isakmp.Cookie, f func(ike.Datagram)) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := [2]isakmp.Cookie{ci, cr}
	a.acks[k] = f
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.acks, k)
	}
}

func (a *air) SendPushBatch(d []byte, local netip.Addr, to []netip.AddrPort) (int, error) {
	time.Sleep(a.slow)
	a.mu.Lock()
	a.sent = append(a.sent, sending{time.Now(), len(to), len(d)})
	type delivery struct {
		m    *fakeMember
		lost bool
	}
	var all []delivery
	for _, p := range to {
		lost := a.lose != nil && a.lose(p, d)
		for _, m := range a.members[p] {
			all = append(all, delivery{m, lost})
		}
	}
	a.mu.Unlock()
	for _, x := range all {
		if !x.lost {
			x.m.push(d, a)
		}
	}
	return len(to), nil
}

// acknowledge brings a datagram to the key server.
func (a *air) acknowledge(d []byte, from netip.AddrPort) {
	h, err := isakmp.ParseHeader(d)
	if err != nil {
		return
	}
	a.mu.Lock()
	f := a.acks[[2]isakmp.Cookie{h.ICookie, h.RCookie}]
	a.mu.Unlock()
	if f != nil {
		f(ike.Datagram{Data: d, Remote: from})
	}
}

// fakeMember opens rekeys as a member does and remembers.
type fakeMember struct {
	mu     sync.Mutex
	air    *air
	addr   netip.AddrPort
	mute   atomic.Bool // acknowledges nothing
	off    atomic.Bool // hears nothing
	keks   []*policy.KEK
	seqs   []uint32 // of rekeys taken
	rekeys []*policy.Rekey
	teks   map[uint32]time.Time // SPI to end
	keys   map[uint32]secret.Bytes
	sizes  []int
	bad    []error
	joined int
	sids   []uint32 // of the last registration
}

func (m *fakeMember) take(o *policy.Offer) {
	for _, t := range o.TEKs {
		m.teks[t.SPI] = time.Now().Add(t.Lifetime)
		m.keys[t.SPI] = t.Key
	}
}

func (m *fakeMember) push(d []byte, from *air) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off.Load() {
		return
	}
	h, _ := isakmp.ParseHeader(d)
	for i, k := range slices.Backward(m.keks) {
		ci, cr := gdoi.KEKSPI(k.SPI).Cookies()
		if ci != h.ICookie || cr != h.RCookie {
			continue
		}
		sa := &gdoi.RekeySA{SPI: k.SPI, Algorithm: k.Cipher, IV: k.IV, Key: k.Key, SigHash: k.SigHash, SigAlg: k.SigAlg}
		pub, err := gdoi.ParsePublic(k.Public)
		if err != nil {
			m.bad = append(m.bad, err)
			return
		}
		p, err := sa.Open(d, k.Seq, pub)
		if err != nil {
			m.bad = append(m.bad, err)
			return
		}
		r, err := policy.DecodeRekey(p)
		if err != nil {
			m.bad = append(m.bad, err)
			return
		}
		k.Seq = p.Seq
		ack := sa.AckKey(k.Ack)
		m.seqs, m.rekeys, m.sizes = append(m.seqs, p.Seq), append(m.rekeys, r), append(m.sizes, len(d))
		if r.Delete.AllTEKs {
			clear(m.teks)
		}
		for _, s := range r.Delete.TEKs {
			delete(m.teks, s)
		}
		if r.Shorten {
			for s, end := range m.teks {
				if !slices.ContainsFunc(r.Offer.TEKs, func(t policy.TEK) bool { return t.SPI == s }) {
					m.teks[s] = time.Now().Add(policy.Shortened(time.Until(end), time.Hour))
				}
			}
		}
		if r.Offer != nil {
			m.take(r.Offer)
			if n := r.Offer.KEK; n != nil && n.SPI != k.SPI {
				m.keks = append(m.keks, n)
			}
		}
		if r.Delete.AllKEKs {
			m.keks = nil
		}
		if len(m.keks) > 1 && i < len(m.keks)-1 {
			m.keks = m.keks[len(m.keks)-1:] // a KEK that was replaced is gone, as with the vendor
		}
		if !m.mute.Load() && ack.Valid() {
			b := ack.Seal(p.Seq, isakmp.AddrID(m.addr.Addr()), k.SPI)
			go from.acknowledge(b, m.addr)
		}
		return
	}
}

func (m *fakeMember) numbers() []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seqs)
}

func (m *fakeMember) last() *policy.Rekey {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rekeys) == 0 {
		return nil
	}
	return m.rekeys[len(m.rekeys)-1]
}

func (m *fakeMember) spis() []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []uint32
	for s, end := range m.teks {
		if time.Now().Before(end) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// life is the whole of it.
type life struct {
	*bench
	air *air
	sub *event.Sub
	gms []*fakeMember

	cancel context.CancelFunc // of the group's actor
}

var testSigner = sync.OnceValue(func() *Signer {
	s, err := freshSigner()
	if err != nil {
		panic(err)
	}
	return s
})

func freshSigner() (*Signer, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return NewSigner(k)
}

var cbc128 = ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: 128, Auth: ipsec.AuthSHA256}

func unicast(retransmits int, interval time.Duration) *SetupRekey {
	return &SetupRekey{Cipher: gdoi.KEKAESCBC, KeyBits: 128, Hash: gdoi.SigHashSHA256, Lifetime: 24 * time.Hour, Signer: testSigner(),
		Ack: gdoi.AckKEKSHA256, Retransmits: retransmits, Interval: interval}
}

var mcastGroup = netip.MustParseAddrPort("239.1.1.1:848")

func multicast(retransmits int, interval time.Duration) *SetupRekey {
	r := unicast(retransmits, interval)
	r.Ack, r.Multicast = 0, mcastGroup
	return r
}

func lifeSetup(tekLife time.Duration, r *SetupRekey) *Setup {
	return &Setup{
		Group:   config.Group{Name: "g", HasNumber: true, Number: 1, Local: &config.LocalServer{Address: netip.MustParseAddr("192.0.2.1"), RekeyUnicast: r != nil && r.Unicast(), RekeyAck: config.AckAny}},
		SIDBits: 24, Rekey: r,
		Entries: []SetupEntry{{Seq: 1, Transform: cbc128, Lifetime: tekLife, ACEs: permit(2)}},
	}
}

func newLife(t *testing.T, setup *Setup) *life {
	t.Helper()
	return newLifeWith(t, setup, nil)
}

func newLifeWith(t *testing.T, setup *Setup, state Saver) *life {
	t.Helper()
	b := &bench{store: model.NewStore(model.Snapshot{}), disk: &memFiles{crash: func(string) error { return nil }}}
	l := &life{bench: b, air: &air{acks: map[[2]isakmp.Cookie]func(ike.Datagram){}, members: map[netip.AddrPort][]*fakeMember{}}}
	bus := event.NewBus()
	l.sub = bus.Subscribe("test", 100000)
	b.s = NewServer(Options{Store: b.store, Events: bus, Rand: rand.Reader, Files: b.disk, Dir: "d", Marks: "run", Machine: "m", Push: l.air, State: state,
		Moment: func() clock.Moment { return clock.Moment{RTC: 1} }})
	l.add(t, setup)
	return l
}

func (l *life) add(t *testing.T, setup *Setup) {
	t.Helper()
	g, err := l.s.Add(setup)
	if err != nil {
		t.Fatal(err)
	}
	l.g = g
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go g.Run(ctx)
	t.Cleanup(func() { cancel(); <-g.done })
}

func gmAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 255, byte(i >> 8), byte(i)}) }

// join registers a member, or registers it again.
func (l *life) join(t testing.TB, i int) *fakeMember {
	t.Helper()
	for len(l.gms) <= i {
		n := len(l.gms)
		m := &fakeMember{air: l.air, addr: netip.AddrPortFrom(gmAddr(n), 848), teks: map[uint32]time.Time{}, keys: map[uint32]secret.Bytes{}}
		l.gms = append(l.gms, m)
		l.air.mu.Lock()
		l.air.members[m.addr] = append(l.air.members[m.addr], m)
		l.air.members[mcastGroup] = append(l.air.members[mcastGroup], m)
		l.air.mu.Unlock()
	}
	m := l.gms[i]
	m.install(t, l.register(t, m.addr.Addr(), ours()))
	return m
}

func (m *fakeMember) install(t testing.TB, d *gdoi.Download) {
	t.Helper()
	o, err := policy.Decode(d.SA)
	if err != nil {
		t.Fatal(err)
	}
	o.AddKeys(d.KD, d.Seq)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(o)
	m.joined++
	m.keks = nil
	if o.KEK != nil {
		m.keks = []*policy.KEK{o.KEK}
	}
}

// after lets time pass until everything is still.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// group is what the model says.
func (l *life) group() model.KSGroup {
	synctest.Wait()
	return l.store.Load().KeyServers[0]
}

// events are the names of those emitted so far.
func (l *life) events() map[string]int {
	synctest.Wait()
	m := map[string]int{}
	for {
		select {
		case r := <-l.sub.C():
			m[fmt.Sprintf("%T", r.Event)[len("event."):]]++
		default:
			return m
		}
	}
}

// live runs f in a bubble.
func live(t *testing.T, setup func() *Setup, f func(t *testing.T, l *life)) {
	t.Helper()
	testSigner() // outside
	synctest.Test(t, func(t *testing.T) { f(t, newLife(t, setup())) })
}

// firstPush waits, second by second, for the first rekey and says when it came after
// start.
func (l *life) firstPush(t *testing.T, start time.Time, most time.Duration) time.Duration {
	t.Helper()
	l.air.mu.Lock()
	had := len(l.air.sent)
	l.air.mu.Unlock()
	for time.Since(start) < most {
		after(time.Second)
		l.air.mu.Lock()
		n := len(l.air.sent)
		var at time.Time
		if n > had {
			at = l.air.sent[had].at
		}
		l.air.mu.Unlock()
		if n > had {
			return at.Sub(start).Round(time.Second)
		}
	}
	t.Fatalf("no rekey within %v", most)
	return 0
}
