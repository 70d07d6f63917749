package ike

import (
	"crypto/subtle"
	"fmt"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// This file is how a side proves itself in phase 1. Pre-shared keys are the one method
// so far; signatures will be a second authenticator.

// authenticator makes SKEYID and the proof, and checks the peer's.
type authenticator interface {
	// skeyid is the root of the key schedule.
	skeyid(h HashAlg, ni, nr []byte, gxy secret.Bytes) secret.Bytes
	// prove makes the payloads that follow the ID payload.
	prove(hash []byte) ([]isakmp.Payload, error)
	// verify checks the peer's payloads against the hash that it should have made.
	verify(hash []byte, payloads []isakmp.Payload) error
	// messages are the rows of the legality table: main mode 5 and 6, aggressive 2, 3.
	messages() (main, aggr2, aggr3 isakmp.Message)
}

type pskAuth struct{ key secret.Bytes }

func (a pskAuth) skeyid(h HashAlg, ni, nr []byte, _ secret.Bytes) secret.Bytes {
	return SKEYIDPSK(h, a.key, ni, nr)
}

func (pskAuth) prove(hash []byte) ([]isakmp.Payload, error) {
	return []isakmp.Payload{isakmp.HashPayload(hash)}, nil
}

func (pskAuth) verify(hash []byte, payloads []isakmp.Payload) error {
	p, ok := isakmp.Find(payloads, isakmp.PayloadHash)
	if !ok || !equalCT(p.Body, hash) {
		return &refusal{DropHash, fmt.Errorf("%w: HASH is wrong", AuthFailed)}
	}
	return nil
}

func (pskAuth) messages() (main, aggr2, aggr3 isakmp.Message) {
	return isakmp.MainAuthPSK, isakmp.Aggr2PSK, isakmp.Aggr3PSK
}

// equalCT compares in time that depends only on the lengths.
func equalCT(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
