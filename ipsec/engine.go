package ipsec

// The cryptography of one SA for one goroutine: cipher modes, hash state and scratch
// that are reset for each packet instead of made anew.

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
)

// ivSetter is what the standard library's CBC modes offer besides their interface.
type ivSetter interface {
	cipher.BlockMode
	SetIV([]byte)
}

var errNoSetIV = errors.New("cipher mode can't be given a new IV")

// engine seals or opens; which of the fields are set depends on the transform.
type engine struct {
	tr    Transform
	iv    int
	icv   int
	aead  cipher.AEAD
	cbc   ivSetter
	mac   hash.Hash
	nonce [12]byte // salt, then the packet's IV
	sum   [sha512.Size]byte
	// GCM with an 8-octet ICV is opened by sealing twice (see openShort).
	plain, again []byte
}

func (e *engine) init(sa *SA, sealing bool) error {
	sa.mu.Lock()
	defer sa.mu.Unlock()
	if len(sa.key) != sa.tr.CipherKeyLen() || len(sa.authKey) != sa.tr.AuthKeyLen() {
		return ErrKeyLength // wiped
	}
	e.tr, e.iv, e.icv = sa.tr, sa.tr.ivLen(), sa.tr.icvLen()
	var block cipher.Block
	var err error
	switch sa.tr.Cipher {
	case CipherNull:
	case Cipher3DES:
		block, err = des.NewTripleDESCipher(sa.key)
	case CipherAESCBC:
		block, err = aes.NewCipher(sa.key)
	case CipherAESGCM, CipherAESGMAC:
		n := len(sa.key) - 4
		copy(e.nonce[:4], sa.key[n:])
		if block, err = aes.NewCipher(sa.key[:n]); err == nil {
			// Go makes no tag below 12 octets; the short one is the front of the whole.
			e.aead, err = cipher.NewGCMWithTagSize(block, max(e.icv, 12))
		}
	}
	if err != nil {
		return fmt.Errorf("%v: %w", sa.tr, err)
	}
	if sa.tr.needsRandomIV() {
		mode := cipher.NewCBCDecrypter
		if sealing {
			mode = cipher.NewCBCEncrypter
		}
		var ok bool
		if e.cbc, ok = mode(block, make([]byte, block.BlockSize())).(ivSetter); !ok {
			return errNoSetIV
		}
	}
	switch sa.tr.Auth {
	case AuthSHA1:
		e.mac = hmac.New(sha1.New, sa.authKey)
	case AuthSHA256:
		e.mac = hmac.New(sha256.New, sa.authKey)
	case AuthSHA384:
		e.mac = hmac.New(sha512.New384, sa.authKey)
	case AuthSHA512:
		e.mac = hmac.New(sha512.New, sa.authKey)
	}
	return nil
}

// tag computes the HMAC over b.
func (e *engine) tag(b []byte) []byte {
	e.mac.Reset()
	e.mac.Write(b)
	return e.mac.Sum(e.sum[:0])[:e.icv]
}

// seal encrypts buf[pay:end] and puts the ICV behind it; buf[esp:pay] holds SPI,
// sequence number and IV. buf has 16 octets more than needed.
func (e *engine) seal(buf []byte, esp, pay, end int) {
	switch e.tr.Cipher {
	case CipherAESGCM:
		copy(e.nonce[4:], buf[pay-e.iv:pay])
		e.aead.Seal(buf[pay:pay], e.nonce[:], buf[pay:end], buf[esp:esp+espHeaderLen])
		return
	case CipherAESGMAC: // RFC 4543 §3.3: everything is additional data, the IV too
		copy(e.nonce[4:], buf[pay-e.iv:pay])
		e.aead.Seal(buf[end:end], e.nonce[:], nil, buf[esp:end])
		return
	case CipherAESCBC, Cipher3DES:
		e.cbc.SetIV(buf[pay-e.iv : pay])
		e.cbc.CryptBlocks(buf[pay:end], buf[pay:end])
	}
	copy(buf[end:], e.tag(buf[esp:end]))
}

// open verifies b, an ESP packet from its SPI to its ICV, and decrypts it in place.
// The lengths have been checked. False means that the ICV is wrong; what b then holds
// isn't defined.
func (e *engine) open(b []byte) bool {
	pay, end := espHeaderLen+e.iv, len(b)-e.icv
	switch e.tr.Cipher {
	case CipherAESGCM:
		copy(e.nonce[4:], b[espHeaderLen:pay])
		if e.icv < 12 {
			return e.openShort(b, pay, end)
		}
		_, err := e.aead.Open(b[pay:pay], e.nonce[:], b[pay:], b[:espHeaderLen])
		return err == nil
	case CipherAESGMAC:
		copy(e.nonce[4:], b[espHeaderLen:pay])
		_, err := e.aead.Open(nil, e.nonce[:], b[end:], b[:end])
		return err == nil
	}
	if subtle.ConstantTimeCompare(e.tag(b[:end]), b[end:]) != 1 {
		return false
	}
	if e.cbc != nil {
		e.cbc.SetIV(b[espHeaderLen:pay])
		e.cbc.CryptBlocks(b[pay:end], b[pay:end])
	}
	return true
}

// openShort opens GCM whose ICV is shorter than what the standard library verifies.
// GCM encrypts by XOR, so sealing the ciphertext under the same nonce gives the
// plaintext, and sealing that gives the tag to compare with. Nothing of it leaves
// before the comparison.
func (e *engine) openShort(b []byte, pay, end int) bool {
	if e.plain == nil {
		e.plain, e.again = make([]byte, 0, maxPacket+16), make([]byte, 0, maxPacket+16)
	}
	n := end - pay
	plain := e.aead.Seal(e.plain, e.nonce[:], b[pay:end], nil)[:n]
	again := e.aead.Seal(e.again, e.nonce[:], plain, b[:espHeaderLen])
	if subtle.ConstantTimeCompare(again[n:n+e.icv], b[end:]) != 1 {
		return false
	}
	copy(b[pay:end], plain)
	return true
}
