package ike

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"filippo.io/bigmod"

	"getvpn/internal/secret"
)

// This file does Diffie-Hellman: MODP groups with constant-time arithmetic of our own
// choice of exponent, ECP groups by crypto/ecdh. Values are in KE payload form: MODP
// left-padded to the prime's length (RFC 2409 §5), ECP x | y (RFC 5903 §7).

// ErrPublicValue says that a peer's public value isn't an element of the group that
// may be used: wrong length, 0, 1, p-1, not on the curve, outside the subgroup.
var ErrPublicValue = errors.New("peer's Diffie-Hellman value is invalid")

// ErrGroup says that a group number isn't implemented.
var ErrGroup = errors.New("unknown Diffie-Hellman group")

// DH is a private value for one exchange.
type DH struct {
	group  int
	modp   *modpGroup
	x      secret.Bytes // MODP exponent
	ecp    *ecdh.PrivateKey
	public []byte
}

// modpGroup is a MODP group: exponents have expLen random octets, or are below the
// order q where the group has a small subgroup.
type modpGroup struct {
	p      *bigmod.Modulus
	g      *bigmod.Nat
	expLen int
	order  []byte
}

// GroupValid tells whether the group number is implemented.
func GroupValid(group int) bool {
	_, modp := modpGroups[group]
	return modp || curve(group) != nil
}

// PublicLen is the length of the group's KE payload body in octets, 0 if unknown.
func PublicLen(group int) int {
	if c := curve(group); c != nil {
		return map[int]int{19: 64, 20: 96, 21: 132}[group]
	}
	if m, ok := modpGroups[group]; ok {
		return m().p.Size()
	}
	return 0
}

func curve(group int) ecdh.Curve {
	switch group {
	case 19:
		return ecdh.P256()
	case 20:
		return ecdh.P384()
	case 21:
		return ecdh.P521()
	}
	return nil
}

// Exponents are about twice the strength that RFC 3526 §8 and RFC 2409 give the group.
var modpGroups = map[int]func() *modpGroup{
	2:  sync.OnceValue(func() *modpGroup { return newMODP(prime2, "02", "", 32) }),
	5:  sync.OnceValue(func() *modpGroup { return newMODP(prime5, "02", "", 32) }),
	14: sync.OnceValue(func() *modpGroup { return newMODP(prime14, "02", "", 40) }),
	15: sync.OnceValue(func() *modpGroup { return newMODP(prime15, "02", "", 52) }),
	16: sync.OnceValue(func() *modpGroup { return newMODP(prime16, "02", "", 60) }),
	24: sync.OnceValue(func() *modpGroup { return newMODP(prime24, generator24, order24, 32) }),
}

// newMODP parses a group's constants; they are ours, so a mistake is a bug that the
// known-answer tests show.
func newMODP(p, g, q string, expLen int) *modpGroup {
	m := &modpGroup{expLen: expLen}
	pb, _ := hex.DecodeString(p)
	m.p, _ = bigmod.NewModulus(pb)
	gb, _ := hex.DecodeString(g)
	m.g, _ = bigmod.NewNat().SetBytes(leftPad(gb, len(pb)), m.p)
	if q != "" {
		m.order, _ = hex.DecodeString(q)
	}
	return m
}

// NewDH draws a private value from rand and computes the public one.
func NewDH(group int, rand io.Reader) (*DH, error) {
	if c := curve(group); c != nil {
		// Not Curve.GenerateKey: that ignores the reader it is given.
		for range 64 {
			b := make([]byte, PublicLen(group)/2)
			if _, err := io.ReadFull(rand, b); err != nil {
				return nil, fmt.Errorf("random numbers: %w", err)
			}
			if group == 21 {
				b[0] &= 1 // 521 bits
			}
			if k, err := c.NewPrivateKey(b); err == nil {
				return newECP(group, k), nil
			}
		}
		return nil, errors.New("random source yields no private value")
	}
	gen, ok := modpGroups[group]
	if !ok {
		return nil, ErrGroup
	}
	m := gen()
	for range 64 {
		x := make(secret.Bytes, m.expLen)
		if _, err := io.ReadFull(rand, x); err != nil {
			return nil, fmt.Errorf("random numbers: %w", err)
		}
		if m.order != nil && bytes.Compare(x, m.order) >= 0 {
			continue
		}
		if d := newMODPKey(group, m, x); d != nil {
			return d, nil
		}
	}
	return nil, errors.New("random source yields no private value")
}

// newMODPKey is nil for exponents that make a public value a peer must refuse.
func newMODPKey(group int, m *modpGroup, x secret.Bytes) *DH {
	y := bigmod.NewNat().Exp(m.g, x, m.p).Bytes(m.p)
	if _, ok := m.element(y); !ok {
		return nil
	}
	return &DH{group: group, modp: m, x: x, public: y}
}

func newECP(group int, k *ecdh.PrivateKey) *DH {
	return &DH{group: group, ecp: k, public: k.PublicKey().Bytes()[1:]}
}

// Public is our public value in KE form.
func (d *DH) Public() []byte { return d.public }

// CheckPublic tells whether peer could be a public value of the group, by its length
// alone; it costs nothing.
func CheckPublic(group int, peer []byte) error {
	if n := PublicLen(group); n == 0 || len(peer) != n {
		return ErrPublicValue
	}
	return nil
}

// Shared is g^xy with peer's public value: fixed width of the prime, or x alone.
func (d *DH) Shared(peer []byte) (secret.Bytes, error) {
	if err := CheckPublic(d.group, peer); err != nil {
		return nil, err
	}
	if d.ecp != nil {
		pub, err := d.ecp.Curve().NewPublicKey(append([]byte{4}, peer...))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPublicValue, err)
		}
		z, err := d.ecp.ECDH(pub)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPublicValue, err)
		}
		return z, nil
	}
	m := d.modp
	y, ok := m.element(peer)
	if !ok {
		return nil, ErrPublicValue
	}
	if m.order != nil { // y^q = 1 or y isn't in the subgroup (RFC 5114 §2.3 by RFC 2631 §2.1.5)
		if bigmod.NewNat().Exp(y, m.order, m.p).IsOne() == 0 {
			return nil, ErrPublicValue
		}
	}
	return bigmod.NewNat().Exp(y, d.x, m.p).Bytes(m.p), nil
}

// Zero overwrites the private value.
func (d *DH) Zero() {
	d.x.Zero()
	d.ecp = nil
}

// element reads a public value and tells whether 1 < y < p-1.
func (m *modpGroup) element(b []byte) (*bigmod.Nat, bool) {
	y, err := bigmod.NewNat().SetBytes(b, m.p)
	if err != nil || y.IsZero()|y.IsOne()|y.IsMinusOne(m.p) != 0 {
		return nil, false
	}
	return y, true
}

func leftPad(b []byte, n int) []byte {
	if len(b) >= n {
		return b
	}
	return append(make([]byte, n-len(b)), b...)
}
