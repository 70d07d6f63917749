package ike

// What an endpoint refuses: damaged headers, floods, replays, broken messages.

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model/event"
)

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
