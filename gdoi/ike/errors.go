package ike

import (
	"errors"
	"fmt"
	"net/netip"

	"getvpn/gdoi/isakmp"
)

// This file names why a phase 1 failed, and why datagrams were refused.

// Failure classifies why Connect failed; test with errors.Is.
type Failure string

func (f Failure) Error() string { return string(f) }

const (
	// NoResponse: the peer never answered our first message, or fell silent in the exchange.
	NoResponse Failure = "no response"
	// AuthFailed: the peer's proof was wrong, or it fell silent after our proof: with
	// pre-shared keys a key mismatch is the probable cause.
	AuthFailed Failure = "authentication failed, probable pre-shared key mismatch"
	// NoProposal: the peer says that it accepts none of our policies.
	NoProposal Failure = "no proposal chosen"
	// NoPSK: there is no key for the peer.
	NoPSK Failure = "no pre-shared key for the peer"
	// NoPolicy: no usable policy is configured here.
	NoPolicy Failure = "no ISAKMP policy"
	// Protocol: the peer's answer breaks the rules.
	Protocol Failure = "protocol error"
	// Closed: the endpoint or the SA was closed.
	Closed Failure = "closed"
	// AggressiveRefused: aggressive mode with a wildcard key.
	AggressiveRefused Failure = "aggressive mode is refused with a wildcard pre-shared key"
)

// ConnectError is what Connect returns: the peer, the class, what is known beyond.
type ConnectError struct {
	Peer  netip.AddrPort
	Class Failure
	Tries int // transmissions of the message that got no answer
	Hint  string
}

func (e *ConnectError) Error() string {
	s := fmt.Sprintf("phase 1 with %s: %s", e.Peer, e.Class)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap yields the class.
func (e *ConnectError) Unwrap() error { return e.Class }

// DropReason names why a datagram or an exchange was refused. Every refusal counts
// under exactly one. What the codec refuses counts under its isakmp.Reason's name
// (empty-datagram, bad-version, payload-missing, …), the rest under these.
type DropReason string

const (
	DropExchangeType   DropReason = "unknown-exchange"
	DropUnknownCookie  DropReason = "unknown-cookie"
	DropNoMarker       DropReason = "no-non-esp-marker"
	DropWrongPort      DropReason = "old-port"
	DropWrongSource    DropReason = "wrong-source"
	DropRateLimit      DropReason = "rate-limit"
	DropHalfOpen       DropReason = "half-open-limit"
	DropOverload       DropReason = "overload"
	DropEvicted        DropReason = "half-open-evicted"
	DropHalfOpenExpiry DropReason = "half-open-expired"
	DropMalformed      DropReason = "malformed"
	DropUnexpected     DropReason = "unexpected-message"
	DropProposal       DropReason = "no-proposal-chosen"
	DropNoPSK          DropReason = "no-pre-shared-key"
	DropAggressive     DropReason = "aggressive-mode-refused"
	DropPublicValue    DropReason = "bad-dh-value"
	DropNonce          DropReason = "bad-nonce"
	DropIdentity       DropReason = "bad-identity"
	DropNATD           DropReason = "bad-nat-d"
	DropCiphertext     DropReason = "bad-ciphertext"
	DropDecrypt        DropReason = "undecryptable"
	DropTrailing       DropReason = "octets-behind-payloads" // that aren't padding
	DropHash           DropReason = "bad-hash"
	DropMIDZero        DropReason = "zero-message-id"
	DropMIDReused      DropReason = "message-id-reused"
	DropExchangeLimit  DropReason = "exchange-limit"
	DropDuplicate      DropReason = "duplicate"
	DropNoHandler      DropReason = "no-handler"
	DropPullRefused    DropReason = "pull-reply-refused"
	DropUnprotected    DropReason = "unprotected-notify"
	DropDPD            DropReason = "bad-dpd"
	DropPush           DropReason = "unexpected-push"
	DropSend           DropReason = "send-failed"
	DropPeerNotify     DropReason = "peer-notify-overflow" // its handler is behind

	// DropLargeUnanswered: a message of ours that IP may have fragmented got no answer.
	DropLargeUnanswered DropReason = "large-message-unanswered"
)

// refusal is an error of the machine with its reason to count.
type refusal struct {
	reason DropReason
	err    error
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(r DropReason, format string, a ...any) error {
	return &refusal{r, fmt.Errorf(format, a...)}
}

// Reason is the drop reason of an error of this package or of the codec, DropMalformed
// for any other error.
func Reason(err error) DropReason {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason
	}
	var m *isakmp.MalformedError
	if errors.As(err, &m) {
		return DropReason(m.Reason.String())
	}
	return DropMalformed
}
