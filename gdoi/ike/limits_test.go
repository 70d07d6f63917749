package ike

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
)

func TestLimiter(t *testing.T) {
	l := newLimiter(10, 4)
	now := time.Unix(1000, 0)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	take := func(a netip.Addr, n int) (ok int) {
		for range n {
			if l.allow(a, now) {
				ok++
			}
		}
		return ok
	}
	if got := take(a, 100); got != 20 {
		t.Errorf("burst %d", got)
	}
	if got := take(b, 5); got != 5 {
		t.Errorf("another source %d", got)
	}
	now = now.Add(time.Second)
	if got := take(a, 100); got != 10 {
		t.Errorf("after a second %d", got)
	}
	p, q := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	if got := take(p, 10) + take(q, 100); got != 20 {
		t.Errorf("one /64: %d", got)
	}
	for i := range 100 { // a full table stays full, not larger
		take(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 3)
	}
	if len(l.m) > 5 {
		t.Errorf("%d entries", len(l.m))
	}
}

func TestRetryWaits(t *testing.T) {
	var r Retry
	r.defaults()
	var got []time.Duration
	for n := 1; n <= 7; n++ {
		got = append(got, r.wait(n)/time.Second)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 16, 16}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v", got)
		}
	}
}

// A new configuration is for the next phase 1; the live SA stays.
func TestSetConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("old"), nil), endpoint(t, n, ks, pskConfig("old"), nil)
		defer g.Close()
		defer k.Close()
		echoKS(t, k)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		k.SetConfig(pskConfig("new"))
		if err := pull(t.Context(), sa); err != nil {
			t.Errorf("live SA: %v", err)
		}
		if _, err := g.Connect(t.Context(), ksPort(), ConnectOptions{Fresh: true}); err == nil {
			t.Error("the old key is still good")
		}
		next, err := g.Connect(t.Context(), ksPort(), ConnectOptions{Fresh: true, Config: pskConfig("new")})
		if err != nil || next == sa {
			t.Errorf("new key: %v", err)
		}
	})
}

// A peer's exchanges under one SA are bounded; what nobody closes ends by itself.
func TestExchangeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g := endpoint(t, n, gm, pskConfig("k"), nil)
		k := endpoint(t, n, ks, pskConfig("k"), func(o *Options) { o.Limits.Exchanges = 3 })
		defer g.Close()
		defer k.Close()
		handled := 0
		k.HandlePull(func(*Exchange, []byte) { handled++ })
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start := func() {
			x := sa.NewExchange(isakmp.GroupKeyPull)
			defer x.Close()
			m, err := pullMsg(x, "m")
			if err != nil {
				t.Fatal(err)
			}
			if err := sa.send(m); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 5 {
			start()
		}
		if handled != 3 || k.Drops()[DropExchangeLimit] != 2 {
			t.Errorf("%d handled; %v", handled, k.Drops())
		}
		time.Sleep(exchangeAge)
		synctest.Wait()
		start()
		if handled != 4 {
			t.Errorf("%d handled after the old ones ended", handled)
		}
	})
}

// Rekeys go to whoever registered their cookie pair, all others are counted.
func TestPushRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		h := isakmp.Header{ICookie: isakmp.Cookie{1}, RCookie: isakmp.Cookie{2}, NextPayload: isakmp.PayloadSEQ, Version: isakmp.Version10,
			Exchange: isakmp.GroupKeyPush, Flags: isakmp.FlagEncrypted, Length: 44}
		msg := append(h.AppendTo(nil), make([]byte, 16)...)
		var got []Datagram
		release := g.HandlePush(h.ICookie, h.RCookie, func(d Datagram) { got = append(got, d) })
		send := func() {
			if err := k.SendPush(msg, netip.MustParseAddr(ks), gmAddr); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		send()
		if len(got) != 1 || !bytes.Equal(got[0].Data, msg) || got[0].Remote != ksPort() || got[0].Local != gmAddr {
			t.Fatalf("%+v", got)
		}
		release()
		send()
		if len(got) != 1 || g.Drops()[DropPush] != 1 {
			t.Errorf("after release: %d, %v", len(got), g.Drops())
		}
	})
}

// An exchange abandoned for want of room starts again with the peer's next copy; once
// answered it can't.
func TestAbandon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		calls := 0
		k.HandlePull(func(x *Exchange, b []byte) {
			if calls++; calls == 1 {
				x.Abandon()
				echoKS(t, k)
			}
		})
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := pull(t.Context(), sa); err != nil || calls != 1 {
			t.Errorf("%v after %d calls; %v", err, calls, k.Drops())
		}
		k.HandlePull(func(x *Exchange, b []byte) {
			calls++
			if _, _, err := x.Decrypt(b); err != nil {
				t.Error(err)
			}
			x.Accept()
			out, err := pullMsg(x, "answer")
			if err != nil {
				t.Error(err)
			}
			if err := x.Send(out); err != nil {
				t.Error(err)
			}
			x.Abandon()
		})
		if err := pull(t.Context(), sa); err == nil || calls != 2 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

// A member that starts anew says INITIAL-CONTACT: the key server drops what the former
// life left, at once.
func TestInitialContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k := endpoint(t, n, ks, pskConfig("k"), nil)
		defer k.Close()
		for range 3 {
			g := endpoint(t, n, gm, pskConfig("k"), nil)
			if _, err := g.Connect(t.Context(), ksPort(), ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if live := k.SAs(netip.Addr{}); len(live) != 1 {
				t.Errorf("%d live SAs", len(live))
			}
			n.Cut(netip.Addr{}, netip.Addr{}) // the machine dies without a word
			g.Close()
			n.HealAll()
		}
	})
}

// Many members at once: each gets its SA and its exchange through.
func TestManyMembersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const members = 150
		n := memnet.New(3)
		n.SetAll(memnet.Link{Loss: 0.02, Jitter: 50 * time.Millisecond})
		k := endpoint(t, n, ks, pskConfig("k"), nil)
		defer k.Close()
		echoKS(t, k)
		var wg sync.WaitGroup
		for i := range members {
			wg.Go(func() {
				g := endpoint(t, n, netip.AddrFrom4([4]byte{172, 16, 20, byte(i)}).String(), pskConfig("k"), nil)
				defer g.Close()
				sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
				if err != nil {
					t.Errorf("member %d: %v", i, err)
					return
				}
				if err := pull(t.Context(), sa); err != nil {
					t.Errorf("member %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(2 * time.Minute)
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.firsts)+len(k.half)+len(k.halfSource)+k.unproved.Len() != 0 {
			t.Errorf("half-open states are left: %d", len(k.firsts))
		}
	})
}
