package ike

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"errors"
	"fmt"

	"getvpn/internal/secret"
)

// This file encrypts message bodies: CBC over AES or 3DES with an explicit IV, zero
// padding (RFC 2409 App. B). The IV chain is the caller's.

// ErrCiphertext says that a body isn't whole blocks.
var ErrCiphertext = errors.New("encrypted body isn't a positive number of cipher blocks")

// Block is the cipher's block, 8 or 16 octets.
func (e Encryption) Block() int {
	if e == EncrAES {
		return aes.BlockSize
	}
	return des.BlockSize
}

// keyLen is the key's length in octets.
func (e Encryption) keyLen(bits int) int {
	if e == EncrAES {
		return bits / 8
	}
	return 24
}

// String is the name as show crypto isakmp sa has it.
func (e Encryption) String() string {
	switch e {
	case EncrAES:
		return "aes"
	case Encr3DES:
		return "3des"
	}
	return "unknown"
}

func (e Encryption) cipher(key secret.Bytes) (cipher.Block, error) {
	var b cipher.Block
	var err error
	switch e {
	case EncrAES:
		b, err = aes.NewCipher(key)
	case Encr3DES:
		b, err = des.NewTripleDESCipher(key)
	default:
		return nil, fmt.Errorf("encryption %d isn't implemented", e)
	}
	if err != nil {
		return nil, fmt.Errorf("phase-1 cipher: %w", err)
	}
	return b, nil
}

// seal encrypts the octets of b from at on, where they are, padded with zeros to whole
// blocks; it returns b with the padding, and the next IV.
func seal(c cipher.Block, iv, b []byte, at int) (sealed, next []byte) {
	n := c.BlockSize()
	if over := (len(b) - at) % n; over > 0 {
		b = append(b, make([]byte, n-over)...)
	}
	cipher.NewCBCEncrypter(c, iv).CryptBlocks(b[at:], b[at:])
	return b, bytes.Clone(b[len(b)-n:])
}

// open decrypts ct into a new slice, padding included, and returns the next IV.
func open(b cipher.Block, iv, ct []byte) (body, next []byte, err error) {
	n := b.BlockSize()
	if len(ct) == 0 || len(ct)%n != 0 {
		return nil, nil, ErrCiphertext
	}
	body = make([]byte, len(ct))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(body, ct)
	return body, append([]byte(nil), ct[len(ct)-n:]...), nil
}
