package gdoi

import (
	mrand "math/rand/v2"
	"reflect"
	"testing"

	"getvpn/gdoi/isakmp"
)

func FuzzGDOISA(f *testing.F) {
	sa, _ := sample()
	for _, d := range []Dialect{{}, {WideIDs: true}, {LongReserved: true}} {
		f.Add(mustSA(f, sa, d))
	}
	for seed := range uint64(20) {
		f.Add(mustSA(f, newGen(seed).sa(), Dialect{}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSA(b, Dialect{})
		if err != nil {
			if formOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		p, err := s.Payload(Dialect{})
		if err != nil {
			// TV numbers become TLV: a payload at the limit may outgrow it.
			if len(b) < 60000 {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseSA(p.Body, Dialect{})
		if err != nil || !reflect.DeepEqual(normal(s), normal(again)) {
			t.Fatalf("%v\n%+v\n%+v", err, s, again)
		}
		s.Counter()
		CheckSA(s)
		s.StripPrivate()
		if err := s.OnlyRFC(); err != nil {
			t.Fatal(err)
		}
	})
}

// normal makes equal what means the same: no data and data of no octets.
func normal(s *SA) *SA {
	for i := range s.SATs {
		t := &s.SATs[i]
		if len(t.Src.Data) == 0 {
			t.Src.Data = nil
		}
	}
	if s.SAK != nil && len(s.SAK.Src.Data) == 0 {
		s.SAK.Src.Data = nil
	}
	return s
}

func FuzzKD(f *testing.F) {
	_, kd := sample()
	f.Add(kd.Payload().Body)
	for seed := range uint64(20) {
		f.Add(newGen(seed).kd().Payload().Body)
	}
	sa, _ := sample()
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKD(b, Dialect{})
		if err != nil {
			if formOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseKD(k.Payload().Body, Dialect{})
		if err != nil || !reflect.DeepEqual(k, again) {
			t.Fatalf("%v\n%#v\n%#v", err, k, again)
		}
		Match(sa, k, true)
		k.Zero()
	})
}

func FuzzGAP(f *testing.F) {
	sa, _ := sample()
	f.Add(sa.GAP.body())
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ParseGAP(b, Dialect{})
		if err != nil {
			if formOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseGAP(g.body(), Dialect{})
		if err != nil || !reflect.DeepEqual(g, again) {
			t.Fatalf("%v\n%+v\n%+v", err, g, again)
		}
	})
}

func FuzzDenyACEs(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(AppendACEs(nil, newGen(seed).aces(5)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseACEs(b)
		if err != nil {
			return
		}
		if again := AppendACEs(nil, l); string(again) != string(b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}

func FuzzDelete(f *testing.F) {
	for _, p := range (Delete{TEKs: []uint32{1}, AllKEKs: true}).Payloads() {
		f.Add(p.Body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDelete(b)
		if err != nil {
			if formOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		ps := d.Payloads()
		if len(ps) != 1 {
			t.Fatalf("%d payloads", len(ps))
		}
		if again, err := ParseDelete(ps[0].Body); err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%+v became %+v", d, again)
		}
	})
}

// FuzzPull gives a party that waits for message n any octets: as a datagram, and as
// the authentic content of one.
func FuzzPull(f *testing.F) {
	sa, kd := sample()
	r := startPullWith(f, 7, PullOptions{}, mrand.NewChaCha8([32]byte{2}))
	r.run(f, sa, kd, 1, nil)
	for n := byte(1); n <= 4; n++ {
		// A message of another exchange: with the M-ID of its own, an authentic
		// recorded message 1 would be taken, rightly.
		r.d[n][23] = 8
		f.Add(n-1, r.d[n], byte(0))
	}
	p, _ := sa.Payload(Dialect{})
	chain, _ := isakmp.AppendChain(nil, []isakmp.Payload{isakmp.NoncePayload(make([]byte, 16)), p})
	f.Add(byte(1), chain, byte(isakmp.PayloadNonce))
	chain, _ = isakmp.AppendChain(nil, []isakmp.Payload{SEQPayload(1), kd.Payload()})
	f.Add(byte(3), chain, byte(isakmp.PayloadSEQ))
	chain, _ = isakmp.AppendChain(nil, []isakmp.Payload{(&GAP{SIDRequest: 3}).Payload()})
	f.Add(byte(2), chain, byte(isakmp.PayloadGAP))
	f.Fuzz(func(t *testing.T, at byte, b []byte, first byte) {
		sa, kd := sample()
		r := startPullWith(t, 8, PullOptions{}, mrand.NewChaCha8([32]byte{1}))
		done := false
		attack := func(n int, _ []byte, receive func([]byte) error) {
			if n != int(at%4)+1 || done {
				return
			}
			done = true
			err := receive(b)
			if err == nil || IsFatal(err) || ReasonOf(err) == "internal" {
				t.Fatalf("message %d: % x gives %v", n, b, err)
			}
			// The same octets as content with a good HASH: any result, no panic, on
			// a party that isn't used further.
			ps, rest, err := isakmp.ParseChain(isakmp.PayloadType(first), b)
			if err != nil || rest != 0 || len(ps) == 0 {
				return
			}
			forge(n, ps)
		}
		r.run(t, sa, kd, 1, attack)
	})
}

// forge gives a fresh party in the state for message n authentic content.
func forge(n int, ps []isakmp.Payload) {
	xg, xk := newFakes(9)
	rand := mrand.NewChaCha8([32]byte{3})
	gm, _, err := NewPullInitiator(xg, GroupNumber(1), rand, PullOptions{})
	if err != nil {
		return
	}
	ks := NewPullResponder(xk, rand, PullOptions{})
	sa, _ := sample()
	gm.sa, gm.nr, ks.ni, ks.nr = sa, gm.ni, gm.ni, gm.ni
	from, covered := &ks.pull, [][]byte{gm.ni, gm.ni}
	xk.iv = xg.iv
	switch n {
	case 1:
		from, covered = &gm.pull, nil
	case 2:
		covered = covered[:1]
	case 3:
		from, ks.state = &gm.pull, wantThird
	case 4:
		gm.state = wantDownload
	}
	d, err := from.seal(ps, covered...)
	if err != nil {
		return
	}
	switch n {
	case 1:
		xk.iv = newIV(9)
		ks.HandleFirst(d)
	case 3:
		ks.HandleThird(d)
	default:
		gm.Handle(d)
	}
}

func newIV(mid uint32) []byte { x, _ := newFakes(mid); return x.iv }
