package gdoi

// Rekeys that are wrong in one way or several, and rekeys as others write them.

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"testing"

	"getvpn/gdoi/isakmp"
)

// foreign is how another implementation may write a rekey. The zero value is ours.
type foreign struct {
	payloads  []isakmp.Payload // between SEQ and SIG
	seq       []byte           // body of SEQ, nil: 1
	after     []isakmp.Payload // behind SIG
	mid       uint32
	flags     isakmp.Flags
	exchange  isakmp.ExchangeType
	first     isakmp.PayloadType // in the header
	unpadded  bool               // sign the length without padding
	pad       []byte             // instead of zeros; longer ones add blocks
	der, bare bool
	badSig    bool
}

// make builds the datagram by hand.
func (f foreign) make(t testing.TB, r *RekeySA, signer crypto.Signer) []byte {
	t.Helper()
	block, err := r.cipher()
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.signatureLen(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	if f.der {
		n += 7 // 70 to 72 octets; tried until it fits
	}
	seq := f.seq
	if seq == nil {
		seq = []byte{0, 0, 0, 1}
	}
	list := append([]isakmp.Payload{{Type: isakmp.PayloadSEQ, Body: seq}}, f.payloads...)
	for {
		sig := make([]byte, n)
		all := append(append(append([]isakmp.Payload{}, list...), isakmp.Payload{Type: isakmp.PayloadSig, Body: sig}), f.after...)
		ci, cr := r.SPI.Cookies()
		h := isakmp.Header{ICookie: ci, RCookie: cr, NextPayload: isakmp.PayloadSEQ, Version: isakmp.Version10, Exchange: isakmp.GroupKeyPush, Flags: isakmp.FlagEncrypted, MessageID: f.mid}
		if f.flags != 0 {
			h.Flags = f.flags
		}
		if f.exchange != 0 {
			h.Exchange = f.exchange
		}
		if f.first != 0 {
			h.NextPayload = f.first
		}
		chain, err := isakmp.AppendChain(nil, all)
		if err != nil {
			t.Fatal(err)
		}
		body := chain
		if f.pad != nil {
			body = append(body, f.pad...)
		}
		for len(body)%block.BlockSize() != 0 {
			body = append(body, 0)
		}
		h.Length = uint32(isakmp.HeaderLen + len(body))
		signedLen := h.Length
		if f.unpadded {
			signedLen = uint32(isakmp.HeaderLen + len(chain))
		}
		end := isakmp.GenericLen
		for _, p := range list {
			end += isakmp.GenericLen + len(p.Body)
		}
		covered := append(h.AppendTo(nil), chain[:end-isakmp.GenericLen]...)
		digest := r.digest(covered, signedLen)
		alg, _ := r.hash()
		if f.bare {
			alg = 0
		}
		s, err := signer.Sign(rand.Reader, digest, alg)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := signer.(*ecdsa.PrivateKey); ok && !f.der {
			var rs struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(s, &rs); err != nil {
				t.Fatal(err)
			}
			s = append(rs.R.FillBytes(make([]byte, n/2)), rs.S.FillBytes(make([]byte, n/2))...)
		}
		if f.der && len(s) != n {
			continue
		}
		if f.badSig {
			s[n/2] ^= 4
		}
		copy(body[end:], s)
		cipher.NewCBCEncrypter(block, r.IV).CryptBlocks(body, body)
		return append(h.AppendTo(nil), body...)
	}
}

// What others do and the RFC leaves open is taken.
func TestPushOfOthers(t *testing.T) {
	del := Delete{AllTEKs: true}.Payloads()
	oddDOI := isakmp.Delete{DOI: 0, Protocol: protoKEK, SPIs: [][]byte{make([]byte, 16)}}.Payload()
	for name, f := range map[string]foreign{
		"ours":                   {payloads: del},
		"message ID":             {payloads: del, mid: 7},
		"unpadded length signed": {payloads: del, unpadded: true},
		"padding isn't zero":     {payloads: del, pad: []byte{9}},
		"bare hash":              {payloads: del, bare: true},
		"both":                   {payloads: del, bare: true, unpadded: true},
		"DOI of a delete":        {payloads: append(del[:1:1], oddDOI)},
		"private payload":        {payloads: append(del[:1:1], isakmp.Payload{Type: 200, Body: []byte{1}})},
	} {
		for _, alg := range []SigAlgorithm{SigRSA, SigECDSA256} {
			if f.bare && alg != SigRSA {
				continue
			}
			r := rekeySA(KEKAESCBC, 256, alg, SigHashSHA256)
			f.der = alg == SigECDSA256
			d := f.make(t, r, signers()[alg])
			if p, err := r.Open(d, 0, signers()[alg].Public()); err != nil || !p.Delete.AllTEKs || p.Seq != 1 {
				t.Errorf("%s, algorithm %d: %+v %v", name, alg, p, err)
			}
		}
	}
}

// Each refusal has its own reason, and of several the first in the order of the RFC
// wins: header, decryption, form, SEQ, signature, content.
func TestPushRefusals(t *testing.T) {
	sa, kd := sample()
	saP, err := sa.Payload(Dialect{})
	if err != nil {
		t.Fatal(err)
	}
	withSIDs := kd.Payload()
	kd.SIDs = nil
	good := kd.Payload()
	kd.TEKs = kd.TEKs[:1]
	keyMissing := kd.Payload()
	truncated := isakmp.Payload{Type: isakmp.PayloadKD, Body: good.Body[:len(good.Body)-1]}
	edit := func(f func([]byte)) func([]byte) []byte {
		return func(d []byte) []byte { f(d); return d }
	}
	other := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
	other.Key = key(16, 77)
	for name, x := range map[string]struct {
		foreign
		edit   func([]byte) []byte
		last   uint32
		by     *RekeySA
		reason string
		fatal  bool
	}{
		"nothing":                    {edit: func([]byte) []byte { return nil }, reason: "empty-datagram"},
		"a header":                   {edit: func(d []byte) []byte { d[27] = 28; d[26] = 0; return d[:28] }, reason: "no-payloads"},
		"version":                    {edit: edit(func(d []byte) { d[17] = 0x20 }), reason: "bad-version"},
		"PULL":                       {foreign: foreign{exchange: isakmp.GroupKeyPull, flags: 3, badSig: true}, reason: "bad-exchange-type"},
		"ACK":                        {foreign: foreign{exchange: isakmp.GroupKeyPushAck}, reason: "bad-exchange-type"},
		"another SPI":                {edit: edit(func(d []byte) { d[15] ^= 1; d[19] = 3 }), reason: "unknown-rekey-spi"},
		"commit flag":                {foreign: foreign{flags: 3, first: isakmp.PayloadSA}, reason: "bad-exchange-flags"},
		"in the clear":               {edit: edit(func(d []byte) { d[19] = 0 }), reason: "bad-exchange-flags"},
		"first payload":              {foreign: foreign{first: isakmp.PayloadSA}, reason: "payload-order"},
		"half a block":               {edit: func(d []byte) []byte { d = d[:28+24]; d[26], d[27] = 0, 28+24; return d }, reason: "decrypt-failed"},
		"another KEK":                {by: other, foreign: foreign{badSig: true}, reason: "any name of a form"},
		"SEQ of 5 octets":            {foreign: foreign{seq: []byte{0, 0, 0, 1, 0}, badSig: true}, reason: "trailing-body"},
		"two signatures":             {foreign: foreign{after: []isakmp.Payload{{Type: isakmp.PayloadSig, Body: []byte{1}}}, badSig: true}, reason: "payload-repeated"},
		"something behind SIG":       {foreign: foreign{after: []isakmp.Payload{{Type: 200, Body: []byte{1}}}}, last: 9, reason: "payload-order"},
		"SA behind KD":               {foreign: foreign{payloads: []isakmp.Payload{good, saP}}, reason: "payload-order"},
		"SA without KD":              {foreign: foreign{payloads: []isakmp.Payload{saP}}, last: 9, reason: "payload-missing"},
		"KD without SA":              {foreign: foreign{payloads: []isakmp.Payload{good}}, last: 9, reason: "payload-missing"},
		"ID":                         {foreign: foreign{payloads: []isakmp.Payload{GroupNumber(1).Payload()}}, last: 9, reason: "payload-unexpected"},
		"blocks behind":              {foreign: foreign{pad: make([]byte, 40)}, last: 9, reason: "trailing-octets"},
		"replay, signature wrong":    {foreign: foreign{badSig: true}, last: 1, reason: "replayed"},
		"signature wrong":            {foreign: foreign{badSig: true, payloads: []isakmp.Payload{saP, truncated}}, reason: "bad-signature"},
		"KD cut off":                 {foreign: foreign{payloads: []isakmp.Payload{saP, truncated}}, reason: "short-body", fatal: true},
		"Sender IDs":                 {foreign: foreign{payloads: []isakmp.Payload{saP, withSIDs}}, reason: "sid-unexpected", fatal: true},
		"a data SA without keys":     {foreign: foreign{payloads: []isakmp.Payload{saP, keyMissing}}, reason: "spi-without-key", fatal: true},
		"delete of another protocol": {foreign: foreign{payloads: []isakmp.Payload{isakmp.Delete{DOI: 2, Protocol: 9, SPIs: [][]byte{{1, 2, 3, 4}}}.Payload()}}, reason: "bad-protocol", fatal: true},
	} {
		r := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
		by := r
		if x.by != nil {
			by = x.by
		}
		d := x.make(t, by, signers()[SigECDSA256])
		if x.edit != nil {
			d = x.edit(d)
		}
		p, err := r.Open(d, x.last, signers()[SigECDSA256].Public())
		if p != nil || IsFatal(err) != x.fatal {
			t.Errorf("%s: %+v, fatal %v", name, p, IsFatal(err))
		}
		got := ReasonOf(err)
		if x.by != nil && formOf(err) != 0 {
			continue // what garbage looks like is chance
		}
		if got != x.reason {
			t.Errorf("%s: %q (%v), want %q", name, got, err, x.reason)
		}
	}
}

// Signing keys that don't belong to the SA, or to anything.
func TestPushKeys(t *testing.T) {
	r := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
	d, err := r.Seal(rand.Reader, samplePush(1), signers()[SigECDSA256])
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []SigAlgorithm{SigRSA, SigECDSA384} {
		if _, err := r.Open(d, 0, signers()[alg].Public()); reasonOf(err) != SignatureKey {
			t.Errorf("key of algorithm %d: %v", alg, err)
		}
		if _, err := r.Seal(rand.Reader, samplePush(1), signers()[alg]); reasonOf(err) != SignatureKey {
			t.Errorf("signing with algorithm %d: %v", alg, err)
		}
	}
	for _, der := range [][]byte{nil, {0x30, 0}, make([]byte, 300)} {
		if _, err := ParsePublic(der); reasonOf(err) != SignatureKey {
			t.Errorf("% x: %v", der, err)
		}
	}
	if _, _, err := SigAlgorithmOf(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), MaxRSABits), E: 3}); reasonOf(err) != SignatureKey {
		t.Errorf("a huge RSA key: %v", err)
	}
	for name, edit := range map[string]func(*RekeySA){
		"algorithm": func(r *RekeySA) { r.Algorithm = KEKDES },
		"key":       func(r *RekeySA) { r.Key = r.Key[:15] },
		"IV":        func(r *RekeySA) { r.IV = r.IV[:8] },
		"hash":      func(r *RekeySA) { r.SigAlg, r.SigHash = SigRSA, SigHashMD5 },
		"signature": func(r *RekeySA) { r.SigAlg = SigDSS },
	} {
		r := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
		edit(r)
		if _, err := r.Open(d, 0, signers()[SigECDSA256].Public()); err == nil || ReasonOf(err) == "internal" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Seal(rand.Reader, samplePush(1), signers()[SigRSA]); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

// Seal refuses what Open would.
func TestSealRefusals(t *testing.T) {
	r := rekeySA(KEKAESCBC, 128, SigECDSA256, 0)
	for name, x := range map[string]struct {
		edit func(*Push, *RekeySA)
		want Reason
	}{
		"SEQ 0":      {func(p *Push, _ *RekeySA) { p.Seq = 0 }, SeqMissing},
		"SA alone":   {func(p *Push, _ *RekeySA) { p.KD = nil }, InconsistentSA},
		"KD alone":   {func(p *Push, _ *RekeySA) { p.SA = nil }, InconsistentSA},
		"no key":     {func(p *Push, _ *RekeySA) { p.KD.TEKs = nil }, SPIWithoutKey},
		"Sender IDs": {func(p *Push, _ *RekeySA) { p.KD.SIDs = &SIDs{Bits: 8, Values: []uint32{1}} }, SIDUnexpected},
		"private":    {func(_ *Push, r *RekeySA) { r.RFCOnly = true }, InconsistentSA},
		"too long":   {func(p *Push, _ *RekeySA) { p.Delete.TEKs = make([]uint32, 16300) }, TooLong},
	} {
		p, r2 := samplePush(1), *r
		x.edit(p, &r2)
		if _, err := r2.Seal(rand.Reader, p, signers()[SigECDSA256]); reasonOf(err) != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := samplePush(1)
	p.SA.StripPrivate()
	r.RFCOnly = true
	if _, err := r.Seal(rand.Reader, p, signers()[SigECDSA256]); err != nil {
		t.Errorf("nothing private: %v", err)
	}
}

// Every single bit that changes on the way, each truncation, and each block behind the
// end is refused with a name, and the genuine message is taken afterwards.
func TestPushEveryBitCounts(t *testing.T) {
	for _, x := range []struct {
		r *RekeySA
		p *Push
	}{
		{rekeySA(KEKAESCBC, 128, SigRSA, SigHashSHA256), &Push{Seq: 5, Delete: Delete{AllKEKs: true}}},
		{rekeySA(KEKAESCBC, 128, SigECDSA256, 0), samplePush(5)},
		{rekeySA(KEK3DES, 192, SigECDSA256, 0), &Push{Seq: 5, Delete: Delete{TEKs: []uint32{300}}}},
		{rekeySA(KEKAESCBC, 256, SigECDSA256, 0), &Push{Seq: 5, Delete: Delete{TEKs: []uint32{300, 301}}}}, // no padding
	} {
		signer := signers()[x.r.SigAlg]
		d, err := x.r.Seal(rand.Reader, x.p, signer)
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, n int, b []byte) {
			t.Helper()
			p, err := x.r.Open(b, 0, signer.Public())
			if err == nil || p != nil || IsFatal(err) || ReasonOf(err) == "internal" {
				t.Errorf("%s %d: %+v, %v", what, n, p, err)
			}
		}
		for i := range 8 * len(d) {
			b := bytes.Clone(d)
			b[i/8] ^= 0x80 >> (i % 8)
			refused("bit", i, b)
		}
		for n := range d {
			refused("length", n, d[:n])
			if n >= isakmp.HeaderLen {
				b := bytes.Clone(d[:n])
				binary.BigEndian.PutUint32(b[24:], uint32(n))
				refused("honest length", n, b)
			}
		}
		for blocks := 1; blocks < 4; blocks++ {
			b := append(bytes.Clone(d), make([]byte, blocks*len(x.r.IV))...)
			refused("behind", blocks, b)
			binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
			refused("honest behind", blocks, b)
		}
		if _, err := x.r.Open(d, 4, signer.Public()); err != nil {
			t.Errorf("the genuine message: %v", err)
		}
	}
}
