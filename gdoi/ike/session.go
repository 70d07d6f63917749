package ike

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/model/event"
)

// This file is a phase 1 under way in the endpoint: admission of a peer's first
// message, messages to the machine, its result to the network and the SA database.

// firstKey is a peer's first message. The same cookie with other content is another
// exchange: one of the two may be forged, and both get their own responder cookie.
type firstKey struct {
	ci     isakmp.Cookie
	remote netip.AddrPort
	digest digest
}

// session is a Phase1 with its path and timers. Its mutex is held through a step of the
// machine, arithmetic included; only workers take it.
type session struct {
	ep        *Endpoint
	key       firstKey // responder
	view      atomic.Pointer[sessionView]
	initiator bool

	mu    sync.Mutex
	m     *Phase1 // nil until message 1 was accepted
	path  path
	sa    *SA
	over  bool
	timer *time.Timer   // responder: end of the half-open state; stopped by Endpoint.unlist
	resnd *time.Timer   // responder, aggressive: message 2 again
	place *list.Element // in Endpoint.unproved; guarded by Endpoint.mu
	large unanswered    // responder: the last answer, when it is large

	waitMu  sync.Mutex // held for a moment by whoever reads the network
	waiting []digest   // messages that wait for a worker

	// The initiator's.
	out      []byte // what is sent again
	progress chan struct{}
	refusal  error  // the last authentication error
	hint     string // an unauthenticated notification: believed only as an explanation
	noProp   bool
}

// aggressiveMost is how many exchanges are half-open, at most, when aggressive mode is
// still answered: its message 1 costs a Diffie-Hellman for whoever sends it.
const aggressiveMost = 1024

// first admits a new message 1: rate of the source, places, load.
func (e *Endpoint) first(k firstKey, h isakmp.Header, b []byte, p path) {
	src := p.remote.Addr()
	if !e.sources.allow(src, time.Now()) {
		e.drop(DropRateLimit)
		return
	}
	l := e.opts.Limits
	s := &session{ep: e, key: k, path: p}
	s.setView(nil)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	loaded := len(e.firsts) > min(l.HalfOpen/4, aggressiveMost)
	switch {
	case e.jobs.full(beginning): // before anybody gives way to what has no place
		e.mu.Unlock()
		e.drop(DropOverload)
		return
	case loaded && h.Exchange == isakmp.Aggressive: // it would cost a Diffie-Hellman now
		e.mu.Unlock()
		e.drop(DropOverload)
		return
	case e.halfSource[src] >= l.HalfOpenSource:
		e.mu.Unlock()
		e.drop(DropHalfOpen)
		return
	case len(e.firsts) >= l.HalfOpen: // the oldest that didn't prove its address gives way
		front := e.unproved.Front()
		if front == nil { // all of them proved their address
			e.mu.Unlock()
			e.drop(DropHalfOpen)
			return
		}
		old := front.Value.(*session)
		e.unlist(old)
		e.count.add(DropEvicted)
	}
	e.firsts[k] = s
	e.halfSource[src]++
	s.place = e.unproved.PushBack(s)
	e.mu.Unlock()
	if !e.queue(beginning, func() { s.start(b) }) {
		s.end()
	}
}

// unlist takes a peer's session out of the tables, false if it isn't there; the caller
// holds e.mu.
func (e *Endpoint) unlist(s *session) bool {
	if s.initiator || e.firsts[s.key] != s {
		return false
	}
	delete(e.firsts, s.key)
	src := s.key.remote.Addr()
	if e.halfSource[src]--; e.halfSource[src] <= 0 {
		delete(e.halfSource, src)
	}
	e.proved(s)
	if s.timer != nil { // it would keep the session's memory
		s.timer.Stop()
	}
	v := s.view.Load()
	k := pairOf(v.ci, v.cr)
	if e.half[k] == s {
		delete(e.half, k)
	}
	return true
}

// proved notes that the peer receives at its address; the caller holds e.mu.
func (e *Endpoint) proved(s *session) {
	if s.place != nil {
		e.unproved.Remove(s.place)
		s.place = nil
	}
}

// end forgets a peer's session that isn't complete, false if it was forgotten before.
func (s *session) end() bool {
	s.ep.mu.Lock()
	was := s.ep.unlist(s)
	s.ep.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = s.over || s.sa == nil
	s.stopTimers()
	return was
}

// stopTimers stops what the session's mutex guards; the other timer is unlist's.
func (s *session) stopTimers() {
	if s.resnd != nil {
		s.resnd.Stop()
	}
}

func (s *session) setView(m *Phase1) {
	v := &sessionView{path: s.path, stage: StageMMNoState, initiator: s.initiator}
	if m != nil {
		v.stage, v.policy = m.Stage(), m.Policy()
		v.ci, v.cr = m.Cookies()
	}
	s.view.Store(v)
}

// begun tells whether message 1 has been read and not refused.
func (s *session) begun() bool { return !isakmp.Cookie(s.view.Load().ci).IsZero() }

// listed tells whether a peer's session is still there; it may have been evicted.
func (s *session) listed() bool {
	s.ep.mu.Lock()
	defer s.ep.mu.Unlock()
	return s.ep.firsts[s.key] == s
}

// start gives message 1 to a new machine (in a worker).
func (s *session) start(msg1 []byte) {
	e := s.ep
	if !s.listed() {
		return
	}
	p := Params{Config: e.cfg.Load(), Local: s.path.local, Remote: s.path.remote,
		NATT: e.opts.NATTPort > 0, VendorIDs: e.opts.VendorIDs}
	m, r, err := NewResponder(p, msg1, e.rand)
	if err != nil {
		s.end()
		e.refused(s.path.remote, err)
		switch Reason(err) {
		case DropProposal:
			e.emit(s.path, event.IKENoPolicy{Peer: s.path.remote.Addr()})
			e.sendNotify(s.path, s.key.ci, isakmp.NotifyNoProposalChosen)
		case DropNoPSK:
			e.emit(s.path, event.IKENoPSK{Peer: s.path.remote.Addr()})
			e.sendNotify(s.path, s.key.ci, isakmp.NotifyNoProposalChosen)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m = m
	s.setView(m)
	ci, cr := m.Cookies()
	e.mu.Lock()
	if e.firsts[s.key] != s { // evicted meanwhile
		e.mu.Unlock()
		return
	}
	e.half[pairOf(ci, cr)] = s
	s.timer = time.AfterFunc(e.opts.Limits.HalfOpenAge, func() {
		if s.end() {
			e.drop(DropHalfOpenExpiry)
			s.silence(true)
		}
	})
	e.mu.Unlock()
	if m.Stage() == StageAGInitExch {
		s.repeat(r.Reply, 1)
	}
	s.large.begin(r.Reply, time.Now())
	e.send(s.path, r.Reply)
	e.publish()
}

// repeat sends aggressive message 2 again until message 3 comes: the initiator, which
// is through, has no reason to.
func (s *session) repeat(out []byte, n int) {
	e := s.ep
	if n >= e.opts.Retry.Count {
		return
	}
	s.resnd = time.AfterFunc(e.opts.Retry.wait(n), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.listed() && !s.over && s.sa == nil {
			e.send(s.path, out)
			s.repeat(out, n+1)
		}
	})
}

// handle gives a message to the machine (in a worker).
func (s *session) handle(h isakmp.Header, b []byte, p path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ep
	if s.m == nil || s.over {
		e.drop(DropUnexpected)
		return
	}
	if r := s.misplaced(h, p); r != "" {
		e.drop(r)
		return
	}
	res, err := s.m.Handle(b)
	if err != nil {
		s.failed(p, err)
		return
	}
	if res.Duplicate {
		e.drop(DropDuplicate)
		if res.Reply != nil {
			s.large.repeated(e.opts.Retry, time.Now(), func() { s.silence(false) })
			e.send(s.path, res.Reply)
		}
		return
	}
	if res.Float {
		s.float()
	}
	s.setView(s.m)
	switch {
	case res.Outcome != nil:
		if !s.initiator {
			s.path = p // the message decrypted: now its port is believed (RFC 3947 §4)
		}
		s.stopTimers()
		s.sa = e.establish(s, res.Outcome)
	}
	if !s.initiator {
		s.large.begin(res.Reply, time.Now())
	}
	if res.Reply != nil {
		s.out = res.Reply
		e.send(s.path, res.Reply)
	}
	if s.initiator {
		select {
		case s.progress <- struct{}{}:
		default:
		}
	}
	e.publish()
}

// misplaced judges where a message came from: before it is encrypted the path must stay
// as it was, then port 4500 is open to it.
func (s *session) misplaced(h isakmp.Header, p path) DropReason {
	switch {
	case s.sa != nil && s.path.conn.natt && !p.conn.natt:
		return DropWrongPort
	case p.remote == s.path.remote && p.conn == s.path.conn:
		return ""
	case s.path.conn.natt && !p.conn.natt:
		return DropWrongPort
	case s.initiator:
		if p.remote.Addr() == s.path.remote.Addr() && p.conn.natt {
			return ""
		}
		return DropWrongSource
	case h.Encrypted() && p.conn.natt:
		return ""
	}
	return DropWrongSource
}

// float moves the initiator to port 4500 at both ends.
func (s *session) float() {
	e := s.ep
	if s.path.conn.natt {
		return
	}
	c := e.conn(s.path.local.Addr(), s.path.remote.Addr(), true)
	if c == nil {
		return
	}
	s.path = path{c, netip.AddrPortFrom(s.path.local.Addr(), c.LocalAddr().Port()),
		netip.AddrPortFrom(s.path.remote.Addr(), uint16(e.opts.NATTPort))}
}

// failed counts a refused message; a wrong proof is an event, and the peer may be told.
func (s *session) failed(p path, err error) {
	e := s.ep
	e.refused(p.remote, err)
	if !errors.Is(err, AuthFailed) {
		return
	}
	s.refusal = err
	if s.initiator { // Connect reports it in the end
		return
	}
	e.emit(p, event.IKEAuthFailed{Peer: p.remote.Addr(), Why: detail(err)})
	e.sendNotify(s.path, s.key.ci, isakmp.NotifyAuthenticationFailed)
}

// detail is what an authentication error says beyond its class.
func detail(err error) string {
	if Reason(err) == DropDecrypt {
		return "its encrypted message is garbage with our keys"
	}
	return "its hash is wrong"
}

// send is transmit for answers, where nobody waits for the error.
func (e *Endpoint) send(p path, b []byte) {
	if err := e.transmit(p, b); err != nil {
		e.log.Debug("send", "err", err)
	}
}

// sendNotify sends an unauthenticated notification, within the limit for all of them.
func (e *Endpoint) sendNotify(p path, ci isakmp.Cookie, t isakmp.NotifyType) {
	if !e.notifies.allow(netip.Addr{}, time.Now()) {
		return
	}
	cr, err := cookie(e.rand)
	if err != nil {
		return
	}
	n := isakmp.Notify{DOI: isakmp.DOIISAKMP, Protocol: isakmp.ProtoISAKMP, Type: t}
	b, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: ci, RCookie: cr, Exchange: isakmp.Informational}, []isakmp.Payload{n.Payload()})
	if err == nil {
		e.send(p, b)
	}
}
