package gdoi

// The member's side of GROUPKEY-PULL (RFC 6407 §3.3): message 1 on creation, then
// Offer (message 2), Accept or Reject (message 3), Finish (message 4).

import (
	"io"

	"getvpn/gdoi/isakmp"
)

// Request is what a member says in message 3. Nothing in it: no GAP is sent.
type Request struct {
	SIDs       uint16      // Sender IDs wanted; 0 or 1 is one, which comes unasked
	Capability *Capability // nil in a group marked "interop rfc6407"
}

// Download is the result of a PULL. Seq is the number used last; a member must not
// take a rekey with it or a lower one (RFC 6407 §3.2). HasSeq is set exactly when
// the SA has a SAK.
type Download struct {
	SA     *SA
	KD     *KD
	Seq    uint32
	HasSeq bool
}

type initiatorState uint8

const (
	wantOffer initiatorState = iota
	wantDecision
	wantDownload
)

// PullInitiator is a member's PULL. One goroutine at a time. For what errors leave
// behind see pull.
type PullInitiator struct {
	pull
	state initiatorState
	sa    *SA
}

// NewPullInitiator starts an exchange for the group and returns message 1. rand
// gives the nonce.
func NewPullInitiator(x Exchange, group isakmp.ID, rand io.Reader, opts PullOptions) (*PullInitiator, []byte, error) {
	ni, err := newNonce(rand)
	if err != nil {
		return nil, nil, err
	}
	g := &PullInitiator{pull: pull{x: x, opts: opts, ni: ni}}
	d, err := g.seal([]isakmp.Payload{isakmp.NoncePayload(ni), group.Payload()})
	if err != nil {
		return nil, nil, err
	}
	return g, d, nil
}

// Offer takes message 2 and returns the policy for the caller's judgement, which
// Accept or Reject must follow.
func (g *PullInitiator) Offer(datagram []byte) (*SA, error) {
	payloads, err := g.openIn(wantOffer, datagram, isakmp.Pull2, g.ni)
	if err != nil {
		return nil, err
	}
	if g.nr, err = nonceOf(payloads); err != nil {
		return nil, g.fatal(err)
	}
	sa, _ := isakmp.Find(payloads, isakmp.PayloadSA)
	if g.sa, err = ParseSA(sa.Body, g.opts.Dialect); err != nil {
		return nil, g.fatal(err)
	}
	if err := CheckSA(g.sa); err != nil {
		return nil, g.fatal(err)
	}
	g.state = wantDecision
	return g.sa, nil
}

// openIn opens a message when the state is right. Copies of accepted messages are
// told apart from messages out of order.
func (g *PullInitiator) openIn(s initiatorState, datagram []byte, m isakmp.Message, covered ...[]byte) ([]isakmp.Payload, error) {
	if err := g.copyOf(datagram); err != nil {
		return nil, err
	}
	if g.state != s && !g.over {
		return nil, &Error{Reason: OutOfState}
	}
	return g.open(datagram, m, covered...)
}

// Accept takes the policy and returns message 3.
func (g *PullInitiator) Accept(r Request) ([]byte, error) {
	if g.over || g.state != wantDecision {
		return nil, &Error{Reason: OutOfState}
	}
	if g.opts.RFCOnly {
		r.Capability = nil
	}
	var payloads []isakmp.Payload
	if r.SIDs > 1 || r.Capability != nil {
		gap := GAP{Capability: r.Capability}
		if r.SIDs > 1 {
			gap.SIDRequest = r.SIDs
		}
		payloads = append(payloads, gap.Payload())
	}
	d, err := g.seal(payloads, g.ni, g.nr)
	if err != nil {
		return nil, err
	}
	g.state = wantDownload
	return d, nil
}

// Reject ends the exchange without message 3. RFC 6407 §3.3 wants the caller to
// send a delete and to end the phase 1 SA.
func (g *PullInitiator) Reject() { g.over = true }

// Finish takes message 4 and returns policy and keys, held against each other.
func (g *PullInitiator) Finish(datagram []byte) (*Download, error) {
	payloads, err := g.openIn(wantDownload, datagram, isakmp.Pull4, g.ni, g.nr)
	if err != nil {
		return nil, err
	}
	out := &Download{SA: g.sa}
	if p, ok := isakmp.Find(payloads, isakmp.PayloadSEQ); ok {
		if out.Seq, err = ParseSEQ(p.Body); err != nil {
			return nil, g.fatal(err)
		}
		out.HasSeq = true
	}
	if err := checkSeq(g.sa, out.HasSeq); err != nil {
		return nil, g.fatal(err)
	}
	kd, _ := isakmp.Find(payloads, isakmp.PayloadKD)
	if out.KD, err = ParseKD(kd.Body, g.opts.Dialect); err != nil {
		return nil, g.fatal(err)
	}
	if err := Match(g.sa, out.KD, true); err != nil {
		out.KD.Zero()
		return nil, g.fatal(err)
	}
	g.over = true
	return out, nil
}

// Step is what Handle achieved: an Offer after message 2, a Download after 4.
type Step struct {
	Offer    *SA
	Download *Download
}

// Handle is Offer or Finish, whichever the state wants.
func (g *PullInitiator) Handle(datagram []byte) (Step, error) {
	if g.state == wantDownload {
		d, err := g.Finish(datagram)
		return Step{Download: d}, err
	}
	sa, err := g.Offer(datagram)
	return Step{Offer: sa}, err
}

// checkSeq: SEQ comes exactly with a SAK (RFC 6407 §3.2).
func checkSeq(sa *SA, has bool) error {
	switch {
	case sa.SAK != nil && !has:
		return &Error{Reason: SeqMissing}
	case sa.SAK == nil && has:
		return &Error{Reason: SeqUnexpected}
	}
	return nil
}
