package ks

// The key that signs rekeys: an RSA or ECDSA key by name in the state directory, made
// when it isn't there (the vendor's "crypto key generate rsa|ec label NAME").

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"getvpn/gdoi"
)

// signerBits is the modulus of a key that is made here (RFC 6407 §6: RSA 2048 is a
// MUST).
const signerBits = 2048

// Signer is a rekey signing key. Public is DER SubjectPublicKeyInfo.
type Signer struct {
	Key    crypto.Signer
	Public []byte
	Bits   int
	Alg    gdoi.SigAlgorithm
}

// ecdsaKey stands before the name of an ECDSA key in a reference; no name has a space.
const ecdsaKey = "ecdsa "

// KeyRef is how LoadSigner is asked for a key: RSA and ECDSA keys may have the same
// name.
func KeyRef(name string, ecdsa bool) string {
	if ecdsa {
		return ecdsaKey + name
	}
	return name
}

// LoadSigner reads the key of a reference (KeyRef), or makes and saves it: PKCS#8 in
// PEM, mode 0600; RSA of 2048 bits, or ECDSA over P-256. A key over P-384 or P-521 is
// taken as it is found. Making an RSA key takes a noticeable part of a second.
func LoadSigner(files Files, dir, ref string) (*Signer, error) {
	name, ec := strings.CutPrefix(ref, ecdsaKey)
	kind := "rsa"
	if ec {
		kind = "ecdsa"
	}
	path := filepath.Join(dir, kind+"-"+url.PathEscape(name)+".pem")
	b, err := files.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s, err := makeSigner(files, path, ec)
		if err != nil {
			return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
		}
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
	}
	defer clear(b)
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, fmt.Errorf("ks: rekey key %q: %s isn't PEM", name, path)
	}
	defer clear(p.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		return nil, fmt.Errorf("ks: rekey key %q: %s: %w", name, path, err)
	}
	var s *Signer
	switch k := k.(type) {
	case *rsa.PrivateKey:
		if !ec {
			s, err = NewSigner(k)
		}
	case *ecdsa.PrivateKey:
		if ec {
			s, err = NewSigner(k)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ks: rekey key %q: %s: %w", name, path, err)
	}
	if s == nil {
		return nil, fmt.Errorf("ks: rekey key %q: %s holds no %s key", name, path, strings.ToUpper(kind))
	}
	return s, nil
}

func makeSigner(files Files, path string, ec bool) (*Signer, error) {
	var k crypto.Signer
	var err error
	if ec {
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		k, err = rsa.GenerateKey(rand.Reader, signerBits)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	p := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(p)
	if err := files.WriteFile(path, p); err != nil {
		return nil, err
	}
	return NewSigner(k)
}

// NewSigner describes a key: RSA of 1024 bits and more, or ECDSA over P-256, P-384 or
// P-521.
func NewSigner(k crypto.Signer) (*Signer, error) {
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return nil, fmt.Errorf("ks: rekey key: %w", err)
	}
	alg, bits, err := gdoi.SigAlgorithmOf(k.Public())
	if err != nil {
		return nil, fmt.Errorf("ks: rekey key: %w", err)
	}
	return &Signer{Key: k, Public: pub, Bits: bits, Alg: alg}, nil
}

func (s *Signer) same(o *Signer) bool {
	if s == nil || o == nil {
		return s == o
	}
	return bytes.Equal(s.Public, o.Public)
}

// hash is what the signature is made with: ECDSA keys imply theirs (RFC 6407 §5.3.5).
func (s *Signer) hash(configured gdoi.SigHash) gdoi.SigHash {
	switch s.Alg {
	case gdoi.SigECDSA256:
		return gdoi.SigHashSHA256
	case gdoi.SigECDSA384:
		return gdoi.SigHashSHA384
	case gdoi.SigECDSA521:
		return gdoi.SigHashSHA512
	}
	return configured
}

// minRSABits is the modulus that an RSA signature with a hash needs at least: the
// digest with its DigestInfo and eleven octets of padding (RFC 8017 §9.2), and never
// below what members verify.
func minRSABits(h gdoi.SigHash) int {
	n := map[gdoi.SigHash]int{gdoi.SigHashSHA1: 20, gdoi.SigHashSHA256: 32, gdoi.SigHashSHA384: 48, gdoi.SigHashSHA512: 64}[h]
	return max(1024, 8*(n+19+11))
}
