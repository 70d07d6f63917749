package ks

// The key that signs rekeys: an RSA or ECDSA key by name, made when it isn't there (the
// vendor's "crypto key generate rsa|ec label NAME"). Where it is kept: state_signer.go.

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

// KeyRef is how a SignerStore is asked for a key: RSA and ECDSA keys may have the same
// name.
func KeyRef(name string, ecdsa bool) string {
	if ecdsa {
		return ecdsaKey + name
	}
	return name
}

// parseSigner reads a key in PEM: PKCS#8. A key over P-384 or P-521 is taken as it is
// found.
func parseSigner(b []byte, ec bool) (*Signer, error) {
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, errors.New("it isn't PEM")
	}
	defer clear(p.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		return nil, err
	}
	switch k := k.(type) {
	case *rsa.PrivateKey:
		if !ec {
			return NewSigner(k)
		}
	case *ecdsa.PrivateKey:
		if ec {
			return NewSigner(k)
		}
	}
	return nil, fmt.Errorf("it holds no %s key", strings.ToUpper(signerKind(ec)))
}

// makeSigner makes a key, in PEM: RSA of 2048 bits, or ECDSA over P-256. An RSA key takes
// a noticeable part of a second.
func makeSigner(ec bool) ([]byte, error) {
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
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func signerKind(ec bool) string {
	if ec {
		return "ecdsa"
	}
	return "rsa"
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
