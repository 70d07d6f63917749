// Package sealed keeps small secrets in files: AES-256-GCM under a key that is a
// systemd credential or a file that only its owner can read. A sealed file opens under
// its own name, on the machine and with the key that it was sealed with, and never when
// a later one is known to have been written; anything else is refused by name and
// nothing of it is used.
//
// A file is magic, format version, key ID, machine tag, serial number, salt, then the
// body with its tag. Everything before the body, and the file's name, is authenticated.
//
// Each file has an AES key and nonce of its own, derived (HKDF, RFC 5869) from the key
// and a salt of 256 bits. One AES key with random 96-bit nonces would have to be changed
// after 2^32 files (NIST SP 800-38D §8.3) and a counter would repeat as soon as somebody
// puts a directory back. The salt is a keyed hash of fresh random octets and of the body:
// a virtual machine whose random numbers repeat after a restore still doesn't seal two
// bodies under one nonce.
package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"getvpn/internal/secret"
)

// What can be wrong with a sealed file.
var (
	ErrNotSealed    = errors.New("sealed: not a sealed file, or cut short")
	ErrVersion      = errors.New("sealed: of another version of the format")
	ErrOtherKey     = errors.New("sealed: sealed with another key")
	ErrOtherMachine = errors.New("sealed: sealed on another machine")
	ErrDamaged      = errors.New("sealed: damaged, or of another name")
	ErrRolledBack   = errors.New("sealed: an older file was put back")
	ErrMark         = errors.New("sealed: the mark of the newest file is damaged")
)

const (
	magic      = "getvpn\x00s"
	version    = 1
	keyIDLen   = 8
	machineLen = 16
	saltLen    = 32

	atVersion = len(magic)
	atKeyID   = atVersion + 1
	atMachine = atKeyID + keyIDLen
	atSerial  = atMachine + machineLen
	atSalt    = atSerial + 8
	headLen   = atSalt + saltLen
	tagLen    = 16
)

// KeyLen is the least length of a key, in octets. Longer ones are taken as a whole.
const KeyLen = 32

// Key seals and opens.
type Key struct {
	prk secret.Bytes
	id  [keyIDLen]byte
}

// NewKey makes a Key of octets that nobody can guess; they may be text. The caller
// zeroes them.
func NewKey(octets secret.Bytes) (*Key, error) {
	if len(octets) < KeyLen {
		return nil, fmt.Errorf("sealed: a key of %d octets is too short, need %d", len(octets), KeyLen)
	}
	prk, err := hkdf.Extract(sha256.New, octets, []byte("getvpn sealed files"))
	if err != nil {
		return nil, fmt.Errorf("sealed: key: %w", err)
	}
	k := &Key{prk: prk}
	copy(k.id[:], k.mac("key id"))
	return k, nil
}

// Zero forgets the key.
func (k *Key) Zero() { k.prk.Zero() }

// mac is a keyed hash; purposes don't collide, since each part is preceded by its
// length.
func (k *Key) mac(purpose string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, k.prk)
	for _, p := range append([][]byte{[]byte(purpose)}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	return h.Sum(nil)
}

// aead is the cipher of one salt with its only nonce.
func (k *Key) aead(salt []byte) (cipher.AEAD, []byte, error) {
	b, err := hkdf.Expand(sha256.New, k.prk, "getvpn sealed file 1"+string(salt), 32+12)
	if err != nil {
		return nil, nil, fmt.Errorf("sealed: %w", err)
	}
	defer clear(b[:32])
	c, err := aes.NewCipher(b[:32])
	if err != nil {
		return nil, nil, fmt.Errorf("sealed: %w", err)
	}
	a, err := cipher.NewGCM(c)
	if err != nil {
		return nil, nil, fmt.Errorf("sealed: %w", err)
	}
	return a, b[32:], nil
}

// machine is the tag of a machine's generation: it says nothing to those without the key.
func (k *Key) machine(generation string) []byte {
	return k.mac("machine", []byte(generation))[:machineLen]
}

// Seal makes a sealed file of body. machine is the machine's generation, serial counts
// the files of that name.
func (k *Key) Seal(rand io.Reader, name, machine string, serial uint64, body []byte) ([]byte, error) {
	var fresh [32]byte
	if _, err := io.ReadFull(rand, fresh[:]); err != nil {
		return nil, fmt.Errorf("sealed: random octets: %w", err)
	}
	out := make([]byte, headLen, headLen+len(body)+tagLen)
	copy(out, magic)
	out[atVersion] = version
	copy(out[atKeyID:], k.id[:])
	copy(out[atMachine:], k.machine(machine))
	binary.BigEndian.PutUint64(out[atSerial:], serial)
	copy(out[atSalt:], k.mac("salt", fresh[:], []byte(name), out[:atSalt], body))
	a, nonce, err := k.aead(out[atSalt:headLen])
	if err != nil {
		return nil, err
	}
	return a.Seal(out, nonce, body, ad(out, name, machine)), nil
}

// ad is what is authenticated beside the body.
func ad(head []byte, name, machine string) []byte {
	b := append([]byte(nil), head[:headLen]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	return append(b, machine...)
}

// Open returns the body of a sealed file and its serial number. The caller zeroes the
// body. Errors are the Err values.
func (k *Key) Open(name, machine string, file []byte) (serial uint64, body secret.Bytes, err error) {
	if len(file) < atVersion+1 || string(file[:atVersion]) != magic {
		return 0, nil, ErrNotSealed
	}
	if file[atVersion] != version {
		return 0, nil, fmt.Errorf("%w: %d, this program knows %d", ErrVersion, file[atVersion], version)
	}
	if len(file) < headLen+tagLen {
		return 0, nil, ErrNotSealed
	}
	if !hmac.Equal(file[atKeyID:atMachine], k.id[:]) {
		return 0, nil, ErrOtherKey
	}
	if !hmac.Equal(file[atMachine:atSerial], k.machine(machine)) {
		return 0, nil, ErrOtherMachine
	}
	a, nonce, err := k.aead(file[atSalt:headLen])
	if err != nil {
		return 0, nil, err
	}
	body, err = a.Open(nil, nonce, file[headLen:], ad(file, name, machine))
	if err != nil {
		return 0, nil, ErrDamaged
	}
	return binary.BigEndian.Uint64(file[atSerial:]), body, nil
}
