package ike

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// This file holds the small rules about policies: what is valid, how they sort.

// ErrPolicy says that a policy names something that isn't implemented.
var ErrPolicy = errors.New("ISAKMP policy can't be used")

// valid tells whether everything in the policy is implemented.
func (p Policy) valid() error {
	switch {
	case p.Encr != EncrAES && p.Encr != Encr3DES:
		return fmt.Errorf("%w: encryption %d", ErrPolicy, p.Encr)
	case p.Encr == EncrAES && p.KeyBits != 128 && p.KeyBits != 192 && p.KeyBits != 256:
		return fmt.Errorf("%w: AES with %d bits", ErrPolicy, p.KeyBits)
	case !p.Hash.Valid():
		return fmt.Errorf("%w: hash %d", ErrPolicy, p.Hash)
	case p.Auth != AuthPSK:
		return fmt.Errorf("%w: authentication %d", ErrPolicy, p.Auth)
	case !GroupValid(p.Group):
		return fmt.Errorf("%w: group %d", ErrPolicy, p.Group)
	}
	return nil
}

func sortPolicies(ps []Policy) {
	slices.SortStableFunc(ps, func(a, b Policy) int { return cmp.Compare(a.Priority, b.Priority) })
}

// printable keeps ASCII letters, digits and signs; anything else becomes a dot, so that
// a peer's octets can't forge a log line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '.'
		}
		return r
	}, s)
}
