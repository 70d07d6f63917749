package ipsec

import "fmt"

// Cipher is an ESP encryption transform.
type Cipher uint8

const (
	CipherNone    Cipher = iota
	CipherNull           // RFC 2410
	Cipher3DES           // RFC 2451, CBC
	CipherAESCBC         // RFC 3602
	CipherAESGCM         // RFC 4106, ICV of 8, 12 or 16 octets
	CipherAESGMAC        // RFC 4543, ENCR_NULL_AUTH_AES_GMAC
)

// Auth is an ESP integrity transform; AuthNone with a combined cipher.
type Auth uint8

const (
	AuthNone   Auth = iota
	AuthSHA1        // HMAC-SHA-1-96, RFC 2404
	AuthSHA256      // HMAC-SHA-256-128, RFC 4868
	AuthSHA384      // HMAC-SHA-384-192, RFC 4868
	AuthSHA512      // HMAC-SHA-512-256, RFC 4868
)

// Mode is the encapsulation.
type Mode uint8

const (
	Tunnel Mode = iota // with both addresses preserved, as GET VPN does
	Transport
)

// Transform names one ESP transform. KeyBits counts the cipher key alone, without
// salt; ICVLen (octets) matters for AES-GCM only, 0 there means 16. Comparable.
type Transform struct {
	Cipher  Cipher
	KeyBits int
	ICVLen  int
	Auth    Auth
	Mode    Mode
}

// Combined reports whether the cipher authenticates by itself.
func (t Transform) Combined() bool { return t.Cipher == CipherAESGCM || t.Cipher == CipherAESGMAC }

// Counter reports whether repeating an IV under the key breaks the cipher, so
// that senders need Sender IDs (RFC 6054).
func (t Transform) Counter() bool { return t.Combined() }

// CipherKeyLen is the length in octets of the TEK_ALGORITHM_KEY: the key, and for
// GCM and GMAC the 4-octet salt behind it (RFC 4106 §8.1, RFC 4543 §5.4).
func (t Transform) CipherKeyLen() int {
	switch t.Cipher {
	case Cipher3DES:
		return 24
	case CipherAESCBC:
		return t.KeyBits / 8
	case CipherAESGCM, CipherAESGMAC:
		return t.KeyBits/8 + 4
	}
	return 0
}

// AuthKeyLen is the length in octets of the TEK_INTEGRITY_KEY (RFC 2404 §3,
// RFC 4868 §2.1.1).
func (t Transform) AuthKeyLen() int {
	return [...]int{AuthNone: 0, AuthSHA1: 20, AuthSHA256: 32, AuthSHA384: 48, AuthSHA512: 64}[t.Auth]
}

// Validate reports why the combination can't be an ESP transform.
func (t Transform) Validate() error {
	switch t.Cipher {
	case CipherNull, Cipher3DES:
		if t.KeyBits != 0 {
			return fmt.Errorf("ipsec: %d-bit key for a cipher with a fixed key", t.KeyBits)
		}
	case CipherAESCBC, CipherAESGCM, CipherAESGMAC:
		if t.KeyBits != 128 && t.KeyBits != 192 && t.KeyBits != 256 {
			return fmt.Errorf("ipsec: AES key of %d bits", t.KeyBits)
		}
	default:
		return fmt.Errorf("ipsec: no cipher")
	}
	if t.Combined() != (t.Auth == AuthNone) {
		return fmt.Errorf("ipsec: %v needs %s integrity algorithm", t, map[bool]string{true: "no", false: "an"}[t.Combined()])
	}
	if t.Cipher == CipherAESGCM && t.ICVLen != 0 && t.ICVLen != 8 && t.ICVLen != 12 && t.ICVLen != 16 {
		return fmt.Errorf("ipsec: AES-GCM ICV of %d octets", t.ICVLen)
	}
	return nil
}

// String prints the transform as show commands do: "esp-256-aes esp-sha256-hmac",
// key size in front and plain for 128 bits.
func (t Transform) String() string {
	aes := func(n string) string {
		if t.KeyBits == 128 {
			return "esp-" + n
		}
		return fmt.Sprintf("esp-%d-%s", t.KeyBits, n)
	}
	c := ""
	switch t.Cipher {
	case CipherNull:
		c = "esp-null"
	case Cipher3DES:
		c = "esp-3des"
	case CipherAESCBC:
		c = aes("aes")
	case CipherAESGCM:
		c = aes("gcm")
	case CipherAESGMAC:
		c = aes("gmac")
	}
	if a := [...]string{"", "esp-sha-hmac", "esp-sha256-hmac", "esp-sha384-hmac", "esp-sha512-hmac"}[t.Auth]; a != "" {
		c += " " + a
	}
	return c
}
