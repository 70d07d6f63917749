package ks

// Whoever sends key servers what they shouldn't get: on the wire, from strangers, and
// from a peer that has the key of phase 1 and means ill. All is counted by its reason, and
// nothing changes.

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/clock"
	"getvpn/internal/memnet"
	"getvpn/internal/secret"
	"getvpn/model"
	"getvpn/model/event"
)

// wired is a key server behind a real endpoint.
type wired struct {
	addr  netip.Addr
	ep    *ike.Endpoint
	s     *Server
	g     *Group
	store *model.Store
	stop  func()

	Peers
	mu   sync.Mutex
	sent [][]byte // messages to other key servers, in clear
}

func (w *wired) Inform(peer, local netip.Addr, data []byte) error {
	w.mu.Lock()
	w.sent = append(w.sent, bytes.Clone(data))
	w.mu.Unlock()
	return w.Peers.Inform(peer, local, data)
}

// last is the newest announcement that it sent.
func (w *wired) last() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range slices.Backward(w.sent) {
		if m[2] == 1 {
			return bytes.Clone(m)
		}
	}
	return nil
}

func endpointAt(t *testing.T, n *memnet.Network, a netip.Addr, store *model.Store) *ike.Endpoint {
	t.Helper()
	ep, err := ike.New(ike.Options{Locals: []netip.Addr{a}, NATTPort: -1, Store: store, Workers: 1, VendorIDs: [][]byte{gdoi.OurCapability().VendorID()},
		Config: &ike.Config{Policies: []ike.Policy{{Priority: 10, Encr: ike.EncrAES, KeyBits: 128, Hash: ike.HashSHA256, Auth: ike.AuthPSK, Group: 19}},
			Keys: []ike.Key{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), PSK: secret.Bytes("party")}}},
		Listen: func(p netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](n.Listen(p)) }})
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// wirePair is two key servers that serve, the first one primary, with a member each.
func wirePair(t *testing.T, n *memnet.Network) (a, b *wired) {
	t.Helper()
	testSigner()
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	var all []*wired
	for i, addr := range addrs {
		w := &wired{addr: addr, store: model.NewStore(model.Snapshot{})}
		w.ep = endpointAt(t, n, addr, w.store)
		w.Peers = NewEndpointPeers(w.ep)
		w.s = NewServer(Options{Store: w.store, Events: event.NewBus(), Rand: rand.Reader, Files: &memFiles{crash: func(string) error { return nil }}, Dir: "d", Marks: "run", Machine: "m",
			Push: w.ep, Peers: w, Moment: func() clock.Moment { return clock.Moment{RTC: 1} }})
		w.ep.HandlePull(w.s.HandlePull)
		w.ep.HandlePeerNotify(w.s.HandlePeerNotify)
		x := lifeSetup(time.Hour, unicast(2, 10*time.Second))
		x.Group.Local = &config.LocalServer{Address: addr, RekeyUnicast: true, RekeyAck: config.AckAny}
		x.Coop = &CoopSetup{Self: addr, Priority: uint8(100 - i), Peers: addrs, SIDs: []coop.SIDRange{{Low: uint32(i) * 1000, High: uint32(i)*1000 + 999}}}
		g, err := w.s.Add(x)
		if err != nil {
			t.Fatal(err)
		}
		w.g = g
		ctx, cancel := context.WithCancel(context.Background())
		go g.Run(ctx)
		w.stop = sync.OnceFunc(func() {
			cancel()
			<-g.done
			w.ep.Close()
		})
		all = append(all, w)
	}
	a, b = all[0], all[1]
	meet := func(what string, ok func() bool) {
		t.Helper()
		for range 300 {
			if synctest.Wait(); ok() {
				return
			}
			time.Sleep(time.Second)
		}
		t.Fatalf("%s: never", what)
	}
	meet("both serve", func() bool {
		x, y := a.model().Coop, b.model().Coop
		return x.Role == model.CoopPrimary && y.Role == model.CoopSecondary && x.Gate == model.CoopOpen && y.Gate == model.CoopOpen && !x.Reinit && !y.Reinit
	})
	for i, w := range all {
		(&bench{s: w.s, g: w.g, mid: uint32(1000 * (i + 1))}).register(t, gmAddr(i), ours())
	}
	meet("both list both", func() bool { return a.model().Members.Len() == 2 && b.model().Members.Len() == 2 })
	time.Sleep(time.Minute)
	synctest.Wait()
	return a, b
}

func (w *wired) model() model.KSGroup { return w.store.Load().KeyServers[0] }

// held is all that a key server holds and shows, keys among it, but for counters and what
// only time changes.
type held struct {
	state []byte
	view  coop.View
	shown model.KSGroup
}

func (w *wired) held(t *testing.T) (h held) {
	t.Helper()
	synctest.Wait()
	w.g.do(func() {
		d := w.g.export()
		d.At, d.Pseudotime = time.Time{}, 0
		b, err := d.encode()
		if err != nil {
			t.Error(err)
		}
		h.state = b
		h.view = w.g.coop.m.View()
	})
	h.view.Remaining, h.view.Sequence, h.view.Retries = 0, 0, 0
	for i := range h.view.Peers {
		p := &h.view.Peers[i]
		p.Counters, p.Sequence, p.IKE = coop.PeerCounters{}, 0, false
	}
	h.shown = w.model()
	c := *h.shown.Coop
	c.Next, c.Sequence, c.Retries, c.Peers = time.Time{}, 0, 0, slices.Clone(c.Peers)
	for i := range c.Peers {
		p := &c.Peers[i]
		p.Counters, p.Sequence, p.IKE = model.CoopCounters{}, 0, false
	}
	h.shown.Coop, h.shown.Rejected = &c, nil
	return h
}

func (w *wired) same(t *testing.T, was held, after string) {
	t.Helper()
	is := w.held(t)
	if !bytes.Equal(is.state, was.state) {
		t.Errorf("%s: other state, keys or members", after)
	}
	if !reflect.DeepEqual(is.view, was.view) {
		t.Errorf("%s: %+v became %+v", after, was.view, is.view)
	}
	if !reflect.DeepEqual(is.shown, was.shown) {
		t.Errorf("%s: shown %+v became %+v", after, was.shown, is.shown)
	}
}

// counts are a key server's refusals: at the endpoint, before a group is known, and in the
// group; and what it has taken of its peer.
func (w *wired) counts() (ep, server, group map[string]uint64, peer model.CoopCounters) {
	synctest.Wait()
	ep = map[string]uint64{}
	for r, n := range w.ep.Drops() {
		ep[string(r)] = n
	}
	m := w.store.Load()
	return ep, maps.Clone(m.KSRejected), maps.Clone(w.model().Rejected), w.model().Coop.Peers[0].Counters
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// A captured announcement with any one bit changed, cut anywhere, or sent again is dropped
// at the endpoint, each counted once; itself it is taken, once.
func TestAnnouncementsChangedOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(5)
		a, b := wirePair(t, n)
		defer a.stop()
		defer b.stop()
		var caught []byte
		from, to := netip.AddrPortFrom(a.addr, rekeyPort), netip.AddrPortFrom(b.addr, rekeyPort)
		n.SetTap(func(f, u netip.AddrPort, d []byte) []byte {
			if f == from && u == to && len(d) > 200 && isakmp.ExchangeType(d[18]) == isakmp.Informational && caught == nil {
				caught = bytes.Clone(d)
				return nil
			}
			return d
		})
		for range 60 {
			time.Sleep(time.Second)
			if synctest.Wait(); caught != nil {
				break
			}
		}
		n.SetTap(nil)
		if caught == nil {
			t.Fatal("no announcement in a minute")
		}
		was := b.held(t)
		_, _, _, rcvd := b.counts()
		give := func(d []byte) (dropped uint64) {
			synctest.Wait()
			before := sum(dropsOf(b.ep))
			n.Deliver(from, to, d)
			synctest.Wait()
			return sum(dropsOf(b.ep)) - before
		}
		for i := range len(caught) * 8 {
			d := bytes.Clone(caught)
			d[i/8] ^= 1 << (i % 8)
			if got := give(d); got != 1 {
				t.Errorf("bit %d of octet %d: %d drops counted", i%8, i/8, got)
			}
		}
		for i := range len(caught) {
			d := bytes.Clone(caught[:i])
			got := give(d)
			if i >= 28 { // as if it were whole
				binary.BigEndian.PutUint32(d[24:], uint32(i))
				got += give(d) - 1
			}
			if got != 1 {
				t.Errorf("%d octets: %d drops counted", i, got)
			}
		}
		b.same(t, was, "bits and cuts")
		if _, _, _, now := b.counts(); now != rcvd {
			t.Errorf("counters %+v became %+v", rcvd, now)
		}
		if got := give(caught); got != 0 {
			t.Errorf("the genuine one: %d drops", got)
		}
		_, _, _, now := b.counts()
		if now.AnnRcvd != rcvd.AnnRcvd+1 || now.RcvdDrops != rcvd.RcvdDrops {
			t.Errorf("the genuine one: counters %+v became %+v", rcvd, now)
		}
		for range 3 {
			if got := give(caught); got != 1 || dropsOf(b.ep)[string(ike.DropMIDReused)] == 0 {
				t.Errorf("a copy: %d drops", got)
			}
		}
		if _, _, _, again := b.counts(); again != now {
			t.Errorf("copies: counters %+v became %+v", now, again)
		}
	})
}

func dropsOf(ep *ike.Endpoint) map[string]uint64 {
	out := map[string]uint64{}
	for r, n := range ep.Drops() {
		out[string(r)] = n
	}
	return out
}

// Strangers who pass phase 1, and somebody who has taken a peer's place: what they say is
// refused by reason, also in floods, and changes nothing.
func TestAnnouncementsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(6)
		a, b := wirePair(t, n)
		defer a.stop()
		defer b.stop()
		good := a.last()
		was := b.held(t)
		dial := func(ep *ike.Endpoint) *ike.SA {
			t.Helper()
			sa, err := ep.Connect(t.Context(), netip.AddrPortFrom(b.addr, rekeyPort), ike.ConnectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return sa
		}
		say := func(sa *ike.SA, d []byte) {
			t.Helper()
			if err := sa.Inform(isakmp.NotifyCOOP, d); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		stranger := endpointAt(t, n, netip.MustParseAddr("198.51.100.9"), model.NewStore(model.Snapshot{}))
		defer stranger.Close()
		sa := dial(stranger)
		for range 3 {
			say(sa, good)
		}
		if _, _, got, _ := b.counts(); got[string(coop.Unconfigured)] != 3 {
			t.Errorf("a stranger: %v", got)
		}
		group := bytes.Clone(good)
		group[5] ^= 1
		say(sa, group)
		say(sa, nil)
		if _, got, _, _ := b.counts(); got[string(coop.WrongGroup)] != 1 || got[string(coop.Malformed)] != 1 {
			t.Errorf("another group, nothing: %v", got)
		}
		const flood = 2000
		e0, _, g0, _ := b.counts()
		for range flood {
			if err := sa.Inform(isakmp.NotifyCOOP, good); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		e1, _, g1, _ := b.counts()
		if sum(e1)-sum(e0)+g1[string(coop.Unconfigured)]-g0[string(coop.Unconfigured)] != flood {
			t.Errorf("a flood: %v and %v became %v and %v", e0, g0, e1, g1)
		}
		b.same(t, was, "strangers")

		// Somebody with the peer's address and key.
		a.ep.Close()
		insider := endpointAt(t, n, a.addr, model.NewStore(model.Snapshot{}))
		defer insider.Close()
		sa = dial(insider)
		synctest.Wait()
		head := len(good[:4+1+int(good[4])+16])
		seq := func(d []byte, by uint64) []byte {
			d = bytes.Clone(d)
			binary.BigEndian.PutUint64(d[head-8:], binary.BigEndian.Uint64(good[head-8:])+by)
			return d
		}
		garbage := make([]byte, 65000)
		if _, err := rand.Read(garbage); err != nil {
			t.Fatal(err)
		}
		copy(garbage, seq(good[:head], 1))
		newer := seq(good, 1)
		newer[0] = 9
		for _, c := range []struct {
			name   string
			data   []byte
			reason coop.Reason
		}{
			{"sent again", good, coop.Replayed},
			{"older than the last", seq(good, ^uint64(0)), coop.Replayed},
			{"64 KiB of garbage", garbage, coop.Malformed},
			{"cut", seq(good, 1)[:len(good)-1], coop.Malformed},
			{"more than there is", append(seq(good, 1), 0), coop.Malformed},
			{"another protocol", newer, coop.Incompatible},
		} {
			_, _, before, p0 := b.counts()
			for range 50 {
				say(sa, c.data)
			}
			_, _, got, p1 := b.counts()
			if n := got[string(c.reason)] - before[string(c.reason)]; n != 50 {
				t.Errorf("%s: %d counted as %s: %v", c.name, n, c.reason, got)
			}
			if c.reason != coop.Incompatible && p1.RcvdDrops != p0.RcvdDrops+50 {
				t.Errorf("%s: %d of the peer's messages dropped", c.name, p1.RcvdDrops-p0.RcvdDrops)
			}
			b.same(t, was, c.name)
		}
	})
}

// Keys of a primary that no configuration can bring are refused whole.
func TestKeysThatNobodyShares(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		time.Sleep(time.Minute)
		b := l.ks[1]
		state := func() (d durable) {
			b.in(func(g *Group) {
				blob, _, err := g.shared()
				if err != nil {
					t.Fatal(err)
				}
				if d, err = decodeState(blob.Blob); err != nil {
					t.Fatal(err)
				}
			})
			return d
		}
		whole := func() string {
			d := state()
			d.At, d.Pseudotime = time.Time{}, 0
			b, err := d.encode()
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		was := whole()
		tek := func(d *durable) *durableTEK { return &d.Entries[0].TEKs[0] }
		n := uint64(0)
		for name, change := range map[string]func(d *durable){
			"a TEK for ever":                    func(d *durable) { tek(d).Expires = d.At.AddDate(200, 0, 0) },
			"a TEK's lifetime of a century":     func(d *durable) { tek(d).Lifetime = 100 * 365 * 24 * time.Hour },
			"a TEK's lifetime below nothing":    func(d *durable) { tek(d).Lifetime = -1 },
			"a TEK without a key":               func(d *durable) { tek(d).Key = nil },
			"a TEK with half a key":             func(d *durable) { tek(d).Key = tek(d).Key[:8] },
			"a TEK with a reserved SPI":         func(d *durable) { tek(d).SPI = 9 },
			"a KEK without a key":               func(d *durable) { d.KEKs[0].Key = nil },
			"a KEK for ever":                    func(d *durable) { d.KEKs[0].Expires = d.At.AddDate(200, 0, 0) },
			"a KEK's lifetime of a century":     func(d *durable) { d.KEKs[0].Lifetime = 100 * 365 * 24 * time.Hour },
			"thousands of TEKs":                 func(d *durable) { d.Entries[0].TEKs = slices.Repeat(d.Entries[0].TEKs, 1000) },
			"thousands of ledgers":              func(d *durable) { d.Listed = make([]sharedLedger, 5000) },
			"thousands of generations that end": func(d *durable) { d.Ended = make([]Generation, 5000) },
			"a pseudotime of 200 years":         func(d *durable) { d.Pseudotime = 200 * 365 * 24 * time.Hour },
			"a pseudotime before the beginning": func(d *durable) { d.Pseudotime = -1 },
			"another form of group":             func(d *durable) { d.Form[0]++ },
		} {
			d := state()
			change(&d)
			blob, err := d.encode()
			if err != nil {
				t.Fatal(err)
			}
			n++
			b.in(func(g *Group) {
				if _, err := g.received(blob, 0); err == nil {
					t.Errorf("%s is taken", name)
				}
				if got := g.rejected["coop-keys"]; got != n {
					t.Errorf("%s: %d counted, not %d", name, got, n)
				}
			})
		}
		if whole() != was {
			t.Error("something changed")
		}
		// A count of KEKs at its end isn't taken over.
		d := state()
		for i := range d.KEKs {
			d.KEKs[i].Ord = ^uint32(0) - uint32(len(d.KEKs)-1-i)
		}
		d.Ord = ^uint32(0)
		blob, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		b.in(func(g *Group) {
			if got, err := g.received(blob, 0); err != nil || got.Ord != uint32(len(d.KEKs)) || got.KEKs[0].Ord != 1 {
				t.Errorf("%v, ord %d", err, got.Ord)
			}
		})
	})
}

// A peer that asks to pass on the same datagram to one member thousands of times, or
// something that is no rekey of the group's.
func TestRelayIsNoAmplifier(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		time.Sleep(time.Minute)
		b := l.ks[1]
		l.join(0, b)
		b.in(func(g *Group) {
			was := g.coop.relay
			g.coop.relay = make(chan relayed, 8)
			defer func() { g.coop.relay = was }()
			good := append(slices.Clone(g.ring.kek.spi[:]), make([]byte, 100)...)
			members := slices.Repeat([]netip.Addr{gmAddr(0), gmAddr(7)}, 5000)
			g.relayThis(coop.RelayThis{From: l.ks[0].addr, Datagram: good, Members: members})
			if len(g.coop.relay) != 1 {
				t.Fatalf("%d wait", len(g.coop.relay))
			}
			if x := <-g.coop.relay; len(x.to) != 1 {
				t.Errorf("%d copies", len(x.to))
			}
			for i, d := range [][]byte{nil, good[:15], make([]byte, 100)} {
				g.relayThis(coop.RelayThis{From: l.ks[0].addr, Datagram: d, Members: members})
				if len(g.coop.relay) != 0 || g.rejected["coop-relay-unknown"] != uint64(i+1) {
					t.Errorf("%x: %d wait, %d refused", d, len(g.coop.relay), g.rejected["coop-relay-unknown"])
				}
			}
		})
	})
}

// What is told of a flood is bounded.
func TestFloodsAreToldOfInBounds(t *testing.T) {
	var told telling
	now, n := time.Unix(1e9, 0), 0
	for range 1000 {
		if told.take(now) {
			n++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if n != 20 {
		t.Error(fmt.Sprint(n, " of a thousand in ten seconds"))
	}
	if !told.take(now) {
		t.Error("nothing is told afterwards")
	}
}
