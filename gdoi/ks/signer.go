package ks

// The key that signs rekeys: an RSA key by name in the state directory, made when it
// isn't there (the vendor's "crypto key generate rsa label NAME").

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
)

// signerBits is the modulus of a key that is made here (RFC 6407 §6: RSA 2048 is a
// MUST).
const signerBits = 2048

// Signer is a rekey signing key. Public is DER SubjectPublicKeyInfo.
type Signer struct {
	Key    crypto.Signer
	Public []byte
	Bits   int
}

// LoadSigner reads the key called name, or makes and saves it: PKCS#8 in PEM, mode
// 0600. Making one takes a noticeable part of a second.
func LoadSigner(files Files, dir, name string) (*Signer, error) {
	path := filepath.Join(dir, "rsa-"+url.PathEscape(name)+".pem")
	b, err := files.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k, err := rsa.GenerateKey(rand.Reader, signerBits)
		if err != nil {
			return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
		}
		p := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		defer clear(p)
		if err := files.WriteFile(path, p); err != nil {
			return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
		}
		return newSigner(k)
	case err != nil:
		return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
	}
	defer clear(b)
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, fmt.Errorf("ks: rekey key %q: %s isn't PEM", name, path)
	}
	k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		return nil, fmt.Errorf("ks: rekey key %q: %s: %w", name, path, err)
	}
	r, ok := k.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("ks: rekey key %q: %s holds no RSA key", name, path)
	}
	return newSigner(r)
}

func newSigner(k *rsa.PrivateKey) (*Signer, error) {
	pub, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("ks: rekey key: %w", err)
	}
	return &Signer{Key: k, Public: pub, Bits: k.N.BitLen()}, nil
}
