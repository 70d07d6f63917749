package ike

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
)

// What somebody on the path, an insider or a flood can try.

// Octets behind the payload chain are covered by no HASH but move the IV: appended ones
// are refused, and the genuine message still works. Padding as RFC 2409 §5 has it passes.
func TestOctetsBehindTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		echoKS(t, k)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		forged := 0
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
			if isakmp.ExchangeType(b[18]) == isakmp.GroupKeyPull {
				long := append(bytes.Clone(b), make([]byte, 16)...)
				binary.BigEndian.PutUint32(long[24:], uint32(len(long)))
				n.Deliver(from, to, long)
				forged++
			}
			return b
		})
		if err := pull(t.Context(), sa); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := k.Drops()[DropTrailing] + g.Drops()[DropTrailing]; forged < 4 || got != uint64(forged) {
			t.Errorf("%d of %d refused: %v %v", got, forged, k.Drops(), g.Drops())
		}
	})
}

func TestPlausiblePadding(t *testing.T) {
	block := func(last byte) []byte { return append(make([]byte, 15), last) }
	for i, c := range []struct {
		pad  []byte
		want bool
	}{
		{nil, true}, {[]byte{1, 2, 3}, true}, {block(15), true}, {block(16), true}, {block(0), true}, {block(7), false},
		{append([]byte{1}, block(15)[1:]...), false}, {make([]byte, 17), false}, {make([]byte, 32), false},
	} {
		if plausiblePadding(c.pad, 16) != c.want {
			t.Errorf("case %d: %v", i, !c.want)
		}
	}
}

// A recorded last message from a forged source gets its answer sent to the peer, not
// to the source: the answer with the keys is many times larger.
func TestRecordedMessageIsNoReflector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		echoKS(t, k)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		victim := netip.MustParseAddrPort("192.0.2.66:7")
		var last []byte
		reflected, again := 0, 0
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
			switch {
			case to == victim:
				reflected++
			case from == ksPort():
				again++
			case to == ksPort() && from != victim && isakmp.ExchangeType(b[18]) == isakmp.GroupKeyPull:
				last = bytes.Clone(b)
			}
			return b
		})
		if err := pull(t.Context(), sa); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := again
		for range 5 {
			n.Send(victim, ksPort(), last)
		}
		synctest.Wait()
		n.SetTap(nil)
		if reflected != 0 || again != before+5 {
			t.Errorf("%d answers went to the victim, %d to the peer", reflected, again-before)
		}
	})
}

// An evicted half-open exchange leaves nothing behind: no timer that keeps its memory,
// no message that is sent again.
func TestEvictedExchangesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k := endpoint(t, n, ks, pskConfig("k"), func(o *Options) { o.Limits.HalfOpen = 4 })
		defer k.Close()
		_, msg, err := NewInitiator(Params{Config: pskConfig("k"), Local: gmAddr, Remote: ksAddr}, &counterReader{})
		if err != nil {
			t.Fatal(err)
		}
		var first *session
		for i := range 5 {
			b := bytes.Clone(msg)
			b[0] = byte(i + 1)
			n.Send(netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, 3, byte(i)}), 848), ksPort(), b)
			synctest.Wait()
			if i == 0 {
				k.mu.Lock()
				first = k.unproved.Front().Value.(*session)
				k.mu.Unlock()
			}
		}
		if k.Drops()[DropEvicted] != 1 {
			t.Fatalf("%v", k.Drops())
		}
		first.mu.Lock()
		defer first.mu.Unlock()
		if first.timer == nil || first.timer.Stop() {
			t.Error("the timer of an evicted exchange runs on")
		}
	})
}

// Events of forged sources can't silence other kinds, and a full table costs no search
// at each packet.
func TestEventGateUnderAFlood(t *testing.T) {
	var g gate
	now := time.Unix(1000, 0)
	passed := 0
	for i := range 3 * gateMax {
		if g.pass("NO_PSK", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now) {
			passed++
		}
	}
	if passed != gateMax+1 {
		t.Errorf("%d events of the flood", passed)
	}
	peer := netip.MustParseAddr("192.0.2.9")
	if !g.pass("AUTH_FAILED", peer, now) {
		t.Error("another kind is silenced")
	}
	if n := len(g.last); n > gateMax+8 {
		t.Errorf("%d entries", n)
	}
	if n := g.pruned; n > 2 {
		t.Errorf("%d searches of the table within one instant", n)
	}
}

// An authenticated peer's finished exchanges keep their last answers for a while: so
// many and no more.
func TestFinishedExchangesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g := endpoint(t, n, gm, pskConfig("k"), nil)
		k := endpoint(t, n, ks, pskConfig("k"), func(o *Options) { o.Limits.Exchanges = 2 })
		defer g.Close()
		defer k.Close()
		echoKS(t, k)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 * lingering {
			if err := pull(t.Context(), sa); err != nil {
				t.Fatal(i, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := pull(ctx, sa); err == nil || k.Drops()[DropExchangeLimit] == 0 {
			t.Errorf("one more: %v, %v", err, k.Drops())
		}
		time.Sleep(2 * lingerAnswer)
		if err := pull(t.Context(), sa); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// Who shares the key can call itself anything: the SAs of one address are bounded too.
func TestSAsOfOneAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k := endpoint(t, n, ks, pskConfig("k"), func(o *Options) { o.Limits.SAsPerAddress = 5 })
		g := endpoint(t, n, gm, pskConfig("k"), nil)
		other := endpoint(t, n, "172.16.1.3", pskConfig("k"), nil)
		defer k.Close()
		defer g.Close()
		defer other.Close()
		if _, err := other.Connect(t.Context(), ksPort(), ConnectOptions{}); err != nil {
			t.Fatal(err)
		}
		n.SetTap(func(from, _ netip.AddrPort, b []byte) []byte { // it never deletes what it replaced
			if from.Addr().String() == gm && isakmp.ExchangeType(b[18]) == isakmp.Informational {
				return nil
			}
			return b
		})
		for i := range 12 {
			c := pskConfig("k")
			c.Identity = Identity{isakmp.IDFQDN, fmt.Sprintf("m%d.example", i)}
			if _, err := g.Connect(t.Context(), ksPort(), ConnectOptions{Fresh: true, Config: c}); err != nil {
				t.Fatal(i, err)
			}
			synctest.Wait()
		}
		if a, b := len(k.SAs(netip.MustParseAddr(gm))), len(k.SAs(netip.MustParseAddr("172.16.1.3"))); a != 5 || b != 1 {
			t.Errorf("%d and %d live SAs", a, b)
		}
	})
}

// 2000 payloads of four octets in one datagram: one drop by reason, and the key server
// goes on serving.
func Test_wire_02_TwoThousandPayloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		h := isakmp.Header{ICookie: isakmp.Cookie{1}, NextPayload: isakmp.PayloadVendorID, Version: isakmp.Version10,
			Exchange: isakmp.MainMode, Length: 28 + 8000}
		b := h.AppendTo(nil)
		for range 2000 {
			b = append(b, byte(isakmp.PayloadVendorID), 0, 0, 4)
		}
		n.Send(netip.MustParseAddrPort("192.0.2.9:848"), ksPort(), b)
		synctest.Wait()
		d := k.Drops()
		if d["too-many-payloads"] != 1 || len(d) != 1 {
			t.Errorf("%v", d)
		}
		k.mu.Lock()
		left := len(k.firsts) + len(k.half) + len(k.halfSource) + k.unproved.Len()
		k.mu.Unlock()
		if left != 0 {
			t.Errorf("%d table entries left", left)
		}
		if _, err := g.Connect(t.Context(), ksPort(), ConnectOptions{}); err != nil {
			t.Error(err)
		}
	})
}
