package ike

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"getvpn/gdoi/isakmp"
)

// This file is one phase-2 style exchange under an SA: its IV chain, its message ID,
// sending with retransmission for the side that started it, and the remembered answer
// for the side that didn't.

// Exchange is one GROUPKEY-PULL (or another exchange with a message ID of its own).
// Its methods may be called from any goroutine, but the messages of one exchange are
// one after the other.
type Exchange struct {
	sa   *SA
	typ  isakmp.ExchangeType
	mid  uint32
	ours bool // we started it

	mu       sync.Mutex
	iv       []byte // of the next message
	pending  []byte // IV after the datagram that Decrypt saw last
	seen     digest // that datagram
	accepted digest // the last accepted datagram
	answer   []byte // what was sent after it
	closed   bool
	sealed   bool        // Encrypt was called
	in       chan []byte // ours: candidates for RoundTrip
	age      *time.Timer // the peer's: its end if nobody closes it
	large    unanswered  // the peer's: answer, when it is large
}

type digest [sha256.Size]byte

// MessageID is the exchange's M-ID; never 0, never used twice under one SA.
func (x *Exchange) MessageID() uint32 { return x.mid }

// SA is the phase-1 SA that protects the exchange.
func (x *Exchange) SA() *SA { return x.sa }

// Peer tells who is at the other end.
func (x *Exchange) Peer() Peer { return x.sa.Peer() }

// Hash is prf(SKEYID_a, M-ID | parts…), the form of every HASH(n) of RFC 6407 §3.2.
func (x *Exchange) Hash(parts ...[]byte) []byte { return x.sa.prot.hash(x.mid, parts...) }

// Encrypt makes a whole datagram of the payloads (the first must be the HASH) and
// advances the IV chain. t must be the exchange's own type.
func (x *Exchange) Encrypt(t isakmp.ExchangeType, payloads []isakmp.Payload) ([]byte, error) {
	if t != x.typ {
		return nil, fmt.Errorf("encrypt: %v message in a %v exchange", t, x.typ)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	d, next, err := x.sa.prot.seal(t, x.mid, x.iv, payloads)
	if err != nil {
		return nil, err
	}
	x.iv, x.pending, x.sealed = next, nil, true
	return d, nil
}

// Decrypt opens a datagram of this exchange with the current IV and moves nothing. raw
// is what HASH(n) covers: the octets behind the first payload, generic headers
// included, padding excluded. Call Accept when the HASH has been verified.
func (x *Exchange) Decrypt(datagram []byte) (payloads []isakmp.Payload, raw []byte, err error) {
	h, err := isakmp.ParseHeader(datagram)
	if err != nil {
		return nil, nil, err
	}
	if h.MessageID != x.mid || h.Exchange != x.typ || h.ICookie != x.sa.prot.ci || h.RCookie != x.sa.prot.cr {
		return nil, nil, refuse(DropUnexpected, "not a message of this exchange")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	payloads, chain, next, err := openMessage(x.sa.prot.block, h, x.iv, datagram)
	if err != nil {
		return nil, nil, err
	}
	x.pending, x.seen = next, sha256.Sum256(datagram)
	return payloads, isakmp.RawAfterFirst(payloads, chain), nil
}

// Accept makes the datagram that Decrypt saw last part of the exchange: the IV chain
// moves on, and a copy of it will get the answer that Send sends next.
func (x *Exchange) Accept() {
	x.mu.Lock()
	if x.pending == nil {
		x.mu.Unlock()
		return
	}
	x.iv, x.pending = x.pending, nil
	x.accepted, x.answer = x.seen, nil
	x.large.end()
	x.mu.Unlock()
	x.sa.heard()
}

// Send sends an answer and remembers it: a byte-identical copy of the message that was
// accepted last gets it again, also after Close.
func (x *Exchange) Send(datagram []byte) error {
	x.mu.Lock()
	x.answer = bytes.Clone(datagram)
	x.large.begin(datagram, time.Now())
	x.mu.Unlock()
	return x.sa.send(datagram)
}

// Close ends the exchange. Its M-ID stays used; a responder's last answer is kept for
// copies of the last message for a minute more.
func (x *Exchange) Close() {
	x.mu.Lock()
	was := x.closed
	x.closed = true
	keep := !x.ours && x.answer != nil
	if x.age != nil {
		x.age.Stop()
	}
	x.mu.Unlock()
	if was {
		return
	}
	if keep {
		time.AfterFunc(lingerAnswer, func() { x.sa.forget(x) })
		return
	}
	x.sa.forget(x)
}

// Abandon ends a peer's exchange as if its message had never come: when the peer sends
// it again, the handler gets it again. For an owner without room at the moment. Once an
// answer was sent it is Close, since the M-ID and its IV are used.
func (x *Exchange) Abandon() {
	x.mu.Lock()
	virgin := !x.ours && x.answer == nil && !x.closed && !x.sealed
	x.mu.Unlock()
	x.Close()
	if virgin {
		x.sa.mu.Lock()
		delete(x.sa.used, x.mid)
		x.sa.mu.Unlock()
	}
}

// lingerAnswer is how long a responder's last answer outlives its exchange: longer than
// an initiator with the default Retry keeps sending.
const lingerAnswer = time.Minute

// ErrNoReply says that the peer sent no acceptable answer within the transmissions.
var ErrNoReply = errors.New("no acceptable answer")

// RoundTrip sends our datagram, again and again as the endpoint's Retry says, until the
// peer sends a message of this exchange for which accept returns nil; that message is
// returned. Refused ones are counted and waiting goes on. accept is called from the
// caller's goroutine and is where Decrypt, verification and Accept belong. The error is
// ctx's, ErrNoReply, or Closed when the SA is gone.
func (x *Exchange) RoundTrip(ctx context.Context, datagram []byte, accept func(reply []byte) error) ([]byte, error) {
	if !x.ours {
		return nil, errors.New("only who started the exchange sends again")
	}
	var last error
	retry := x.sa.ep.opts.Retry
	for n := 1; n <= retry.Count; n++ {
		if err := x.sa.send(datagram); err != nil {
			last = err
		}
		t := time.NewTimer(retry.wait(n))
	wait:
		for {
			select {
			case reply := <-x.in:
				if err := accept(reply); err != nil {
					last = err
					x.sa.ep.drop(DropPullRefused)
					continue
				}
				t.Stop()
				return reply, nil
			case <-ctx.Done():
				t.Stop()
				return nil, ctx.Err()
			case <-x.sa.done:
				t.Stop()
				return nil, Closed
			case <-t.C:
				break wait
			}
		}
	}
	if last != nil {
		return nil, fmt.Errorf("%w from %s after %d transmissions: %w", ErrNoReply, x.sa.Peer().Remote, retry.Count, last)
	}
	if large(datagram) {
		x.sa.ep.largeUnanswered(x.sa.way(), len(datagram), retry.Count)
	}
	return nil, fmt.Errorf("%w from %s after %d transmissions", ErrNoReply, x.sa.Peer().Remote, retry.Count)
}

// verdict is what to do with a datagram for an exchange that exists.
type verdict int

const (
	deliver verdict = iota
	again           // send answer
	ignore
)

// judge compares a datagram with what was accepted last.
func (x *Exchange) judge(datagram []byte) (verdict, []byte) {
	d := sha256.Sum256(datagram)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case d == x.accepted && x.answer != nil && !x.ours:
		x.large.repeated(x.sa.ep.opts.Retry, time.Now(), func() { x.silence(false) })
		return again, x.answer
	case d == x.accepted, x.closed:
		return ignore, nil
	}
	return deliver, nil
}

// plausible tells whether a datagram decrypts to a chain that starts with HASH: most
// forgeries don't, and stop here before they take a place in a queue.
func (x *Exchange) plausible(h isakmp.Header, datagram []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	payloads, _, _, err := openMessage(x.sa.prot.block, h, x.iv, datagram)
	if err == nil && isakmp.FirstType(payloads) != isakmp.PayloadHash {
		err = refuse(DropDecrypt, "first payload isn't HASH")
	}
	return err
}
