package gdoi

// Known answers of GROUPKEY-PUSH and its acknowledgement: testdata/push.json and
// ack.json. Keys, IV, number and content are fixed; RSA signatures of PKCS #1 v1.5 and
// ECDSA ones of RFC 6979 are then too.

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"getvpn/gdoi/isakmp"
)

var record = flag.Bool("record", false, "write testdata/push.json anew")

// pushVector is one message. Octets are hexadecimal; Signer is PKCS #8, Body what is
// encrypted, Covered what is signed.
type pushVector struct {
	Name      string
	Algorithm KEKAlgorithm
	SPI       string
	IV, Key   string
	SigAlg    SigAlgorithm
	SigHash   SigHash
	Bare      bool
	Signer    string
	Seq       uint32
	DeleteAll bool // the content: everything is deleted; else the policy of sample
	Covered   string
	Body      string
	Datagram  string
}

func (v *pushVector) parts(t *testing.T) (*RekeySA, *Push, crypto.Signer) {
	t.Helper()
	k, err := x509.ParsePKCS8PrivateKey(unhex(t, v.Signer))
	if err != nil {
		t.Fatal(err)
	}
	r := &RekeySA{SPI: KEKSPI(unhex(t, v.SPI)), Algorithm: v.Algorithm, IV: unhex(t, v.IV), Key: unhex(t, v.Key), SigAlg: v.SigAlg, SigHash: v.SigHash, Bare: v.Bare}
	p := samplePush(v.Seq)
	p.SA.GAP.Capability = &Capability{Major: 1, Minor: 0, Mini: 1, Features: 3}
	if v.DeleteAll {
		p = &Push{Seq: v.Seq, Delete: Delete{AllTEKs: true, AllKEKs: true}}
	}
	return r, p, k.(crypto.Signer)
}

const pushVectors = "testdata/push.json"

func TestPushVectors(t *testing.T) {
	if *record {
		recordPush(t)
	}
	raw, err := os.ReadFile(pushVectors)
	if err != nil {
		t.Fatal(err)
	}
	var all []pushVector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 8 {
		t.Fatalf("%d vectors", len(all))
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			r, p, signer := v.parts(t)
			want := unhex(t, v.Datagram)
			got, err := r.Seal(nil, p, signer)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v\n% x\nwant\n% x", err, got, want)
			}
			back, err := r.Open(want, v.Seq-1, signer.Public())
			if err != nil || !reflect.DeepEqual(back, p) {
				t.Errorf("%+v %v", back, err)
			}
			body, err := r.decrypt(want[isakmp.HeaderLen:])
			if err != nil || hex.EncodeToString(body) != v.Body {
				t.Errorf("body % x %v", body, err)
			}
		})
	}
}

// recordPush writes the vectors, with the keys of this run.
func recordPush(t *testing.T) {
	var all []pushVector
	for _, x := range []struct {
		name string
		r    *RekeySA
		bare bool
		del  bool
	}{
		{"AES-128, RSA, SHA-1", rekeySA(KEKAESCBC, 128, SigRSA, SigHashSHA1), false, false},
		{"AES-128, RSA, SHA-256", rekeySA(KEKAESCBC, 128, SigRSA, SigHashSHA256), false, false},
		{"AES-192, RSA, SHA-384", rekeySA(KEKAESCBC, 192, SigRSA, SigHashSHA384), false, true},
		{"AES-256, RSA, SHA-512", rekeySA(KEKAESCBC, 256, SigRSA, SigHashSHA512), false, false},
		{"3DES, RSA, SHA-256, bare hash", rekeySA(KEK3DES, 192, SigRSA, SigHashSHA256), true, false},
		{"AES-128, ECDSA-256", rekeySA(KEKAESCBC, 128, SigECDSA256, 0), false, false},
		{"AES-256, ECDSA-384", rekeySA(KEKAESCBC, 256, SigECDSA384, SigHashSHA384), false, true},
		{"AES-256, ECDSA-521", rekeySA(KEKAESCBC, 256, SigECDSA521, 0), false, false},
	} {
		der, err := x509.MarshalPKCS8PrivateKey(signers()[x.r.SigAlg])
		if err != nil {
			t.Fatal(err)
		}
		v := pushVector{Name: x.name, Algorithm: x.r.Algorithm, SPI: hex.EncodeToString(x.r.SPI[:]), IV: hex.EncodeToString(x.r.IV), Key: hex.EncodeToString(x.r.Key),
			SigAlg: x.r.SigAlg, SigHash: x.r.SigHash, Bare: x.bare, Signer: hex.EncodeToString(der), Seq: uint32(len(all) + 1), DeleteAll: x.del}
		r, p, signer := v.parts(t)
		d, err := r.Seal(nil, p, signer)
		if err != nil {
			t.Fatal(err)
		}
		body, err := r.decrypt(d[isakmp.HeaderLen:])
		if err != nil {
			t.Fatal(err)
		}
		n, err := r.signatureLen(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		ps, rest, err := isakmp.ParseChain(isakmp.PayloadSEQ, body)
		if err != nil || len(ps) < 2 {
			t.Fatal(err)
		}
		v.Datagram, v.Body = hex.EncodeToString(d), hex.EncodeToString(body)
		v.Covered = hex.EncodeToString(append([]byte("rekey"), append(bytes.Clone(d[:isakmp.HeaderLen]), body[:len(body)-rest-n-isakmp.GenericLen]...)...))
		all = append(all, v)
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pushVectors, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ackVector is an acknowledgement with its key, computed apart from this code.
type ackVector struct {
	Type     AckRequest
	SPI, KEK string
	Output   bool // L is the length of the prf's output
	AckKey   string
	Seq      uint32
	ID       string // body of the ID payload
	Datagram string
}

func TestAckVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/ack.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []ackVector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 4 {
		t.Fatalf("%d vectors", len(all))
	}
	for i, v := range all {
		r := &RekeySA{SPI: KEKSPI(unhex(t, v.SPI)), Key: unhex(t, v.KEK), Dialect: Dialect{AckOutputLength: v.Output}}
		k := r.AckKey(v.Type)
		if hex.EncodeToString(k.key) != v.AckKey {
			t.Errorf("%d: key %x", i, []byte(k.key))
		}
		id, err := isakmp.ParseID(unhex(t, v.ID))
		if err != nil {
			t.Fatal(err)
		}
		if d := k.Seal(v.Seq, id, r.SPI); hex.EncodeToString(d) != v.Datagram {
			t.Errorf("%d: % x", i, d)
		}
		if seq, got, err := k.Open(unhex(t, v.Datagram)); err != nil || seq != v.Seq || !reflect.DeepEqual(got, id) {
			t.Errorf("%d: %d %v %v", i, seq, got, err)
		}
	}
}

// OpenSSL judges the vectors: it decrypts the body and verifies the signature over
// what the vector says is covered.
func TestPushVectorsByOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	raw, err := os.ReadFile(pushVectors)
	if err != nil {
		t.Fatal(err)
	}
	var all []pushVector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	openssl := func(t *testing.T, in []byte, args ...string) []byte {
		t.Helper()
		c := exec.Command("openssl", args...)
		c.Stdin = bytes.NewReader(in)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v: %s", args, err, out)
		}
		return out
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			_, _, signer := v.parts(t)
			cipher := fmt.Sprintf("-aes-%d-cbc", 4*len(v.Key))
			if v.Algorithm == KEK3DES {
				cipher = "-des-ede3-cbc"
			}
			d, body, covered := unhex(t, v.Datagram), unhex(t, v.Body), unhex(t, v.Covered)
			if got := openssl(t, d[isakmp.HeaderLen:], "enc", "-d", "-nopad", cipher, "-K", v.Key, "-iv", v.IV); !bytes.Equal(got, body) {
				t.Errorf("body % x", got)
			}
			plain := append([]byte("rekey"), append(bytes.Clone(d[:isakmp.HeaderLen]), body...)...)
			if !bytes.HasPrefix(plain, covered) {
				t.Fatal("what is covered isn't the message's beginning")
			}
			header := plain[len(covered):]
			sig := header[4 : int(header[2])<<8|int(header[3])]
			if signer, ok := signer.(*ecdsa.PrivateKey); ok {
				n := (signer.Params().BitSize + 7) / 8
				if len(sig) != 2*n {
					t.Fatalf("signature of %d octets", len(sig))
				}
				var err error
				if sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:])}); err != nil {
					t.Fatal(err)
				}
			}
			der, err := x509.MarshalPKIXPublicKey(signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			pub, sigFile := filepath.Join(dir, "pub"), filepath.Join(dir, "sig")
			if err := errors.Join(os.WriteFile(pub, der, 0o600), os.WriteFile(sigFile, sig, 0o600)); err != nil {
				t.Fatal(err)
			}
			hash := map[SigHash]string{SigHashSHA1: "-sha1", SigHashSHA256: "-sha256", SigHashSHA384: "-sha384", SigHashSHA512: "-sha512"}[v.SigHash]
			switch v.SigAlg {
			case SigECDSA256:
				hash = "-sha256"
			case SigECDSA384:
				hash = "-sha384"
			case SigECDSA521:
				hash = "-sha512"
			}
			if v.Bare {
				digest := openssl(t, covered, "dgst", hash, "-binary")
				file := filepath.Join(dir, "digest")
				if err := os.WriteFile(file, digest, 0o600); err != nil {
					t.Fatal(err)
				}
				openssl(t, nil, "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", pub, "-sigfile", sigFile, "-in", file)
				return
			}
			openssl(t, covered, "dgst", hash, "-keyform", "DER", "-verify", pub, "-signature", sigFile)
		})
	}
}
