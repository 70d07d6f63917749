package gdoi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"reflect"
	"sync"
	"testing"

	"getvpn/internal/secret"
)

// signers are one key of each algorithm, made once.
var signers = sync.OnceValue(func() map[SigAlgorithm]crypto.Signer {
	m := map[SigAlgorithm]crypto.Signer{}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	m[SigRSA] = r
	for alg, c := range map[SigAlgorithm]elliptic.Curve{SigECDSA256: elliptic.P256(), SigECDSA384: elliptic.P384(), SigECDSA521: elliptic.P521()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			panic(err)
		}
		m[alg] = k
	}
	return m
})

func rekeySA(alg KEKAlgorithm, bits int, sig SigAlgorithm, h SigHash) *RekeySA {
	iv := 16
	if alg == KEK3DES {
		iv = 8
	}
	k := make(secret.Bytes, bits/8)
	for i := range k {
		k[i] = byte(i * 7)
	}
	return &RekeySA{SPI: KEKSPI{1, 2, 3, 8: 4, 15: 5}, Algorithm: alg, IV: key(iv, 9), Key: k, SigAlg: sig, SigHash: h}
}

// samplePush is the sample policy as a rekey: no Sender IDs.
func samplePush(seq uint32) *Push {
	sa, kd := sample()
	kd.SIDs = nil
	return &Push{Seq: seq, SA: sa, KD: kd}
}

func TestPushEveryAlgorithm(t *testing.T) {
	for _, kek := range []struct {
		alg  KEKAlgorithm
		bits int
	}{{KEKAESCBC, 128}, {KEKAESCBC, 192}, {KEKAESCBC, 256}, {KEK3DES, 192}} {
		for _, sig := range []struct {
			alg  SigAlgorithm
			hash SigHash
			bare bool
		}{{SigRSA, SigHashSHA1, false}, {SigRSA, SigHashSHA256, false}, {SigRSA, SigHashSHA384, false}, {SigRSA, SigHashSHA512, false},
			{SigRSA, SigHashSHA256, true}, {SigECDSA256, 0, false}, {SigECDSA384, SigHashSHA1, false}, {SigECDSA521, SigHashSHA512, false}} {
			r := rekeySA(kek.alg, kek.bits, sig.alg, sig.hash)
			r.Bare = sig.bare
			signer := signers()[sig.alg]
			der, err := x509.MarshalPKIXPublicKey(signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			pub, err := ParsePublic(der)
			if err != nil {
				t.Fatal(err)
			}
			for seq, p := range []*Push{nil, samplePush(1), {Seq: 2, Delete: Delete{AllTEKs: true, AllKEKs: true}}, {Seq: 3, Delete: Delete{TEKs: []uint32{500, 600}, KEKs: []KEKSPI{{7}}}}} {
				if p == nil {
					continue
				}
				d, err := r.Seal(rand.Reader, p, signer)
				if err != nil {
					t.Fatalf("%v %v: %v", kek, sig, err)
				}
				if n, err := r.Size(p, pub); err != nil || n != len(d) {
					t.Errorf("size %d, %v, sent %d", n, err, len(d))
				}
				if bytes.Contains(d, r.Key) {
					t.Fatal("KEK in the clear")
				}
				got, err := r.Open(d, uint32(seq-1), pub)
				if err != nil {
					t.Fatalf("%v %v: %v", kek, sig, err)
				}
				if !reflect.DeepEqual(got, p) {
					t.Errorf("%v %v: got %+v, want %+v", kek, sig, got, p)
				}
				if _, err := r.Open(d, p.Seq, pub); reasonOf(err) != Replayed {
					t.Errorf("replay: %v", err)
				}
			}
		}
	}
}
