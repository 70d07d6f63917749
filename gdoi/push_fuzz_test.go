package gdoi

import (
	"crypto/rand"
	"reflect"
	"testing"

	"getvpn/gdoi/isakmp"
)

// FuzzPush: whatever comes is refused by name; the same octets as the payloads of a
// message with a good signature reach the decoders inside, and what they take can be
// sealed and opened again.
func FuzzPush(f *testing.F) {
	r := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
	signer := signers()[SigECDSA256]
	for _, p := range []*Push{samplePush(1), {Seq: 2, Delete: Delete{AllTEKs: true, KEKs: []KEKSPI{{1}}}}, {Seq: 3, Delete: Delete{TEKs: []uint32{1, 2}}}} {
		d, err := r.Seal(rand.Reader, p, signer)
		if err != nil {
			f.Fatal(err)
		}
		clear(d[60:100]) // so that no mutation makes the genuine one
		f.Add(d, byte(isakmp.PayloadSEQ))
		ps, err := r.payloads(p)
		if err != nil {
			f.Fatal(err)
		}
		inside, err := isakmp.AppendChain(nil, ps[1:])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(inside, byte(isakmp.FirstType(ps[1:])))
	}
	f.Fuzz(func(t *testing.T, b []byte, first byte) {
		if p, err := r.Open(b, 0, signer.Public()); err == nil || p != nil || IsFatal(err) || ReasonOf(err) == "internal" {
			t.Fatalf("% x gives %+v, %v", b, p, err)
		}
		ps, _, err := isakmp.ParseChain(isakmp.PayloadType(first), b)
		if err != nil || len(b) > MaxPush-256 {
			return
		}
		d := foreign{payloads: ps}.make(t, r, signer)
		p, err := r.Open(d, 0, signer.Public())
		if err != nil {
			if ReasonOf(err) == "internal" {
				t.Fatal(err)
			}
			return
		}
		again, err := r.Seal(rand.Reader, p, signer)
		if reasonOf(err) == TooLong {
			return
		}
		if err != nil {
			t.Fatalf("taken, but not sealed again: %v", err)
		}
		q, err := r.Open(again, 0, signer.Public())
		if err != nil || !reflect.DeepEqual(q.Delete, p.Delete) || (q.SA == nil) != (p.SA == nil) {
			t.Fatalf("%+v, %v; was %+v", q, err, p)
		}
	})
}

// FuzzAck: raw, and with a good HASH.
func FuzzAck(f *testing.F) {
	r := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
	k := r.AckKey(AckKEKSHA256)
	d := k.Seal(9, ackMember, r.SPI)
	f.Add(d[isakmp.HeaderLen+isakmp.GenericLen+32:])
	clear(d[40:60])
	f.Add(d)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := k.Open(b); err == nil || ReasonOf(err) == "internal" {
			t.Fatalf("% x: %v", b, err)
		}
		ps, rest, err := isakmp.ParseChain(isakmp.PayloadSEQ, b)
		if err != nil || rest != 0 || len(b) > 60000 {
			return
		}
		ci, cr := r.SPI.Cookies()
		m, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: ci, RCookie: cr, Exchange: isakmp.GroupKeyPushAck}, append([]isakmp.Payload{isakmp.HashPayload(k.hash(b))}, ps...))
		if err != nil {
			return
		}
		seq, id, err := k.Open(m)
		if err != nil {
			if reasonOf(err) == BadHash || ReasonOf(err) == "internal" {
				t.Fatal(err)
			}
			return
		}
		if again := k.Seal(seq, id, r.SPI); !reflect.DeepEqual(again, m) {
			t.Fatalf("% x isn't the only form: % x", m, again)
		}
	})
}
