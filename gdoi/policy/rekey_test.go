package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"getvpn/gdoi"
	"getvpn/internal/secret"
	"getvpn/ipsec"

	"pgregory.net/rapid"
)

var allIP = ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4}

func genKEK(t *rapid.T, public []byte) *KEK {
	return &KEK{SPI: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "spi")), Src: netip.MustParseAddrPort("192.0.2.1:848"), Dst: netip.MustParseAddrPort("239.1.1.1:848"),
		Cipher: gdoi.KEKAESCBC, KeyBits: 256, Lifetime: time.Hour, SigHash: gdoi.SigHashSHA256, SigAlg: gdoi.SigECDSA256, SigBits: 256,
		IV: rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "iv"), Key: rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "kek"), Public: public,
		Ack: rapid.SampledFrom([]gdoi.AckRequest{0, gdoi.AckKEKSHA256, gdoi.AckKEKSHA512}).Draw(t, "ack")}
}

// What the key server rekeys is what the member reads, through the octets of a signed
// and encrypted message: KEK alone, everything, deletes alone, any mixture.
func TestWhatIsRekeyedIsWhatArrives(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	sa := &gdoi.RekeySA{SPI: gdoi.KEKSPI{1}, Algorithm: gdoi.KEKAESCBC, IV: make(secret.Bytes, 16), Key: make(secret.Bytes, 16), SigAlg: gdoi.SigECDSA256}
	rapid.Check(t, func(t *rapid.T) {
		r := &Rekey{Seq: rapid.Uint32Range(1, 1<<32-1).Draw(t, "seq")}
		if rapid.Bool().Draw(t, "deletes") {
			r.Delete = gdoi.Delete{TEKs: rapid.SliceOfNDistinct(rapid.Uint32Range(1, 1<<32-1), 0, 5, rapid.ID[uint32]).Draw(t, "gone"), AllKEKs: rapid.Bool().Draw(t, "keks")}
			if len(r.Delete.TEKs) == 0 {
				r.Delete.TEKs, r.Delete.AllTEKs = nil, true
			}
		}
		if rapid.Bool().Draw(t, "policy") {
			o := &Offer{}
			r.Offer, r.Shorten = o, rapid.Bool().Draw(t, "shorten")
			if rapid.Bool().Draw(t, "clock") {
				o.Clock = &Clock{Pseudotime: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "pseudotime")) * time.Millisecond, Tick: 500 * time.Millisecond, Header: 16}
			}
			n := rapid.IntRange(0, 3).Draw(t, "teks")
			if n == 0 || rapid.Bool().Draw(t, "kek") {
				o.KEK = genKEK(t, public)
			}
			for i := range n {
				tr := rapid.SampledFrom(transforms).Draw(t, "transform")
				x := TEK{SPI: uint32(300 + i), Transform: tr, Lifetime: time.Duration(rapid.IntRange(1, 3600).Draw(t, "life")) * time.Second, HasAge: true,
					Tag: rapid.Bool().Draw(t, "tag"), Key: make(secret.Bytes, tr.CipherKeyLen()), AuthKey: make(secret.Bytes, tr.AuthKeyLen())}
				if o.Clock != nil && rapid.Bool().Draw(t, "time") {
					x.Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100}
				}
				x.Header = x.header(o.Clock)
				if len(x.Key) == 0 {
					x.Key = nil
				}
				if len(x.AuthKey) == 0 {
					x.AuthKey = nil
				}
				o.TEKs = append(o.TEKs, x)
			}
			if n > 0 {
				e := Entry{ACE: allIP}
				e.ACE.Seq = 10
				for i := range o.TEKs { // the oldest first
					e.SPIs = append(e.SPIs, o.TEKs[i].SPI)
				}
				o.Entries = []Entry{e}
			}
		}
		if r.Offer == nil && reflect.DeepEqual(r.Delete, gdoi.Delete{}) {
			t.Skip("a rekey that says nothing")
		}
		p, err := EncodeRekey(r, false)
		if err != nil {
			t.Fatal(err)
		}
		d, err := sa.Seal(rand.Reader, p, signer)
		if err != nil {
			t.Fatal(err)
		}
		back, err := sa.Open(d, r.Seq-1, signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRekey(back)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("got  %+v %+v\nwant %+v %+v", got, got.Offer, r, r.Offer)
		}
		// The same for a group that keeps to the RFC.
		if p, err = EncodeRekey(r, true); err != nil {
			t.Fatal(err)
		}
		if p.SA != nil {
			if err := p.SA.OnlyRFC(); err != nil {
				t.Error(err)
			}
			if p.SA.GAP != nil {
				t.Error("a GAP without need")
			}
		}
	})
}

func TestRekeyRefusals(t *testing.T) {
	sat := gdoi.SAT{Protocol: gdoi.ProtoESP, Src: gdoi.AddrIdentity(netip.MustParseAddr("10.0.0.1"), 0), Dst: gdoi.AddrIdentity(netip.MustParseAddr("10.0.0.2"), 0),
		Transform: gdoi.ESPAESCBC, KeyBits: 128, Auth: gdoi.AuthHMACSHA256, SPI: 300, Seconds: 60, Replay: &gdoi.Replay{Mode: gdoi.ReplayTime, Window: 100}}
	for name, p := range map[string]*gdoi.Push{
		"time-based without pseudotime": {Seq: 1, SA: &gdoi.SA{SATs: []gdoi.SAT{sat}}, KD: &gdoi.KD{}},
		"LKH":                           {Seq: 1, SA: &gdoi.SA{SAK: &gdoi.SAK{Protocol: 17}}, KD: &gdoi.KD{LKH: &gdoi.LKHKeys{}}},
		"KEK that we lack":              {Seq: 1, SA: &gdoi.SA{SAK: &gdoi.SAK{Protocol: 17, Algorithm: gdoi.KEKDES}}, KD: &gdoi.KD{KEK: &gdoi.KEKKey{}}},
	} {
		_, err := DecodeRekey(p)
		var r *RejectError
		if !errors.As(err, &r) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err := DecodeRekey(&gdoi.Push{Seq: 4, Delete: gdoi.Delete{AllTEKs: true}}); err != nil || r.Offer != nil || !r.Delete.AllTEKs || r.Seq != 4 {
		t.Errorf("delete alone: %+v %v", r, err)
	}
}

// FuzzDecodeRekey: whatever the codec and Match let through, DecodeRekey answers
// without panic, and what it takes can be sent again.
func FuzzDecodeRekey(f *testing.F) {
	o := &Offer{Clock: &Clock{Tick: time.Second, Header: 12}, Entries: []Entry{{ACE: allIP, SPIs: []uint32{300}}}, KEK: &KEK{SPI: [16]byte{1}, Dst: netip.MustParseAddrPort("192.0.2.1:848"),
		Cipher: gdoi.KEKAESCBC, KeyBits: 128, SigAlg: gdoi.SigRSA, IV: make(secret.Bytes, 16), Key: make(secret.Bytes, 16)},
		TEKs: []TEK{{SPI: 300, Transform: transforms[5], Lifetime: time.Hour, Key: make(secret.Bytes, 20), Replay: ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100}}}}
	for _, interop := range []bool{false, true} {
		p, err := EncodeRekey(&Rekey{Seq: 1, Offer: o, Shorten: true}, interop)
		if err != nil {
			f.Fatal(err)
		}
		sa, err := p.SA.Payload(gdoi.Dialect{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sa.Body, p.KD.Payload().Body)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		sa, err := gdoi.ParseSA(a, gdoi.Dialect{})
		if err != nil {
			return
		}
		kd, err := gdoi.ParseKD(b, gdoi.Dialect{})
		if err != nil || gdoi.Match(sa, kd, false) != nil {
			return
		}
		r, err := DecodeRekey(&gdoi.Push{Seq: 1, SA: sa, KD: kd})
		if err != nil {
			var x *RejectError
			if !errors.As(err, &x) {
				t.Fatal(err)
			}
			return
		}
		for _, x := range r.Offer.TEKs {
			if x.Replay.Mode == ipsec.ReplayTime && (r.Offer.Clock == nil || x.Header == 0) {
				t.Fatalf("time-based without clock: %+v", x)
			}
		}
		p, err := EncodeRekey(r, false)
		if errors.Is(err, ErrPortRange) {
			return // an exact entry that we take and don't send
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := gdoi.Match(p.SA, p.KD, false); err != nil {
			t.Fatal(err)
		}
	})
}
