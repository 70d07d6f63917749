package ike

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model"
	"getvpn/model/event"
)

const gm, ks = "172.16.1.2", "172.16.8.2"

// recorder keeps emitted events.
type recorder struct {
	mu  sync.Mutex
	all []event.Event
}

func (r *recorder) Emit(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
}

func count[T event.Event](r *recorder) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if _, ok := e.(T); ok {
			n++
		}
	}
	return n
}

// echoKS answers each PULL message: HASH(2) for the first, then HASH(4), as a key
// server's exchange would, and closes.
func echoKS(t testing.TB, e *Endpoint) {
	first := map[*Exchange]bool{}
	var mu sync.Mutex
	e.HandlePull(func(x *Exchange, b []byte) {
		ps, raw, err := x.Decrypt(b)
		if err != nil {
			return
		}
		if !bytes.Equal(ps[0].Body, x.Hash(raw)) {
			return
		}
		x.Accept()
		out, err := pullMsg(x, "answer to "+string(ps[1].Body))
		if err != nil {
			t.Error(err)
			return
		}
		if err := x.Send(out); err != nil && !errors.Is(err, Closed) {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if first[x] {
			delete(first, x)
			x.Close()
			return
		}
		first[x] = true
	})
}

// pullMsg is HASH(prf(SKEYID_a, M-ID | rest)), NONCE.
func pullMsg(x *Exchange, text string) ([]byte, error) {
	rest := []isakmp.Payload{isakmp.NoncePayload([]byte(text))}
	chain, err := isakmp.AppendChain(nil, rest)
	if err != nil {
		return nil, err
	}
	return x.Encrypt(isakmp.GroupKeyPull, append([]isakmp.Payload{isakmp.HashPayload(x.Hash(chain))}, rest...))
}

// pull runs an exchange of two round trips.
func pull(ctx context.Context, sa *SA) error {
	x := sa.NewExchange(isakmp.GroupKeyPull)
	defer x.Close()
	for _, text := range []string{"first message", "third message"} {
		out, err := pullMsg(x, text)
		if err != nil {
			return err
		}
		_, err = x.RoundTrip(ctx, out, func(reply []byte) error {
			ps, raw, err := x.Decrypt(reply)
			if err != nil {
				return err
			}
			if !bytes.Equal(ps[0].Body, x.Hash(raw)) {
				return errors.New("hash")
			}
			if got := string(ps[1].Body); got != "answer to "+text {
				return fmt.Errorf("answer %q", got)
			}
			x.Accept()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func ksPort() netip.AddrPort { return netip.MustParseAddrPort(ks + ":848") }

func TestConnectAndPullOverABadNetwork(t *testing.T) {
	for seed := range uint64(12) {
		for _, aggressive := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New(seed)
				n.SetAll(memnet.Link{Loss: 0.15, Duplicate: 0.2, Jitter: 300 * time.Millisecond})
				c := *pskConfig("s3cret")
				c.Aggressive = true
				g := endpoint(t, n, gm, &c, nil)
				k := endpoint(t, n, ks, &c, nil)
				echoKS(t, k)
				ctx := t.Context()
				var done int
				for i := range 6 {
					sa, err := g.Connect(ctx, ksPort(), ConnectOptions{Aggressive: aggressive, Fresh: i%3 == 0})
					if err != nil {
						t.Logf("seed %d: %v", seed, err)
						continue
					}
					if err := pull(ctx, sa); err != nil {
						t.Logf("seed %d: %v; gm %v ks %v", seed, err, g.Drops(), k.Drops())
						continue
					}
					done++
				}
				if done < 5 { // 15 % loss, 5 transmissions: a failure is one in thousands
					t.Errorf("seed %d aggressive %v: %d of 6 exchanges; gm %v ks %v", seed, aggressive, done, g.Drops(), k.Drops())
				}
				g.Close()
				k.Close()
			})
		}
	}
}

func TestConnectReusesAndShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		n.SetAll(memnet.Link{Jitter: 10 * time.Millisecond})
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		var wg sync.WaitGroup
		ids := make([]uint32, 8)
		for i := range ids {
			wg.Go(func() {
				sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = sa.ID()
			})
		}
		wg.Wait()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if id != sa.ID() || id != firstConnID {
				t.Errorf("SAs %v, then %d", ids, sa.ID())
			}
		}
		if p := sa.Peer(); p.Remote != ksPort() || p.Local != netip.MustParseAddrPort(gm+":848") || p.Identity.String() != ks || p.NATT {
			t.Errorf("peer %+v", p)
		}
	})
}

// The key server restarts: the member's SA is dead, which Connect finds out by DPD.
func TestConnectFindsADeadSA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		old, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Cut(netip.MustParseAddr(gm), netip.MustParseAddr(ks)) // its delete is lost
		k.Close()
		n.HealAll()
		k = endpoint(t, n, ks, pskConfig("k"), nil)
		defer k.Close()
		time.Sleep(time.Minute)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if sa == old || old.Alive() {
			t.Error("the dead SA is in use")
		}
	})
}

func TestPeriodicDPD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		c := pskConfig("k")
		c.Keepalive = Keepalive{Interval: 10 * time.Second, Retry: 2 * time.Second}
		g, k := endpoint(t, n, gm, c, nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !sa.Alive() {
			t.Fatalf("a living peer was taken for dead; gm %v ks %v", g.Drops(), k.Drops())
		}
		n.Cut(netip.Addr{}, netip.Addr{})
		start := time.Now()
		<-sa.Done()
		if d := time.Since(start); d < 15*time.Second || d > 25*time.Second {
			t.Errorf("dead after %v", d)
		}
	})
}

func TestLifetimeAndDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		c := pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA1, Group: 19, Lifetime: 300 * time.Second})
		g, k := endpoint(t, n, gm, pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA1, Group: 19}), nil), endpoint(t, n, ks, c, nil)
		defer g.Close()
		defer k.Close()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		<-sa.Done() // by the key server's delete: its lifetime is the shorter one
		if d := time.Since(start); d != 300*time.Second {
			t.Errorf("ended after %v", d)
		}
		sa, err = g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		theirs := k.SAs(netip.Addr{})
		sa.Close()
		synctest.Wait()
		if len(theirs) != 1 || theirs[0].Alive() || len(k.SAs(netip.Addr{})) != 0 {
			t.Error("the delete had no effect")
		}
	})
}

// A member that knows a wrong key: both sides say so and name the other, neither prints
// the key, transmissions follow the count, events stay bounded, the next server is next.
func Test_ike_01_WrongLastCharacter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		var gmEv, ksEv recorder
		g := endpoint(t, n, gm, pskConfig("s3cret-keY"), func(o *Options) { o.Events = &gmEv })
		defer g.Close()
		servers := []string{"172.16.8.2", "172.16.9.2", "172.16.10.2"}
		for _, a := range servers {
			k := endpoint(t, n, a, pskConfig("s3cret-key"), func(o *Options) { o.Events = &ksEv })
			defer k.Close()
		}
		deadline := time.Now().Add(5 * time.Minute)
		sent := map[string]int{}
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
			if from.Addr().String() == gm && b[19] == byte(isakmp.FlagEncrypted) {
				sent[to.Addr().String()]++
			}
			return b
		})
		attempts := 0
		for time.Now().Before(deadline) {
			for _, a := range servers {
				_, err := g.Connect(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(a), 848), ConnectOptions{})
				attempts++
				var ce *ConnectError
				if !errors.As(err, &ce) || !errors.Is(err, AuthFailed) || ce.Tries != 5 || ce.Peer.Addr().String() != a {
					t.Fatalf("%v", err)
				}
				if strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), a) {
					t.Errorf("message %q", err)
				}
			}
		}
		n.SetTap(nil)
		total := 0
		for _, c := range sent {
			total += c
		}
		if total != 5*attempts {
			t.Errorf("%d transmissions of message 5 in %d attempts, want 5 each", total, attempts)
		}
		if c := count[event.IKEAuthFailed](&gmEv); c == 0 || c > attempts {
			t.Errorf("member: %d events in %d attempts", c, attempts)
		}
		if c := count[event.IKEAuthFailed](&ksEv); c < 3 || c > 3*(1+5*60/30) {
			t.Errorf("key servers: %d events", c)
		}
		for _, r := range []*recorder{&gmEv, &ksEv} {
			for _, e := range r.all {
				if s := fmt.Sprintf("%+v", e); strings.Contains(s, "s3cret") {
					t.Errorf("event prints the key: %s", s)
				}
			}
		}
	})
}

// 200 new phase 1s of one member leave two live SAs, and nothing after the lifetime.
func Test_ike_02_TwoLiveSAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		c := pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA256, Group: 19, Lifetime: 300 * time.Second})
		g := endpoint(t, n, gm, c, nil)
		k := endpoint(t, n, ks, c, nil)
		echoKS(t, k)
		for i := range 200 {
			sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{Fresh: true})
			if err != nil {
				t.Fatal(i, err)
			}
			if err := pull(t.Context(), sa); err != nil {
				t.Fatal(i, err)
			}
			synctest.Wait()
			if live := len(k.SAs(netip.MustParseAddr(gm))); live > maxPerPeer {
				t.Fatalf("%d live SAs after %d", live, i+1)
			}
			time.Sleep(3 * time.Second)
		}
		time.Sleep(400 * time.Second)
		synctest.Wait()
		k.mu.Lock()
		left := len(k.sas) + len(k.byPeer) + len(k.byAddr) + len(k.half) + len(k.firsts) + len(k.halfSource) + k.unproved.Len()
		k.mu.Unlock()
		if left != 0 {
			t.Errorf("%d table entries left", left)
		}
		g.Close()
		k.Close()
	})
}

func Test_wire_03_Headers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k := endpoint(t, n, ks, pskConfig("k"), nil)
		defer k.Close()
		h := func(edit func(*isakmp.Header)) []byte {
			h := isakmp.Header{ICookie: isakmp.Cookie{1}, RCookie: isakmp.Cookie{2}, Version: isakmp.Version10,
				Exchange: isakmp.MainMode, Length: 28}
			edit(&h)
			return h.AppendTo(nil)
		}
		answers := 0
		n.SetTap(func(from, _ netip.AddrPort, b []byte) []byte {
			if from == ksPort() {
				answers++
			}
			return b
		})
		for _, v := range []struct {
			data   []byte
			reason string
		}{
			{nil, "empty-datagram"},
			{[]byte{1}, "single-octet"},
			{make([]byte, 27), "short-datagram"},
			{h(func(*isakmp.Header) {}), "no-payloads"},
			{h(func(h *isakmp.Header) { h.Length = 27 }), "length-below-header"},
			{h(func(h *isakmp.Header) { h.Length = 29 }), "length-beyond-datagram"},
			{h(func(h *isakmp.Header) { h.Length = 1 << 31 }), "length-too-large"},
			{h(func(h *isakmp.Header) { h.Version = 0x20 }), "bad-version"},
			{append(h(func(h *isakmp.Header) { h.Length = 32 }), 1, 2, 3, 4), "trailing-octets"},
			{append(h(func(h *isakmp.Header) { h.Length = 32; h.NextPayload = isakmp.PayloadHash }), 0, 0, 0, 4), "unknown-cookie"},
		} {
			before := k.Drops()
			for range 50 {
				n.Send(netip.MustParseAddrPort("192.0.2.9:848"), ksPort(), v.data)
			}
			synctest.Wait()
			after := k.Drops()
			for r, c := range after {
				want := uint64(0)
				if string(r) == v.reason {
					want = 50
				}
				if c-before[r] != want {
					t.Errorf("%s: %s rose by %d", v.reason, r, c-before[r])
				}
			}
			if after[DropReason(v.reason)] == 0 {
				t.Errorf("%s isn't counted: %v", v.reason, after)
			}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if answers != 0 || len(k.firsts)+len(k.half)+len(k.sas) != 0 {
			t.Errorf("%d answers, %d states", answers, len(k.firsts)+len(k.half)+len(k.sas))
		}
	})
}

// A flood of first messages from forged addresses: bounded states, no Diffie-Hellman, a
// genuine member gets through.
func TestFloodOfFirstMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k := endpoint(t, n, ks, pskConfig("k"), func(o *Options) { o.Limits.HalfOpen = 64 })
		g := endpoint(t, n, gm, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		_, msg, err := NewInitiator(Params{Config: pskConfig("k"), Local: gmAddr, Remote: ksAddr}, &counterReader{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			b := bytes.Clone(msg)
			b[0], b[1] = byte(i), byte(i>>8)|0x80
			src := netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})
			n.Send(netip.AddrPortFrom(src, 848), ksPort(), b)
			if i%50 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		k.mu.Lock()
		if len(k.firsts) > 64 || len(k.half) > 64 {
			t.Errorf("%d half-open states", len(k.firsts))
		}
		k.mu.Unlock()
		if k.Drops()[DropEvicted] == 0 {
			t.Error("no eviction was counted")
		}
		if _, err := g.Connect(t.Context(), ksPort(), ConnectOptions{}); err != nil {
			t.Errorf("genuine member: %v; %v", err, k.Drops())
		}
		// One source alone hits its own limit.
		before := k.Drops()[DropRateLimit]
		for i := range 200 {
			b := bytes.Clone(msg)
			b[0], b[1], b[2] = byte(i), 7, 7
			n.Send(netip.MustParseAddrPort("172.16.200.1:848"), ksPort(), b)
		}
		synctest.Wait()
		if k.Drops()[DropRateLimit] == before {
			t.Error("no rate limit for one source")
		}
	})
}

// counterReader is a deterministic random source for messages that are only copied.
type counterReader struct{ n byte }

func (c *counterReader) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

func TestNATTraversal(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := memnet.New(1)
			c := *pskConfig("k")
			c.Aggressive = true
			g, k := endpoint(t, n, gm, &c, nil), endpoint(t, n, ks, &c, nil)
			defer g.Close()
			defer k.Close()
			echoKS(t, k)
			// A NAT: what the member sends comes from another address and port.
			outside := netip.MustParseAddr("172.16.99.1")
			keepalives := 0
			n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
				switch {
				case from.Addr().String() == gm:
					if len(b) == 1 {
						keepalives++
					}
					n.Deliver(netip.AddrPortFrom(outside, from.Port()+10000), to, b)
					return nil
				case to.Addr() == outside:
					n.Deliver(from, netip.AddrPortFrom(netip.MustParseAddr(gm), to.Port()-10000), b)
					return nil
				}
				return b
			})
			sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{Aggressive: aggressive})
			if err != nil {
				t.Fatal(err, g.Drops(), k.Drops())
			}
			if err := pull(t.Context(), sa); err != nil {
				t.Fatal(err, g.Drops(), k.Drops())
			}
			if p := sa.Peer(); !p.NATT || p.Remote.Port() != 4500 || p.Local.Port() != 4500 {
				t.Errorf("member's path %+v", p)
			}
			p := k.SAs(netip.Addr{})[0].Peer()
			if !p.NATT || p.Remote != netip.AddrPortFrom(outside, 14500) || p.Identity.String() != gm {
				t.Errorf("key server's path %+v", p)
			}
			again, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
			if err != nil || again != sa {
				t.Errorf("not reused: %v", err)
			}
			time.Sleep(time.Minute)
			n.SetTap(nil)
			if keepalives < 2 {
				t.Errorf("%d keepalives in a minute", keepalives)
			}
		})
	}
}

// Copies of everything, later: nothing moves, copies are counted, an old PULL message
// gets its old answer while the exchange lingers, and none under another message ID.
func TestReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		echoKS(t, k)
		rec := n.Record()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := pull(t.Context(), sa); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		record := rec.Stop()
		handled := 0
		k.HandlePull(func(*Exchange, []byte) { handled++ })
		for range 3 {
			for _, m := range record {
				n.Send(m.Remote, m.Local, m.Data)
				synctest.Wait()
			}
		}
		if handled != 0 {
			t.Errorf("%d copies reached the handler", handled)
		}
		if k.Drops()[DropDuplicate] == 0 || k.Drops()[DropMIDReused] == 0 {
			t.Errorf("not counted: %v", k.Drops())
		}
		echoKS(t, k)
		if err := pull(t.Context(), sa); err != nil {
			t.Errorf("the SA doesn't work any more: %v", err)
		}
		time.Sleep(3 * time.Minute) // answers are forgotten, message IDs aren't
		k.HandlePull(func(*Exchange, []byte) { handled++ })
		for _, m := range record {
			n.Send(m.Remote, m.Local, m.Data)
		}
		synctest.Wait()
		if handled != 0 {
			t.Errorf("a message ID was used again")
		}
	})
}

// Flipped bits in PULL and informational messages are refused and counted; the genuine
// message afterwards is taken.
func TestDamagedPhase2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		var ev recorder
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), func(o *Options) { o.Events = &ev })
		defer g.Close()
		defer k.Close()
		echoKS(t, k)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		step := 0
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte { // damaged copies go before each message
			step += 7
			for bit := step % 13; bit < len(b)*8; bit += 13 {
				d := bytes.Clone(b)
				d[bit/8] ^= 1 << (bit % 8)
				n.Deliver(from, to, d)
			}
			for cut := range len(b) {
				if cut%9 == 0 {
					d := bytes.Clone(b[:cut])
					if cut%2 == 0 && cut > isakmp.HeaderLen {
						copy(d[24:], be32(uint32(cut))) // with a header that says so
					}
					n.Deliver(from, to, d)
				}
			}
			return b
		})
		for range 20 {
			if err := pull(t.Context(), sa); err != nil {
				t.Fatal(err, g.Drops(), k.Drops())
			}
		}
		if !sa.Probe(t.Context(), 1, time.Second) {
			t.Error("the probe got no answer")
		}
		if d := k.Drops(); d[DropHash] == 0 || d[DropCiphertext] == 0 || d[DropDecrypt] == 0 {
			t.Errorf("counters %v", d)
		}
		if c := count[event.KSHashFail](&ev); c != 1 {
			t.Errorf("%d hash events", c)
		}
	})
}

func TestNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		got := make(chan isakmp.Notify, 1)
		g.HandleNotify(func(s *SA, n isakmp.Notify) { got <- n })
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := k.SAs(netip.Addr{})[0].Notify(isakmp.NotifyInvalidID, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if r := <-got; r.Type != isakmp.NotifyInvalidID || string(r.Data) != "x" || !sa.names(r.SPI) {
			t.Errorf("%+v", r)
		}
		// Unprotected ones never act, whoever they claim to be from.
		ci, cr := sa.Cookies()
		del := isakmp.Delete{DOI: 1, Protocol: 1, SPIs: [][]byte{sa.cookiesSPI()}}
		b, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: ci, RCookie: cr, Exchange: isakmp.Informational, MessageID: 5}, []isakmp.Payload{del.Payload()})
		if err != nil {
			t.Fatal(err)
		}
		n.Send(ksPort(), netip.MustParseAddrPort(gm+":848"), b)
		synctest.Wait()
		if !sa.Alive() || g.Drops()[DropUnprotected] != 1 {
			t.Errorf("alive %v, drops %v", sa.Alive(), g.Drops())
		}
	})
}

func TestConnectFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		var gmEv, ksEv recorder
		g := endpoint(t, n, gm, pskConfig("k"), func(o *Options) { o.Events = &gmEv })
		k := endpoint(t, n, ks, pskConfig("k", Policy{Encr: Encr3DES, Hash: HashSHA1, Group: 2}), func(o *Options) { o.Events = &ksEv })
		defer g.Close()
		defer k.Close()
		start := time.Now()
		_, err := g.Connect(t.Context(), netip.MustParseAddrPort("172.16.66.6:848"), ConnectOptions{})
		if !errors.Is(err, NoResponse) || time.Since(start) != 31*time.Second || count[event.IKENoResponse](&gmEv) != 1 {
			t.Errorf("no such peer: %v after %v", err, time.Since(start))
		}
		_, err = g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if !errors.Is(err, NoProposal) || count[event.IKENoPolicy](&gmEv) != 1 || count[event.IKENoPolicy](&ksEv) != 1 {
			t.Errorf("no common policy: %v; %v", err, k.Drops())
		}
		_, err = g.Connect(t.Context(), netip.MustParseAddrPort("192.0.2.1:848"), ConnectOptions{})
		if !errors.Is(err, NoPSK) || count[event.IKENoPSK](&gmEv) != 1 {
			t.Errorf("no key: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err = g.Connect(ctx, ksPort(), ConnectOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled: %v", err)
		}
		synctest.Wait()
		g.mu.Lock()
		if len(g.starting)+len(g.connecting) != 0 {
			t.Error("states are left")
		}
		g.mu.Unlock()
	})
}

func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		st := model.NewStore(model.Snapshot{})
		g := endpoint(t, n, gm, pskConfig("k"), func(o *Options) { o.Store = st })
		k := endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(publishEvery)
		synctest.Wait()
		rows := st.Load().IKE.SAs
		if len(rows) != 1 {
			t.Fatalf("%d rows", len(rows))
		}
		r := rows[0]
		if r.ID != sa.ID() || r.State != "GDOI_IDLE" || !r.Initiator || r.Encr != "aes" || r.Hash != "sha256" || r.Auth != "psk" ||
			r.DHGroup != 19 || !r.DPD || r.NATT || r.Remote != ksPort() || r.Expires.Sub(r.Established) != DefaultLifetime {
			t.Errorf("%+v", r)
		}
		gen := st.Load().Generation
		for range 1000 {
			n.Send(ksPort(), netip.MustParseAddrPort(gm+":848"), []byte("x"))
		}
		synctest.Wait()
		time.Sleep(2 * publishEvery)
		synctest.Wait()
		s := st.Load()
		if s.IKE.Drops["single-octet"] != 1000 || s.Generation > gen+3 {
			t.Errorf("drops %v, %d publications", s.IKE.Drops, s.Generation-gen)
		}
	})
}

func FuzzEndpointDatagram(f *testing.F) {
	pi, pr := params(pskConfig("k"), true, false)
	_, _, msgs, err := run(f, pi, pr)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range msgs {
		f.Add(m)
		f.Add(append(make([]byte, 4), m...))
	}
	n := memnet.New(1)
	k := endpoint(f, n, ks, pskConfig("k"), nil)
	f.Cleanup(func() { k.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range k.conns {
			k.receive(c, Datagram{Data: b, Remote: gmAddr, Local: c.LocalAddr()})
		}
		if len(k.SAs(netip.Addr{})) != 0 {
			t.Error("an SA without a key")
		}
	})
}

// tired tells whether half of the SA's message IDs are used.
func tired(s *SA) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used) > maxMIDs/2
}

// An authenticated peer may send what it likes in an informational exchange: the
// endpoint takes it or counts it.
func FuzzAuthenticatedPeer(f *testing.F) {
	n := memnet.New(1)
	g, k := endpoint(f, n, gm, pskConfig("k"), nil), endpoint(f, n, ks, pskConfig("k"), nil)
	f.Cleanup(func() { g.Close(); k.Close() })
	sa, err := g.Connect(f.Context(), ksPort(), ConnectOptions{})
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []isakmp.Payload{
		isakmp.Notify{DOI: 1, Protocol: 1, SPI: sa.cookiesSPI(), Type: isakmp.NotifyRUThere, Data: []byte{0, 0, 0, 1}}.Payload(),
		isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.NotifyInvalidID, Data: []byte("data")}.Payload(),
		isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.NotifyCOOP, Data: []byte("data")}.Payload(),
		isakmp.Delete{DOI: 1, Protocol: 1, SPIs: [][]byte{make([]byte, 16), make([]byte, 16)}}.Payload(),
	} {
		chain, err := isakmp.AppendChain(nil, []isakmp.Payload{p})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(p.Type), chain, false)
		f.Add(uint8(p.Type), chain, true)
	}
	k.HandlePull(func(x *Exchange, b []byte) { x.Close() })
	f.Fuzz(func(t *testing.T, first uint8, rest []byte, asPull bool) {
		if len(rest) > 8000 {
			return
		}
		if !sa.Alive() || len(k.SAs(netip.Addr{})) == 0 || tired(sa) {
			if sa, err = g.Connect(t.Context(), ksPort(), ConnectOptions{Fresh: true}); err != nil {
				t.Fatal(err)
			}
		}
		mid, err := sa.newMID()
		if err != nil {
			t.Fatal(err)
		}
		hash := sa.prot.hash(mid, rest)
		body := append([]byte{first, 0, 0, byte(isakmp.GenericLen + len(hash))}, hash...)
		ct, _ := seal(sa.prot.block, sa.prot.iv(mid), append(body, rest...), 0)
		h := isakmp.Header{ICookie: sa.prot.ci, RCookie: sa.prot.cr, NextPayload: isakmp.PayloadHash, Version: isakmp.Version10,
			Exchange: isakmp.Informational, Flags: isakmp.FlagEncrypted, MessageID: mid, Length: uint32(isakmp.HeaderLen + len(ct))}
		if asPull {
			h.Exchange = isakmp.GroupKeyPull
		}
		k.receive(k.conns[0], Datagram{Data: append(h.AppendTo(nil), ct...), Remote: gmAddr, Local: ksPort()})
	})
}
