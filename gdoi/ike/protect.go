package ike

import (
	"crypto/cipher"
	"fmt"

	"getvpn/gdoi/isakmp"
)

// This file protects phase-2 style messages (GROUPKEY-PULL, informational) under a
// phase-1 SA. It is pure: the IV chain is the caller's.

// protector is the part of an SA that never changes after phase 1.
type protector struct {
	ci, cr    isakmp.Cookie
	encr      Encryption
	km        Keymat
	block     cipher.Block
	lastBlock []byte // of phase 1's ciphertext; every exchange's IV starts from it
}

// iv is the first IV of the exchange mid.
func (p *protector) iv(mid uint32) []byte {
	return IV2(p.km.Hash, p.lastBlock, mid, p.encr.Block())
}

// hash is prf(SKEYID_a, M-ID | parts…).
func (p *protector) hash(mid uint32, parts ...[]byte) []byte {
	all := make([][]byte, 0, len(parts)+1)
	all = append(append(all, be32(mid)), parts...)
	return p.km.Hash.Prf(p.km.A, all...)
}

// seal makes a whole datagram and the next IV.
func (p *protector) seal(t isakmp.ExchangeType, mid uint32, iv []byte, payloads []isakmp.Payload) (datagram, next []byte, err error) {
	return sealMessage(p.block, isakmp.Header{ICookie: p.ci, RCookie: p.cr, Exchange: t,
		MessageID: mid}, iv, payloads)
}

// sealMessage encrypts payloads under the header given.
func sealMessage(b cipher.Block, h isakmp.Header, iv []byte, payloads []isakmp.Payload) (datagram, next []byte, err error) {
	size := isakmp.HeaderLen + b.BlockSize()
	for _, p := range payloads {
		size += isakmp.GenericLen + len(p.Body)
	}
	datagram, err = isakmp.AppendChain(make([]byte, isakmp.HeaderLen, size), payloads)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt: %w", err)
	}
	datagram, next = seal(b, iv, datagram, isakmp.HeaderLen)
	if len(datagram) > 65535 {
		return nil, nil, fmt.Errorf("encrypt: message of %d octets doesn't fit a datagram", len(datagram))
	}
	h.NextPayload, h.Version, h.Flags = isakmp.FirstType(payloads), isakmp.Version10, isakmp.FlagEncrypted
	h.Length = uint32(len(datagram))
	h.AppendTo(datagram[:0])
	return datagram, next, nil
}

// openMessage decrypts a datagram whose header was parsed; chain is the plaintext of
// payloads, padding excluded.
func openMessage(b cipher.Block, h isakmp.Header, iv, datagram []byte) (payloads []isakmp.Payload, chain, next []byte, err error) {
	if !h.Encrypted() {
		return nil, nil, nil, &isakmp.MalformedError{Reason: isakmp.NotEncrypted, Offset: 19}
	}
	body, next, err := open(b, iv, datagram[isakmp.HeaderLen:])
	if err != nil {
		return nil, nil, nil, &refusal{DropCiphertext, err}
	}
	payloads, rest, err := isakmp.ParseChain(h.NextPayload, body)
	if err != nil {
		return nil, nil, nil, &refusal{DropDecrypt, err}
	}
	if !plausiblePadding(body[len(body)-rest:], b.BlockSize()) {
		return nil, nil, nil, refuse(DropTrailing, "octets behind the payloads")
	}
	return payloads, body[:len(body)-rest], next, nil
}

// plausiblePadding judges what follows the chain. No HASH covers it, and its last block
// becomes the next IV, so a block that somebody appended must not pass. Less than a
// block may be anything. A whole one is what RFC 2409 §5 adds to a chain that fills its
// blocks: zeros and their count (some peers count that octet too).
func plausiblePadding(pad []byte, block int) bool {
	if len(pad) < block {
		return true
	}
	if len(pad) > block {
		return false
	}
	n := len(pad) - 1
	for _, c := range pad[:n] {
		if c != 0 {
			return false
		}
	}
	return int(pad[n]) == n || int(pad[n]) == n+1 || pad[n] == 0
}

// openHashed decrypts and verifies a message whose first payload is
// HASH(1) = prf(SKEYID_a, M-ID | rest): the first message of every exchange here
// (RFC 2409 §5.7, RFC 6407 §3.2).
func (p *protector) openHashed(h isakmp.Header, datagram []byte) ([]isakmp.Payload, error) {
	payloads, chain, _, err := openMessage(p.block, h, p.iv(h.MessageID), datagram)
	if err != nil {
		return nil, err
	}
	if isakmp.FirstType(payloads) != isakmp.PayloadHash {
		return nil, refuse(DropDecrypt, "first payload isn't HASH")
	}
	if !equalCT(payloads[0].Body, p.hash(h.MessageID, isakmp.RawAfterFirst(payloads, chain))) {
		return nil, refuse(DropHash, "HASH(1) is wrong")
	}
	return payloads, nil
}

// pair is the key of the SA database.
type pair [16]byte

func pairOf(ci, cr isakmp.Cookie) (k pair) {
	copy(k[:8], ci[:])
	copy(k[8:], cr[:])
	return k
}
