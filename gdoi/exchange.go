package gdoi

// What the PULL machines need of phase 1, and what both have in common.

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"

	"getvpn/gdoi/isakmp"
)

// Exchange is one exchange under a phase 1 SA, with its own message ID and chain of
// IVs (RFC 2409 §5.5, §5.7 and App. B; RFC 6407 §3.2).
type Exchange interface {
	// Hash is prf(SKEYID_a, M-ID | parts…).
	Hash(parts ...[]byte) []byte
	// Encrypt makes a whole datagram and advances the IV chain.
	Encrypt(ex isakmp.ExchangeType, payloads []isakmp.Payload) ([]byte, error)
	// Decrypt opens a datagram with the current IV and moves nothing. raw is what
	// HASH(n) covers: the octets behind the first payload, generic headers included,
	// padding excluded.
	Decrypt(datagram []byte) (payloads []isakmp.Payload, raw []byte, err error)
	// Accept makes the message that Decrypt opened last part of the chain of IVs.
	Accept()
}

// Nonces of PULL are 8 to 128 octets (RFC 6407 §5.8); ours have nonceLen.
const (
	MinPullNonce = 8
	MaxPullNonce = 128
	nonceLen     = 32
)

// PullOptions are what both sides can choose.
type PullOptions struct {
	Dialect Dialect
	// RFCOnly is for a group marked "interop rfc6407": whatever is private is
	// refused on the way out.
	RFCOnly bool
}

// pull is what both sides have in common: the exchange, nonces and copies of what
// was handled.
//
// Contract of everything that takes a datagram: an error that isn't Fatal leaves
// the machine and the IV chain exactly as they were, so the genuine message still
// works. The HASH is verified before any content is looked at, and only then is the
// message accepted. A Fatal error comes from an authentic message: the exchange is
// over, and every further call gives Finished.
type pull struct {
	x      Exchange
	opts   PullOptions
	ni, nr []byte
	seen   [][sha256.Size]byte // digests of accepted messages, oldest first
	reply  []byte              // what was sent last
	over   bool
}

func newNonce(rand io.Reader) ([]byte, error) {
	n := make([]byte, nonceLen)
	if _, err := io.ReadFull(rand, n); err != nil {
		return nil, fmt.Errorf("gdoi: nonce: %w", err)
	}
	return n, nil
}

// Reply is the datagram that was sent last: to be sent again when the peer's
// message comes again (Duplicate), or when none comes.
func (p *pull) Reply() []byte { return p.reply }

// Over reports whether the exchange has ended, well or badly.
func (p *pull) Over() bool { return p.over }

// copyOf tells copies of accepted messages from news.
func (p *pull) copyOf(datagram []byte) error {
	sum := sha256.Sum256(datagram)
	for i, s := range p.seen {
		switch {
		case s != sum:
		case i == len(p.seen)-1:
			return &Error{Reason: Duplicate}
		default:
			return &Error{Reason: Replayed}
		}
	}
	return nil
}

// open verifies one message: header, decryption, form, HASH. covered are the
// octets before the raw chain in the HASH. On success the message is accepted.
func (p *pull) open(datagram []byte, m isakmp.Message, covered ...[]byte) ([]isakmp.Payload, error) {
	if p.over {
		return nil, &Error{Reason: Finished}
	}
	h, err := isakmp.ParseHeader(datagram)
	switch {
	case err != nil:
		return nil, err
	case h.Exchange != isakmp.GroupKeyPull:
		return nil, &Error{Reason: BadExchangeType}
	case !h.Encrypted():
		return nil, &isakmp.MalformedError{Reason: isakmp.NotEncrypted, Offset: 19}
	case h.Flags != isakmp.FlagEncrypted:
		return nil, &Error{Reason: BadFlags}
	case h.NextPayload != isakmp.PayloadHash:
		// Nothing covers the header's next payload: without this a changed one
		// would show as another first payload.
		return nil, &isakmp.MalformedError{Reason: isakmp.PayloadOrder, Payload: h.NextPayload}
	}
	payloads, raw, err := p.x.Decrypt(datagram)
	if err != nil {
		return nil, &Error{Reason: DecryptFailed, Err: err}
	}
	if err := isakmp.Check(m, true, payloads); err != nil {
		return nil, err
	}
	want := p.x.Hash(append(covered, raw)...)
	if len(want) == 0 || subtle.ConstantTimeCompare(want, payloads[0].Body) != 1 {
		return nil, &Error{Reason: BadHash}
	}
	p.x.Accept()
	p.seen = append(p.seen, sha256.Sum256(datagram))
	return payloads, nil
}

// seal makes a message: HASH over covered and the payloads, then the payloads.
func (p *pull) seal(payloads []isakmp.Payload, covered ...[]byte) ([]byte, error) {
	raw, err := isakmp.AppendChain(nil, payloads)
	if err != nil {
		return nil, err
	}
	hash := isakmp.HashPayload(p.x.Hash(append(covered, raw)...))
	d, err := p.x.Encrypt(isakmp.GroupKeyPull, append([]isakmp.Payload{hash}, payloads...))
	if err != nil {
		return nil, fmt.Errorf("gdoi: PULL message: %w", err)
	}
	p.reply = d
	return d, nil
}

// fatal ends the exchange: the peer is authentic and said what can't be taken.
func (p *pull) fatal(err error) error {
	p.over = true
	if e, ok := err.(*Error); ok {
		e.Fatal = true
		return e
	}
	return &Error{Reason: MalformedContent, Fatal: true, Err: err}
}

// nonceOf takes the peer's nonce (RFC 6407 §5.8).
func nonceOf(payloads []isakmp.Payload) ([]byte, error) {
	p, _ := isakmp.Find(payloads, isakmp.PayloadNonce)
	n, err := isakmp.ParseNonce(p.Body, MinPullNonce, MaxPullNonce)
	return bytes.Clone(n), err
}
