package ks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/model/event"
)

// An ECDSA key is made, found again, and is another one than the RSA key of its name;
// keys over the larger curves are taken as they are found.
func TestECDSASigners(t *testing.T) {
	files := &memFiles{crash: func(string) error { return nil }}
	a, err := LoadSigner(files, "d", KeyRef("K", true))
	if err != nil || a.Alg != gdoi.SigECDSA256 || a.Bits != 256 {
		t.Fatal(a, err)
	}
	if b, err := LoadSigner(files, "d", KeyRef("K", true)); err != nil || !a.same(b) {
		t.Errorf("another key the second time: %v", err)
	}
	for name, c := range map[string]struct {
		curve elliptic.Curve
		alg   gdoi.SigAlgorithm
		hash  gdoi.SigHash
	}{"P384": {elliptic.P384(), gdoi.SigECDSA384, gdoi.SigHashSHA384}, "P521": {elliptic.P521(), gdoi.SigECDSA521, gdoi.SigHashSHA512}} {
		k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, _ := x509.MarshalPKCS8PrivateKey(k)
		files.m["d/ecdsa-"+name+".pem"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		s, err := LoadSigner(files, "d", KeyRef(name, true))
		if err != nil || s.Alg != c.alg || s.hash(gdoi.SigHashSHA1) != c.hash {
			t.Errorf("%s: %+v %v", name, s, err)
		}
	}
	files.m["d/rsa-K.pem"] = files.m["d/ecdsa-K.pem"]
	if _, err := LoadSigner(files, "d", "K"); err == nil {
		t.Error("an ECDSA key was taken for an RSA key")
	}
}

// The events of a signing key that isn't there or is too short.
func TestSigningKeyEvents(t *testing.T) {
	c, g := conf(permit(1))
	g.Local.RekeyAuthRSA, g.Local.RekeyUnicast = "K", true
	_, ev, err := Resolve(c, g, func(string) (*Signer, error) { return nil, fs.ErrPermission })
	if !errors.Is(err, fs.ErrPermission) || len(ev) != 1 || ev[0] != event.Event(event.KSNoRSAKeys{Key: "K", Group: "g"}) {
		t.Errorf("%v %v", ev, err)
	}
	g.Local.RekeySigHash = "sha512"
	_, ev, err = Resolve(c, g, func(string) (*Signer, error) { return &Signer{Alg: gdoi.SigRSA, Bits: 768}, nil })
	if err == nil || len(ev) != 1 || ev[0].Row().Mnemonic != "KS_REKEY_AUTH_KEY_LENGTH_INSUFFICIENT" {
		t.Errorf("%v %v", ev, err)
	}
	// What is asked of members: acknowledgements of unicast rekeys, in an RFC group only when configured.
	g.Local.RekeySigHash = ""
	for _, x := range []struct {
		interop bool
		ack     config.Ack
		want    gdoi.AckRequest
	}{{false, config.AckCisco, gdoi.AckKEKSHA256}, {false, config.AckAny, gdoi.AckKEKSHA256}, {true, config.AckCisco, 0}, {true, config.AckInteroperable, gdoi.AckKEKSHA256}} {
		g.Interop, g.Local.RekeyAck = x.interop, x.ack
		s, _, err := Resolve(c, g, func(string) (*Signer, error) { return testSigner(), nil })
		if err != nil || s.Rekey.Ack != x.want {
			t.Errorf("%+v: %+v %v", x, s, err)
		}
	}
}

// A group whose rekeys are signed by RSA, from registration to acknowledgement.
func TestRekeysSignedByRSA(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []gdoi.SigHash{gdoi.SigHashSHA1, gdoi.SigHashSHA256, gdoi.SigHashSHA384, gdoi.SigHashSHA512} {
		live(t, func() *Setup {
			r := unicast(0, 0)
			r.Signer, r.Hash, r.Ack = s, h, gdoi.AckKEKSHA512
			return lifeSetup(time.Hour, r)
		}, func(t *testing.T, l *life) {
			m := l.join(t, 0)
			l.g.Rekey(true, false)
			after(time.Second)
			if g := l.group(); len(m.bad) != 0 || len(m.numbers()) != 1 || g.Members.At(0).AcksRcvd != 1 {
				t.Errorf("hash %d: %v %+v", h, m.bad, g.Members)
			}
		})
	}
}

// Ten thousand unicast members: from the command to the last acknowledgement, members
// and wire being function calls; what is left is the key server's own work.
func BenchmarkRekeyTenThousand(b *testing.B) {
	benchRekey(b, 10000)
}
