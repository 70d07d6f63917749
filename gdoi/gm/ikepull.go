package gm

// The Puller over a real endpoint: phase 1, GROUPKEY-PULL, and what to do when the key
// server has forgotten the SA, refuses us, or sends what we can't take.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
)

// EndpointPuller registers through an endpoint; the groups of a member share it.
type EndpointPuller struct {
	ep   *ike.Endpoint
	rand io.Reader

	mu      sync.Mutex
	running map[*ike.SA][]run
}

// run is an exchange that a notification may end.
type run struct {
	mid    uint32
	cancel context.CancelCauseFunc
}

// NewEndpointPuller returns a Puller and makes it the endpoint's listener for
// notifications. rand gives nonces.
func NewEndpointPuller(ep *ike.Endpoint, rand io.Reader) *EndpointPuller {
	p := &EndpointPuller{ep: ep, rand: rand, running: map[*ike.SA][]run{}}
	ep.HandleNotify(p.notified)
	return p
}

// A live SA that answers no probe belongs to a key server that restarted.
const (
	probeTries = 3
	probeWait  = time.Second
)

// refusal is an authenticated notification of the key server.
type refusal struct{ t isakmp.NotifyType }

func (r refusal) Error() string { return fmt.Sprintf("the key server says %v", r.t) }

// Pull registers once. Errors are *PullError.
func (p *EndpointPuller) Pull(ctx context.Context, r PullRequest) (*PullResult, error) {
	remote := netip.AddrPortFrom(r.Server, ike.Port)
	opts := ike.ConnectOptions{Local: r.Local}
	known := p.ep.SAs(r.Server)
	sa, err := p.ep.Connect(ctx, remote, opts)
	if err == nil && slices.Contains(known, sa) && !sa.Probe(ctx, probeTries, probeWait) {
		sa.Close()
		opts.Fresh = true
		sa, err = p.ep.Connect(ctx, remote, opts)
	}
	if err != nil {
		return nil, connectError(err)
	}
	return p.pull(ctx, sa, r)
}

func connectError(err error) *PullError {
	for class, reason := range map[ike.Failure]string{ike.NoResponse: "no-answer", ike.AuthFailed: "authentication-failed",
		ike.NoProposal: "no-proposal-chosen", ike.NoPSK: "no-pre-shared-key", ike.NoPolicy: "no-isakmp-policy"} {
		if errors.Is(err, class) {
			return &PullError{Class: Unreachable, Reason: reason, Err: err}
		}
	}
	return &PullError{Class: Unreachable, Reason: "phase-1", Err: err}
}

func (p *EndpointPuller) pull(ctx context.Context, sa *ike.SA, r PullRequest) (*PullResult, error) {
	x := sa.NewExchange(isakmp.GroupKeyPull)
	defer x.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.watch(sa, run{x.MessageID(), cancel})()

	g, m1, err := gdoi.NewPullInitiator(x, policy.GroupID(r.Group), p.rand, gdoi.PullOptions{RFCOnly: r.Interop})
	if err != nil {
		return nil, &PullError{Class: Unreachable, Reason: "internal", Err: err}
	}
	var offered *gdoi.SA
	asked := time.Now()
	if err := roundTrip(ctx, x, m1, func(d []byte) (err error) {
		offered, err = g.Offer(d)
		return err
	}); err != nil {
		return nil, err
	}
	at := time.Now()
	o, err := policy.Decode(offered)
	if err != nil {
		g.Reject()
		p.refuse(sa)
		return nil, classify(err)
	}
	req := gdoi.Request{}
	if !r.Interop {
		c := gdoi.OurCapability()
		req.Capability = &c
	}
	m3, err := g.Accept(req)
	if err != nil {
		return nil, &PullError{Class: Unreachable, Reason: "internal", Err: err}
	}
	var got *gdoi.Download
	if err := roundTrip(ctx, x, m3, func(d []byte) (err error) {
		got, err = g.Finish(d)
		return err
	}); err != nil {
		return nil, err
	}
	keys := o.AddKeys(got.KD, got.Seq)
	peer := sa.Peer()
	return &PullResult{Offer: *o, Keys: keys, Asked: asked, At: at, Local: peer.Local, Remote: peer.Remote}, nil
}

// refuse tells the key server that its policy isn't taken and ends phase 1 (RFC 6407
// §3.3). The notification is a courtesy: that it may not arrive changes nothing.
func (p *EndpointPuller) refuse(sa *ike.SA) {
	_ = sa.Notify(isakmp.NotifyNoProposalChosen, nil)
	sa.Close()
}

// roundTrip sends until handle takes an answer. An authentic answer that can't be
// taken ends the exchange at once; a forged one doesn't.
func roundTrip(ctx context.Context, x *ike.Exchange, datagram []byte, handle func([]byte) error) error {
	var fatal, last error
	_, err := x.RoundTrip(ctx, datagram, func(reply []byte) error {
		err := handle(reply)
		if gdoi.IsFatal(err) {
			fatal = err
			return nil
		}
		if err != nil {
			last = err
		}
		return err
	})
	switch {
	case fatal != nil:
		return &PullError{Class: Malformed, Reason: gdoi.ReasonOf(fatal), Err: fatal}
	case err == nil:
		return nil
	}
	var no refusal
	switch {
	case errors.As(context.Cause(ctx), &no):
		return &PullError{Class: Unreachable, Reason: "refused", Err: no}
	case last != nil && gdoi.ReasonOf(last) == gdoi.BadHash.String():
		return &PullError{Class: BadHash, Reason: gdoi.ReasonOf(last), Err: err}
	}
	// The SA may be gone at the other end: the next attempt makes a new one.
	if errors.Is(err, ike.ErrNoReply) {
		x.SA().Close()
	}
	return &PullError{Class: Unreachable, Reason: "no-answer", Err: err}
}

// watch lets a notification end the exchange until the returned function is called.
func (p *EndpointPuller) watch(sa *ike.SA, r run) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[sa] = append(p.running[sa], r)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		left := slices.DeleteFunc(p.running[sa], func(x run) bool { return x.mid == r.mid })
		if len(left) == 0 {
			delete(p.running, sa)
			return
		}
		p.running[sa] = left
	}
}

// notified takes an authenticated notification. Data of 4 octets is the message ID of
// the exchange it is about; without, it is about all of the SA's.
func (p *EndpointPuller) notified(sa *ike.SA, n isakmp.Notify) {
	if !n.Type.IsError() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.running[sa] {
		if len(n.Data) != 4 || binary.BigEndian.Uint32(n.Data) == r.mid {
			r.cancel(refusal{n.Type})
		}
	}
}
