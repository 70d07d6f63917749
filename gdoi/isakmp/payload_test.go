package isakmp

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
)

func sampleSA1() SA1 {
	offer := func(n uint8, x IKEAttrs) Transform { return Transform{Number: n, ID: KeyIKE, Attrs: x.Attrs()} }
	return SA1{DOI: DOIGDOI, Proposals: []Proposal{{Number: 1, Protocol: ProtoISAKMP, Transforms: []Transform{
		offer(1, IKEAttrs{Encryption: IKEEncrAESCBC, Hash: IKEHashSHA256, Auth: IKEAuthPSK, Group: 14, KeyBits: 256, Seconds: 86400}),
		offer(2, IKEAttrs{Encryption: IKEEncr3DES, Hash: IKEHashSHA1, Auth: IKEAuthPSK, Group: 2, Seconds: 3600, Kilobytes: 5}),
		{Number: 3, ID: KeyIKE, Attrs: []Attr{BasicAttr(1, 7), VarAttr(16384, []byte{1, 2, 3}), BasicAttr(200, 9)}},
	}}}}
}

// codec is one payload's pair of functions, as octets: decode then encode.
type codec struct {
	name  string
	body  []byte
	again func(body []byte) ([]byte, error)
}

func codecs() []codec {
	return []codec{
		{"SA", sampleSA1().Payload().Body, func(b []byte) ([]byte, error) { x, err := ParseSA1(b); return x.Payload().Body, err }},
		{"SA DOI 1, SPI", SA1{DOI: DOIIPsec, Situation: 1, Proposals: []Proposal{{Number: 1, Protocol: 1, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Transforms: sampleSA1().Proposals[0].Transforms[:1]}, {Number: 2, Protocol: 1, Transforms: sampleSA1().Proposals[0].Transforms[1:]}}}.Payload().Body,
			func(b []byte) ([]byte, error) { x, err := ParseSA1(b); return x.Payload().Body, err }},
		{"ID", ID{Type: IDFQDN, Protocol: 17, Port: 848, Data: []byte("ks.example")}.Payload().Body, func(b []byte) ([]byte, error) { x, err := ParseID(b); return x.Payload().Body, err }},
		{"CERT", Cert{CertX509Signature, []byte{0x30, 0}}.Payload().Body, func(b []byte) ([]byte, error) { x, err := ParseCert(b); return x.Payload().Body, err }},
		{"CR", CertReq{CertX509Signature, []byte{0x30, 0}}.Payload().Body, func(b []byte) ([]byte, error) { x, err := ParseCertReq(b); return x.Payload().Body, err }},
		{"N", Notify{DOIISAKMP, 1, bytes.Repeat([]byte{3}, 16), NotifyRUThere, []byte{0, 0, 0, 9}}.Payload().Body, func(b []byte) ([]byte, error) { x, err := ParseNotify(b); return x.Payload().Body, err }},
		{"D", Delete{DOIISAKMP, 1, [][]byte{bytes.Repeat([]byte{3}, 16), bytes.Repeat([]byte{4}, 16)}}.Payload().Body, func(b []byte) ([]byte, error) { x, err := ParseDelete(b); return x.Payload().Body, err }},
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	for _, c := range codecs() {
		if got, err := c.again(c.body); err != nil || !bytes.Equal(got, c.body) {
			t.Errorf("%s: % x became % x, %v", c.name, c.body, got, err)
		}
	}
}

// A prefix of a payload with structure is never a payload. (ID, CERT, CR and N end
// in data of any length; their fixed part is what can be missing.)
func TestNoPrefixParses(t *testing.T) {
	fixed := map[string]int{"ID": 5, "CERT": 2, "CR": 1, "N": 24}
	for _, c := range codecs() {
		limit := len(c.body)
		if n, ok := fixed[c.name]; ok {
			limit = n
		}
		for n := range limit {
			if _, err := c.again(c.body[:n]); reasonOf(err) == 0 {
				t.Errorf("%s: %d of %d octets parse", c.name, n, len(c.body))
			}
		}
	}
}

func TestNoPrefixOfAMessageParses(t *testing.T) {
	d, err := AppendClear(nil, Header{ICookie: Cookie{1}, Exchange: MainMode}, []Payload{sampleSA1().Payload(), VendorIDPayload([]byte("v"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, ps, err := ParseClear(d); err != nil || len(ps) != 2 {
		t.Fatal(err)
	}
	for n := range d {
		if _, _, err := ParseClear(d[:n]); reasonOf(err) == 0 {
			t.Errorf("%d of %d octets parse", n, len(d))
		}
		// Also with a header that agrees.
		if n > HeaderLen {
			cut := bytes.Clone(d[:n])
			cut[26], cut[27] = byte(n>>8), byte(n)
			if _, _, err := ParseClear(cut); reasonOf(err) == 0 {
				t.Errorf("%d of %d octets parse with a length to match", n, len(d))
			}
		}
	}
}

func TestUnknownPayloadsSurvive(t *testing.T) {
	in := []Payload{sampleSA1().Payload(), {Type: 99, Body: []byte{1, 2}}, {Type: 250, Body: nil}, VendorIDPayload([]byte{5})}
	chain, _ := AppendChain(nil, in)
	out, rest, err := ParseChain(PayloadSA, chain)
	if err != nil || rest != 0 {
		t.Fatal(err)
	}
	again, _ := AppendChain(nil, out)
	if !bytes.Equal(chain, again) || out[1].Type != 99 || out[2].Type != 250 {
		t.Errorf("% x\n% x", chain, again)
	}
}

func TestSA1Refusals(t *testing.T) {
	good := sampleSA1().Payload().Body
	at := func(i int, v byte) []byte { b := bytes.Clone(good); b[i] = v; return b }
	cases := []struct {
		name string
		body []byte
		want Reason
	}{
		{"DOI 3", at(3, 3), BadDOI},
		{"labelled situation", SA1{DOI: DOIIPsec, Situation: 3}.Payload().Body, BadSituation},
		{"no proposal", good[:8], PayloadMissing},
		{"proposal followed by KE", at(8, 4), ShortPayload},
		{"no transforms", at(15, 0), BadCount},
		{"one transform too few", at(15, 4), BadCount},
		{"SPI of 200", at(14, 200), BadSPISize},
		{"transform's reserved octets", at(22, 1), BadReserved},
		{"transform followed by SA", at(16, 1), BadNextPayload},
	}
	for _, c := range cases {
		if _, err := ParseSA1(c.body); reasonOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestIKEAttrs(t *testing.T) {
	x := IKEAttrs{Encryption: IKEEncrAESCBC, Hash: IKEHashSHA512, Auth: IKEAuthECDSA256, Group: 19, KeyBits: 128, Seconds: 86400, Kilobytes: 77, Other: []Attr{BasicAttr(100, 3)}}
	if got, err := (Transform{Attrs: x.Attrs()}).IKEAttrs(); err != nil || !reflect.DeepEqual(got, x) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		attrs []Attr
		want  Reason
	}{
		"hash twice":           {[]Attr{BasicAttr(2, 2), BasicAttr(2, 4)}, AttributeRepeated},
		"duration alone":       {[]Attr{BasicAttr(12, 2)}, AttributeValue},
		"seconds twice":        {[]Attr{BasicAttr(11, 1), BasicAttr(12, 2), BasicAttr(11, 1), BasicAttr(12, 2)}, AttributeRepeated},
		"one type, two values": {[]Attr{BasicAttr(11, 1), BasicAttr(12, 2), BasicAttr(12, 2)}, AttributeValue},
		"wide group":           {[]Attr{VarAttr32(4, 1<<16)}, AttributeWidth},
	} {
		if _, err := (Transform{Attrs: c.attrs}).IKEAttrs(); reasonOf(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	long, err := (Transform{Attrs: []Attr{BasicAttr(11, 1), VarAttr(12, []byte{1, 0, 0, 0, 0, 0})}}).IKEAttrs()
	if err != nil || long.Seconds != 1<<32-1 {
		t.Errorf("%+v, %v", long, err)
	}
}

func TestIDAddresses(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"} {
		a := netip.MustParseAddr(s)
		id, err := ParseID(AddrID(a).Body())
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := id.Addr(); !ok || got != a.Unmap() {
			t.Errorf("%s became %v", s, got)
		}
	}
	for _, b := range [][]byte{{1, 0, 0, 0, 1, 2, 3}, {5, 0, 0, 0, 1, 2, 3, 4}, {0, 0, 0, 0, 1}} {
		if _, err := ParseID(b); reasonOf(err) != BadID {
			t.Errorf("% x: %v", b, err)
		}
	}
}

func TestNonceLengths(t *testing.T) {
	for n, ok := range map[int]bool{7: false, 8: true, 256: true, 257: false} {
		if _, err := ParseNonce(make([]byte, n), MinNonce, MaxNonce); (err == nil) != ok {
			t.Errorf("nonce of %d octets: %v", n, err)
		}
	}
}

func chainOf(types ...PayloadType) []Payload {
	var ps []Payload
	for _, t := range types {
		ps = append(ps, Payload{Type: t})
	}
	return ps
}

func TestLegality(t *testing.T) {
	const (
		sa, ke, id, hash, sig, nonce, n, d, vid = PayloadSA, PayloadKE, PayloadID, PayloadHash, PayloadSig, PayloadNonce, PayloadNotify, PayloadDelete, PayloadVendorID
		sak, kd, seq, gap, natd, cert           = PayloadSAK, PayloadKD, PayloadSEQ, PayloadGAP, PayloadNATD, PayloadCert
	)
	cases := []struct {
		m         Message
		encrypted bool
		ps        []Payload
		want      Reason
	}{
		{Main1, false, chainOf(sa, vid, vid), 0},
		{Main1, false, chainOf(vid, sa), PayloadOrder},
		{Main1, false, chainOf(sa, sa), PayloadRepeated},
		{Main1, true, chainOf(sa), UnexpectedEncryption},
		{Main1, false, nil, PayloadOrder},
		{Main3, false, chainOf(nonce, natd, natd, ke), 0},
		{Main3, false, chainOf(ke, vid), PayloadMissing},
		{Main3, false, chainOf(ke, nonce, 99), PayloadUnexpected},
		{Main3, false, chainOf(ke, nonce, 199), 0},
		{MainAuthPSK, true, chainOf(id, hash, n), 0},
		{MainAuthPSK, false, chainOf(id, hash), NotEncrypted},
		{MainAuthPSK, true, chainOf(id, sig), PayloadUnexpected},
		{MainAuthSig, true, chainOf(id, cert, cert, sig), 0},
		{Aggr1, false, chainOf(sa, ke, nonce, id, vid), 0},
		{Aggr2PSK, false, chainOf(sa, ke, nonce, id, vid, natd, natd, hash), 0},
		{Aggr2Sig, false, chainOf(sa, ke, nonce, id, hash), PayloadUnexpected},
		{Aggr3PSK, false, chainOf(hash), 0},
		{Aggr3PSK, true, chainOf(natd, natd, hash), 0},
		{Aggr3Sig, true, chainOf(cert), PayloadMissing},
		{InfoClear, false, chainOf(n), 0},
		{InfoProtected, true, chainOf(hash, n, d), 0},
		{InfoProtected, true, chainOf(n, hash), PayloadOrder},
		{Pull1, true, chainOf(hash, nonce, id), 0},
		{Pull1, true, chainOf(hash, id, nonce), PayloadOrder},
		{Pull1, true, chainOf(hash, nonce, id, ke), PayloadUnexpected},
		{Pull2, true, chainOf(hash, nonce, sa), 0},
		{Pull2, true, chainOf(hash, nonce), PayloadMissing},
		{Pull3, true, chainOf(hash), 0},
		{Pull3, true, chainOf(hash, gap), 0},
		{Pull3, true, chainOf(hash, gap, gap), PayloadRepeated},
		{Pull4, true, chainOf(hash, kd), 0},
		{Pull4, true, chainOf(hash, seq, kd), 0},
		{Pull4, true, chainOf(hash, kd, seq), PayloadOrder},
		{Push, true, chainOf(seq, sa, kd, sig), 0},
		{Push, true, chainOf(seq, d, d, sig), 0},
		{Push, true, chainOf(seq, d, sa, sig), PayloadMissing},
		{Push, true, chainOf(seq, kd, sig), PayloadMissing},
		{Push, true, chainOf(sig), PayloadOrder},
		{PushAck, false, chainOf(hash, seq, id), 0},
		{PushAck, false, chainOf(hash, seq), PayloadMissing},
		{Pull1, true, chainOf(hash, sak), PayloadUnexpected},
	}
	for _, c := range cases {
		if err := Check(c.m, c.encrypted, c.ps); reasonOf(err) != c.want {
			t.Errorf("message %d %v: %v, want %v", c.m, c.ps, err, c.want)
		}
	}
	for m := range NumMessages {
		if len(RulesOf(m).Payloads) == 0 {
			t.Errorf("message %d has no row", m)
		}
	}
}
