package ike

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"getvpn/model/event"
)

// This file is Connect: reuse of a live SA, or one phase 1 for everybody who asks for
// the same peer, with retransmission.

type connectKey struct {
	remote     netip.AddrPort
	local      netip.Addr
	aggressive bool
}

// attempt is a phase 1 that callers wait for. It goes on while any of them does.
type attempt struct {
	done   chan struct{}
	sa     *SA
	err    error
	refs   int // guarded by Endpoint.mu
	cancel context.CancelFunc
}

// staleAfter is the silence after which an SA is probed before it is used again.
const staleAfter = 10 * time.Second

// Connect returns a live SA with remote that we may use, or makes one: the error is
// then a *ConnectError (its classes: NoResponse, AuthFailed, NoProposal, NoPSK, …), or
// ctx's. An SA that was silent for 10 s is asked first, if the peer knows DPD.
func (e *Endpoint) Connect(ctx context.Context, remote netip.AddrPort, o ConnectOptions) (*SA, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	for !o.Fresh {
		s := e.reusable(remote, o.Local)
		if s == nil {
			break
		}
		s.mu.Lock()
		fresh := time.Since(s.lastHeard) < staleAfter
		s.mu.Unlock()
		if fresh || s.Probe(ctx, 3, e.opts.Retry.First) {
			return s, nil
		}
		if err := e.ended(ctx); err != nil {
			return nil, err
		}
		e.removeSA(s, false, "dead peer")
	}
	k := connectKey{remote, o.Local, o.Aggressive}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, &ConnectError{Peer: remote, Class: Closed}
	}
	a := e.connecting[k]
	if a == nil {
		actx, cancel := context.WithCancel(context.Background())
		a = &attempt{done: make(chan struct{}), cancel: cancel}
		e.connecting[k] = a
		e.wg.Go(func() {
			a.sa, a.err = e.initiate(actx, remote, o)
			cancel()
			e.mu.Lock()
			if e.connecting[k] == a {
				delete(e.connecting, k)
			}
			e.mu.Unlock()
			close(a.done)
		})
	}
	a.refs++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if a.refs--; a.refs == 0 {
			a.cancel()
			if e.connecting[k] == a {
				delete(e.connecting, k)
			}
		}
	}()
	select {
	case <-a.done:
		return a.sa, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// initiate runs one phase 1 as initiator.
func (e *Endpoint) initiate(ctx context.Context, remote netip.AddrPort, o ConnectOptions) (*SA, error) {
	fail := func(c Failure, hint string) error { return &ConnectError{Peer: remote, Class: c, Hint: hint} }
	cfg := o.Config
	if cfg == nil {
		cfg = e.cfg.Load()
	}
	local := o.Local
	conn := e.conn(local, remote.Addr(), false)
	if conn == nil {
		return nil, fail(Protocol, "no socket of that address and family")
	}
	if !local.IsValid() {
		if local = conn.LocalAddr().Addr(); local.IsUnspecified() {
			var err error
			if local, err = routeLocal(remote); err != nil {
				return nil, fail(NoResponse, err.Error())
			}
		}
	}
	s := &session{ep: e, initiator: true, progress: make(chan struct{}, 1),
		path: path{conn, netip.AddrPortFrom(local, conn.LocalAddr().Port()), remote}}
	m, msg, err := NewInitiator(Params{Config: cfg, Local: s.path.local, Remote: remote, NATT: e.opts.NATTPort > 0,
		Aggressive: o.Aggressive, VendorIDs: e.opts.VendorIDs}, e.rand)
	if err != nil {
		if errors.Is(err, NoPSK) {
			e.emit(s.path, event.IKENoPSK{Peer: remote.Addr()})
		}
		var f Failure
		if errors.As(err, &f) {
			return nil, fail(f, "")
		}
		return nil, fail(Protocol, err.Error())
	}
	s.m, s.out = m, msg
	s.setView(m)
	ci, _ := m.Cookies()
	e.mu.Lock()
	e.starting[ci] = s
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.starting, ci)
		e.mu.Unlock()
		e.publish()
	}()
	e.publish()
	return s.drive(ctx, o.retry(e.opts.Retry))
}

// retry is the endpoint's with the caller's values over it.
func (o ConnectOptions) retry(r Retry) Retry {
	if o.Retry.First > 0 {
		r.First = o.Retry.First
	}
	if o.Retry.Max > 0 {
		r.Max = o.Retry.Max
	}
	if o.Retry.Count > 0 {
		r.Count = o.Retry.Count
	}
	return r
}

// drive sends the initiator's current message again and again until the machine makes
// progress, the SA is there, or the transmissions are used up.
func (s *session) drive(ctx context.Context, r Retry) (*SA, error) {
	e := s.ep
	remote := s.path.remote
	s.mu.Lock()
	e.send(s.path, s.out)
	s.mu.Unlock()
	tries := 1
	t := time.NewTimer(r.wait(tries))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			if sa := s.stop(); sa != nil { // it came in the same moment, for nobody
				e.removeSA(sa, true, "nobody waits for it")
			}
			return nil, ctx.Err()
		case <-e.quit:
			s.stop()
			return nil, &ConnectError{Peer: remote, Class: Closed}
		case <-s.progress:
			s.mu.Lock()
			sa := s.sa
			s.mu.Unlock()
			if sa != nil {
				sa.greet(remote)
				return sa, nil
			}
			tries = 1
			t.Reset(r.wait(tries))
		case <-t.C:
			if tries == r.Count {
				return nil, s.silent(remote, tries)
			}
			tries++
			s.mu.Lock()
			e.send(s.path, s.out)
			s.mu.Unlock()
			t.Reset(r.wait(tries))
		}
	}
}

// stop ends the session; its SA, if it had come to that.
func (s *session) stop() *SA {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.sa
}

// silent is the verdict when the transmissions are used up.
func (s *session) silent(remote netip.AddrPort, tries int) error {
	e := s.ep
	s.mu.Lock()
	s.over = true
	err := &ConnectError{Peer: remote, Class: NoResponse, Tries: tries, Hint: s.hint}
	proof, refusal, noProp := s.m.SentProof(), s.refusal, s.noProp
	p, octets := s.path, len(s.out)
	unheard := large(s.out) && refusal == nil && !noProp
	s.mu.Unlock()
	e.publish()
	if unheard {
		e.largeUnanswered(p, octets, tries)
	}
	switch {
	case refusal != nil:
		err.Class, err.Hint = AuthFailed, detail(refusal)
		e.emit(p, event.IKEAuthFailed{Peer: remote.Addr(), Why: err.Hint})
	case proof:
		why := "it doesn't answer our encrypted message"
		if s.hint != "" {
			why += ", " + s.hint
		}
		err.Class, err.Hint = AuthFailed, why
		e.emit(p, event.IKEAuthFailed{Peer: remote.Addr(), Why: why})
	case noProp:
		err.Class = NoProposal
		e.emit(p, event.IKENoPolicy{Peer: remote.Addr()})
	default:
		e.emit(p, event.IKENoResponse{Peer: remote.Addr(), Tries: tries})
	}
	return err
}
