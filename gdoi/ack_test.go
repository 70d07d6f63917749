package gdoi

import (
	"bytes"
	"net/netip"
	"testing"

	"getvpn/gdoi/isakmp"
)

var ackMember = isakmp.AddrID(netip.MustParseAddr("192.0.2.77"))

func TestAck(t *testing.T) {
	for _, typ := range []AckRequest{AckKEKSHA256, AckKEKSHA512} {
		for _, kek := range []*RekeySA{rekeySA(KEKAESCBC, 128, SigRSA, SigHashSHA256), rekeySA(KEK3DES, 192, SigRSA, SigHashSHA256)} {
			for _, id := range []isakmp.ID{ackMember, isakmp.AddrID(netip.MustParseAddr("2001:db8::1")), {Type: isakmp.IDOID, Data: []byte{2, 3, 4}}} {
				k := kek.AckKey(typ)
				if !k.Valid() || k.SPI() != kek.SPI {
					t.Fatal("no key")
				}
				d := k.Seal(7, id, kek.SPI)
				seq, got, err := k.Open(d)
				if err != nil || seq != 7 || got.Type != id.Type || !bytes.Equal(got.Data, id.Data) {
					t.Errorf("type %d: %d %v %v", typ, seq, got, err)
				}
				other := *kek
				other.Key = key(len(kek.Key), 3)
				if _, _, err := other.AckKey(typ).Open(d); reasonOf(err) != BadHash {
					t.Errorf("another KEK: %v", err)
				}
				other = *kek
				other.Dialect.AckOutputLength = true
				if _, _, err := other.AckKey(typ).Open(d); reasonOf(err) != BadHash {
					t.Errorf("another reading of L: %v", err)
				}
			}
		}
	}
}

// The types of LKH have no key here: a member sends nothing, a key server refuses.
func TestAckTypesWithoutKey(t *testing.T) {
	r := rekeySA(KEKAESCBC, 128, SigRSA, SigHashSHA256)
	good := r.AckKey(AckKEKSHA256).Seal(1, ackMember, r.SPI)
	for _, typ := range []AckRequest{0, AckLKHSHA256, AckLKHSHA512, 5, 200} {
		k := r.AckKey(typ)
		if k.Valid() || k.Seal(1, ackMember, r.SPI) != nil {
			t.Errorf("type %d has a key", typ)
		}
		if _, _, err := k.Open(good); reasonOf(err) != AckUnsupported {
			t.Errorf("type %d: %v", typ, err)
		}
	}
}

func TestAckRefusals(t *testing.T) {
	r := rekeySA(KEKAESCBC, 128, SigRSA, SigHashSHA256)
	k := r.AckKey(AckKEKSHA256)
	d := k.Seal(1, ackMember, r.SPI)
	for i := range 8 * len(d) { // also the header's, which no HASH covers
		b := bytes.Clone(d)
		b[i/8] ^= 0x80 >> (i % 8)
		if _, _, err := k.Open(b); err == nil || ReasonOf(err) == "internal" {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for n := range d {
		if _, _, err := k.Open(d[:n]); err == nil {
			t.Errorf("%d octets are taken", n)
		}
	}
	hashed := func(list ...isakmp.Payload) []byte {
		raw, err := isakmp.AppendChain(nil, list)
		if err != nil {
			t.Fatal(err)
		}
		ci, cr := r.SPI.Cookies()
		b, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: ci, RCookie: cr, Exchange: isakmp.GroupKeyPushAck}, append([]isakmp.Payload{isakmp.HashPayload(k.hash(raw))}, list...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, x := range map[string]struct {
		d      []byte
		reason string
	}{
		"another SPI":      {k.Seal(1, ackMember, KEKSPI{9}), "unknown-rekey-spi"},
		"group's identity": {hashed(SEQPayload(1), GroupNumber(3).Payload()), "bad-ack-id"},
		"port":             {hashed(SEQPayload(1), isakmp.ID{Type: isakmp.IDIPv4, Port: 848, Data: ackMember.Data}.Payload()), "bad-ack-id"},
		"SEQ of 3 octets":  {hashed(isakmp.Payload{Type: isakmp.PayloadSEQ, Body: []byte{0, 0, 1}}, ackMember.Payload()), "short-body"},
		"ID cut off":       {hashed(SEQPayload(1), isakmp.Payload{Type: isakmp.PayloadID, Body: []byte{1, 0}}), "short-body"},
		"no ID":            {hashed(SEQPayload(1)), "payload-missing"},
		"order":            {hashed(ackMember.Payload(), SEQPayload(1)), "payload-order"},
		"a fourth payload": {hashed(SEQPayload(1), ackMember.Payload(), isakmp.Payload{Type: 200}), "too-many-payloads"},
		"two of one":       {hashed(SEQPayload(1), SEQPayload(1)), "payload-repeated"},
	} {
		if _, _, err := k.Open(x.d); ReasonOf(err) != x.reason {
			t.Errorf("%s: %v, want %s", name, err, x.reason)
		}
	}
}

// The key server's share of an acknowledgement (aim: 50,000 a second on a core).
func BenchmarkAckOpen(b *testing.B) {
	for name, typ := range map[string]AckRequest{"SHA-256": AckKEKSHA256, "SHA-512": AckKEKSHA512} {
		b.Run(name, func(b *testing.B) {
			r := rekeySA(KEKAESCBC, 256, SigRSA, SigHashSHA256)
			k := r.AckKey(typ)
			d := k.Seal(7, ackMember, r.SPI)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := k.Open(d); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ACKs/s")
		})
	}
}

func BenchmarkPush(b *testing.B) {
	for name, alg := range map[string]SigAlgorithm{"RSA-2048": SigRSA, "ECDSA-256": SigECDSA256} {
		r := rekeySA(KEKAESCBC, 256, alg, SigHashSHA256)
		p := samplePush(1)
		signer := signers()[alg]
		d, err := r.Seal(nil, p, signer)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("Seal "+name, func(b *testing.B) {
			b.ReportMetric(float64(len(d)), "octets")
			for b.Loop() {
				if _, err := r.Seal(nil, p, signer); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Open "+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Open(d, 0, signer.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Replay "+name, func(b *testing.B) { // no signature is looked at
			for b.Loop() {
				r.Open(d, 1, signer.Public())
			}
		})
	}
	b.Run("Garbage", func(b *testing.B) {
		r := rekeySA(KEK3DES, 192, SigRSA, SigHashSHA256)
		d, _ := r.Seal(nil, samplePush(1), signers()[SigRSA])
		d[28] ^= 1
		for b.Loop() {
			r.Open(d, 0, signers()[SigRSA].Public())
		}
	})
}
