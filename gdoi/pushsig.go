package gdoi

// The signature of GROUPKEY-PUSH (RFC 6407 §4, §5.3.5, §5.3.6): over the string
// "rekey", the header and all payloads before SIG, unencrypted.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"

	"getvpn/gdoi/isakmp"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRSABits bounds what a signing key may cost a member.
const MaxRSABits = 8192

// minRSABits is the smallest modulus that Go's crypto/rsa works with.
const minRSABits = 1024

// ParsePublic reads the key that verifies rekeys, a DER SubjectPublicKeyInfo: RSA of
// 1024 to MaxRSABits, or ECDSA over P-256, P-384 or P-521.
func ParsePublic(der []byte) (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, refuse(SignatureKey, "%w", err)
	}
	if _, _, err := SigAlgorithmOf(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// SigAlgorithmOf says which SIG_ALGORITHM and SIG_KEY_LENGTH (bits) belong to a key.
func SigAlgorithmOf(pub crypto.PublicKey) (SigAlgorithm, int, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= minRSABits && n <= MaxRSABits {
			return SigRSA, n, nil
		}
		return 0, 0, refuse(SignatureKey, "RSA key of %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return SigECDSA256, 256, nil
		case elliptic.P384():
			return SigECDSA384, 384, nil
		case elliptic.P521():
			return SigECDSA521, 521, nil
		}
	}
	return 0, 0, refuse(SignatureKey, "key of type %T", pub)
}

// hash is the hash of the signature. ECDSA implies it (§5.3.5, RFC 4754 §4).
func (r *RekeySA) hash() (crypto.Hash, error) {
	switch r.SigAlg {
	case SigECDSA256:
		return crypto.SHA256, nil
	case SigECDSA384:
		return crypto.SHA384, nil
	case SigECDSA521:
		return crypto.SHA512, nil
	case SigRSA:
		switch r.SigHash {
		case SigHashSHA1:
			return crypto.SHA1, nil
		case SigHashSHA256:
			return crypto.SHA256, nil
		case SigHashSHA384:
			return crypto.SHA384, nil
		case SigHashSHA512:
			return crypto.SHA512, nil
		}
	}
	return 0, refuse(UnsupportedAlgorithm, "signature algorithm %d with hash %d", r.SigAlg, r.SigHash)
}

// signatureLen is how long the signature of a key is; the key must be one of the
// SA's algorithm.
func (r *RekeySA) signatureLen(pub crypto.PublicKey) (int, error) {
	if _, err := r.hash(); err != nil {
		return 0, err
	}
	alg, bits, err := SigAlgorithmOf(pub)
	switch {
	case err != nil:
		return 0, err
	case alg != r.SigAlg:
		return 0, refuse(SignatureKey, "key of algorithm %d, the SA has %d", alg, r.SigAlg)
	case alg == SigRSA:
		return pub.(*rsa.PublicKey).Size(), nil
	}
	return 2 * ((bits + 7) / 8), nil
}

// digest hashes what is signed. covered is header and payloads; length replaces the
// header's.
func (r *RekeySA) digest(covered []byte, length uint32) []byte {
	alg, err := r.hash()
	if err != nil {
		return nil
	}
	h := alg.New()
	h.Write([]byte("rekey"))
	h.Write(covered[:24])
	h.Write(binary.BigEndian.AppendUint32(nil, length))
	h.Write(covered[isakmp.HeaderLen:])
	return h.Sum(nil)
}

func (r *RekeySA) sign(rand io.Reader, digest []byte, key crypto.Signer) ([]byte, error) {
	alg, err := r.hash()
	if err != nil {
		return nil, err
	}
	if r.SigAlg == SigRSA {
		if r.Bare {
			alg = 0
		}
		sig, err := key.Sign(rand, digest, alg)
		if err != nil {
			return nil, refuse(SignatureKey, "signing: %w", err)
		}
		return sig, nil
	}
	n, err := r.signatureLen(key.Public())
	if err != nil {
		return nil, err
	}
	der, err := key.Sign(rand, digest, alg)
	if err != nil {
		return nil, refuse(SignatureKey, "signing: %w", err)
	}
	seq := cryptobyte.String(der)
	a, b := new(big.Int), new(big.Int)
	if !seq.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1Integer(a) || !seq.ReadASN1Integer(b) || !seq.Empty() {
		return nil, refuse(SignatureKey, "the signer's ECDSA signature isn't DER")
	}
	if a.Sign() <= 0 || b.Sign() <= 0 || a.BitLen() > n*4 || b.BitLen() > n*4 {
		return nil, refuse(SignatureKey, "the signer's ECDSA signature is out of range")
	}
	out := make([]byte, n)
	a.FillBytes(out[:n/2])
	b.FillBytes(out[n/2:])
	return out, nil
}

// verify tries each length in the header: RFC 6407 doesn't settle whether the one on
// the wire is signed or the one without padding.
func (r *RekeySA) verify(covered []byte, lengths []uint32, sig []byte, pub crypto.PublicKey) error {
	alg, err := r.hash()
	if err != nil {
		return err
	}
	n, err := r.signatureLen(pub)
	if err != nil {
		return err
	}
	for _, l := range lengths {
		digest := r.digest(covered, l)
		switch k := pub.(type) {
		case *rsa.PublicKey:
			// Also without DigestInfo, as RFC 2409 §5.1 has it for phase 1.
			if len(sig) == n && (rsa.VerifyPKCS1v15(k, alg, digest, sig) == nil || rsa.VerifyPKCS1v15(k, 0, digest, sig) == nil) {
				return nil
			}
		case *ecdsa.PublicKey:
			if len(sig) == n && ecdsa.Verify(k, digest, new(big.Int).SetBytes(sig[:n/2]), new(big.Int).SetBytes(sig[n/2:])) {
				return nil
			}
			if ecdsa.VerifyASN1(k, digest, sig) {
				return nil
			}
		}
	}
	return &Error{Reason: BadSignature}
}
