package ike

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"getvpn/internal/secret"
)

// This file is the key schedule of RFC 2409 §5 and App. B: SKEYID and its
// children, the cipher key's expansion, the IVs and the two authenticating hashes.
// It knows no message, only octet strings.

// Prf is HMAC with the negotiated hash (no PRF is defined otherwise, RFC 2409 §4).
func (h HashAlg) Prf(key []byte, parts ...[]byte) []byte {
	m := hmac.New(h.new, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// Sum is the negotiated hash itself, as the IVs and NAT-D take it.
func (h HashAlg) Sum(parts ...[]byte) []byte {
	s := h.new()
	for _, p := range parts {
		s.Write(p)
	}
	return s.Sum(nil)
}

// Valid tells whether the hash is implemented.
func (h HashAlg) Valid() bool {
	return h == HashSHA1 || h == HashSHA256 || h == HashSHA384 || h == HashSHA512
}

func (h HashAlg) new() hash.Hash {
	switch h {
	case HashSHA256:
		return sha256.New()
	case HashSHA384:
		return sha512.New384()
	case HashSHA512:
		return sha512.New()
	}
	return sha1.New()
}

// String is the name as show crypto isakmp sa has it.
func (h HashAlg) String() string {
	switch h {
	case HashSHA1:
		return "sha"
	case HashSHA256:
		return "sha256"
	case HashSHA384:
		return "sha384"
	case HashSHA512:
		return "sha512"
	}
	return "unknown"
}

// SKEYIDPSK is SKEYID under pre-shared keys: prf(psk, Ni_b | Nr_b).
func SKEYIDPSK(h HashAlg, psk secret.Bytes, ni, nr []byte) secret.Bytes {
	return h.Prf(psk, ni, nr)
}

// SKEYIDSig is SKEYID under signatures: prf(Ni_b | Nr_b, g^xy).
func SKEYIDSig(h HashAlg, ni, nr []byte, gxy secret.Bytes) secret.Bytes {
	return h.Prf(append(append([]byte(nil), ni...), nr...), gxy)
}

// Keymat is what phase 1 derives. Key is the cipher key, already expanded.
type Keymat struct {
	Hash    HashAlg
	SKEYID  secret.Bytes
	D, A, E secret.Bytes
	Key     secret.Bytes
}

// NewKeymat derives SKEYID_d, _a, _e and a cipher key of keyLen octets.
func NewKeymat(h HashAlg, skeyid, gxy secret.Bytes, ci, cr [8]byte, keyLen int) Keymat {
	k := Keymat{Hash: h, SKEYID: skeyid}
	k.D = h.Prf(skeyid, gxy, ci[:], cr[:], []byte{0})
	k.A = h.Prf(skeyid, k.D, gxy, ci[:], cr[:], []byte{1})
	k.E = h.Prf(skeyid, k.A, gxy, ci[:], cr[:], []byte{2})
	k.Key = expandKey(h, k.E, keyLen)
	return k
}

// expandKey takes the leading octets of SKEYID_e, or of K1 | K2 | … when it is too
// short: K1 = prf(SKEYID_e, 0), Kn = prf(SKEYID_e, Kn-1) (RFC 2409 App. B).
func expandKey(h HashAlg, e secret.Bytes, n int) secret.Bytes {
	if len(e) >= n {
		return e[:n].Clone()
	}
	var out secret.Bytes
	last := []byte{0}
	for len(out) < n {
		last = h.Prf(e, last)
		out = append(out, last...)
	}
	return out[:n]
}

// Zero overwrites all of it.
func (k *Keymat) Zero() {
	for _, b := range []secret.Bytes{k.SKEYID, k.D, k.A, k.E, k.Key} {
		b.Zero()
	}
}

// IV1 is the IV of the first encrypted phase-1 message: hash(g^xi | g^xr), cut to the
// cipher's block.
func IV1(h HashAlg, gxi, gxr []byte, block int) []byte { return h.Sum(gxi, gxr)[:block] }

// IV2 is the first IV of a phase-2 exchange: hash(last phase-1 ciphertext block |
// M-ID), cut to the block.
func IV2(h HashAlg, lastBlock []byte, mid uint32, block int) []byte {
	return h.Sum(lastBlock, be32(mid))[:block]
}

// HashI authenticates the initiator; sai is the body of its SA payload, idi of its ID.
func (k *Keymat) HashI(gxi, gxr []byte, ci, cr [8]byte, sai, idi []byte) []byte {
	return k.Hash.Prf(k.SKEYID, gxi, gxr, ci[:], cr[:], sai, idi)
}

// HashR authenticates the responder; sai is the same body, idr of its own ID.
func (k *Keymat) HashR(gxi, gxr []byte, ci, cr [8]byte, sai, idr []byte) []byte {
	return k.Hash.Prf(k.SKEYID, gxr, gxi, cr[:], ci[:], sai, idr)
}

func be32(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
