package gdoi

// The key server's side of GROUPKEY-PULL (RFC 6407 §3.4): First (message 1), Answer
// (message 2), Third (message 3), Finish (message 4).

import (
	"io"

	"getvpn/gdoi/isakmp"
)

type responderState uint8

const (
	wantFirst responderState = iota
	wantAnswer
	wantThird
	wantFinish
)

// PullResponder is a key server's PULL. One goroutine at a time. For what errors
// leave behind see pull.
//
// The caller must change no state of its own before HandleThird has returned without
// error: no member record, no Sender ID, nothing expensive. Message 1 may be a
// recorded one; only HASH(3), which covers the fresh nonce of message 2, proves that
// the member is alive (RFC 6407 §3.2, §7.2.5).
type PullResponder struct {
	pull
	rand  io.Reader
	state responderState
	sa    *SA
}

// NewPullResponder waits for message 1. rand gives the nonce.
func NewPullResponder(x Exchange, rand io.Reader, opts PullOptions) *PullResponder {
	return &PullResponder{pull: pull{x: x, opts: opts}, rand: rand}
}

func (k *PullResponder) openIn(s responderState, datagram []byte, m isakmp.Message, covered ...[]byte) ([]isakmp.Payload, error) {
	if err := k.copyOf(datagram); err != nil {
		return nil, err
	}
	if k.state != s && !k.over {
		return nil, &Error{Reason: OutOfState}
	}
	return k.open(datagram, m, covered...)
}

// HandleFirst takes message 1 and returns the identity of the group that is asked
// for. The caller finds the group and checks that the phase 1 identity may join it.
func (k *PullResponder) HandleFirst(datagram []byte) (isakmp.ID, error) {
	payloads, err := k.openIn(wantFirst, datagram, isakmp.Pull1)
	if err != nil {
		return isakmp.ID{}, err
	}
	if k.ni, err = nonceOf(payloads); err != nil {
		return isakmp.ID{}, k.fatal(err)
	}
	p, _ := isakmp.Find(payloads, isakmp.PayloadID)
	id, err := isakmp.ParseID(p.Body)
	if err != nil {
		return isakmp.ID{}, k.fatal(err)
	}
	if id.Protocol != 0 || id.Port != 0 || len(id.Data) == 0 {
		return isakmp.ID{}, k.fatal(&Error{Reason: BadGroupID}) // RFC 6407 §5.1
	}
	k.state = wantAnswer
	id.Data = append([]byte(nil), id.Data...)
	return id, nil
}

// Answer returns message 2 with the group's policy. An SA that contradicts itself
// is refused and can be tried again.
func (k *PullResponder) Answer(sa *SA) ([]byte, error) {
	if k.over || k.state != wantAnswer {
		return nil, &Error{Reason: OutOfState}
	}
	if err := CheckSA(sa); err != nil {
		return nil, err
	}
	if k.opts.RFCOnly {
		if err := sa.OnlyRFC(); err != nil {
			return nil, err
		}
	}
	p, err := sa.Payload(k.opts.Dialect)
	if err != nil {
		return nil, err
	}
	if k.nr, err = newNonce(k.rand); err != nil {
		return nil, err
	}
	d, err := k.seal([]isakmp.Payload{isakmp.NoncePayload(k.nr), p}, k.ni)
	if err != nil {
		return nil, err
	}
	k.sa, k.state = sa, wantThird
	return d, nil
}

// Reject ends the exchange, which the caller answers with a notification.
func (k *PullResponder) Reject() { k.over = true }

// HandleThird takes message 3, the proof that the member is alive, and returns its
// GAP; nil when it sent none. From here on the caller may record the member.
func (k *PullResponder) HandleThird(datagram []byte) (*GAP, error) {
	payloads, err := k.openIn(wantThird, datagram, isakmp.Pull3, k.ni, k.nr)
	if err != nil {
		return nil, err
	}
	var gap *GAP
	if p, ok := isakmp.Find(payloads, isakmp.PayloadGAP); ok {
		if gap, err = ParseGAP(p.Body, k.opts.Dialect); err != nil {
			return nil, k.fatal(err)
		}
	}
	k.state = wantFinish
	return gap, nil
}

// Finish returns message 4. seq, the number used last, is sent exactly when the SA
// has a SAK. Keys that don't match the policy of Answer are refused and can be
// tried again.
func (k *PullResponder) Finish(seq uint32, kd *KD) ([]byte, error) {
	if k.over || k.state != wantFinish {
		return nil, &Error{Reason: OutOfState}
	}
	if err := Match(k.sa, kd, true); err != nil {
		return nil, err
	}
	var payloads []isakmp.Payload
	if k.sa.SAK != nil {
		payloads = append(payloads, SEQPayload(seq))
	}
	d, err := k.seal(append(payloads, kd.Payload()), k.ni, k.nr)
	if err != nil {
		return nil, err
	}
	k.over = true
	return d, nil
}
