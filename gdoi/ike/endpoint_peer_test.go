package ike

// What an endpoint tells of its peers and of itself, and fuzzing of both kinds of peers.

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model"
	"getvpn/model/event"
)

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
