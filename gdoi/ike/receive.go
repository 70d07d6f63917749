package ike

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/model/event"
)

// This file takes datagrams from the sockets: marker, header, then by exchange type to
// a phase 1, an SA, or whoever registered. Nothing here does public-key arithmetic.

// nonESP is what precedes ISAKMP on port 4500 (RFC 3948 §2.2).
var nonESP = [4]byte{}

func (e *Endpoint) read(c *boundConn) {
	buf := make([]byte, 65536)
	for {
		d, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.log.Warn("receive", "socket", c.LocalAddr(), "err", err)
			select {
			case <-e.quit:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		e.receive(c, d)
	}
}

// receive handles one datagram, whose data are valid only until it returns.
func (e *Endpoint) receive(c *boundConn, d Datagram) {
	b := d.Data
	if c.natt {
		switch {
		case len(b) == 1 && b[0] == 0xff: // keepalive
			return
		case len(b) < 4 || [4]byte(b) != nonESP:
			e.drop(DropNoMarker)
			return
		}
		b = b[4:]
	}
	h, err := isakmp.ParseHeader(b)
	if err != nil {
		e.refused(d.Remote, err)
		return
	}
	p := path{c, d.Local, d.Remote}
	switch h.Exchange {
	case isakmp.MainMode, isakmp.Aggressive:
		e.phase1(h, bytes.Clone(b), p)
	case isakmp.Informational:
		e.informational(h, b, p)
	case isakmp.GroupKeyPull:
		e.pullMessage(h, b, p)
	case isakmp.GroupKeyPush, isakmp.GroupKeyPushAck:
		e.mu.Lock()
		f := e.push[pairOf(h.ICookie, h.RCookie)]
		e.mu.Unlock()
		if f == nil {
			e.count.add(DropPush)
			e.publishFlood()
			return
		}
		e.pushReceived.Add(1)
		f(Datagram{bytes.Clone(b), d.Remote, d.Local})
	default:
		e.drop(DropExchangeType)
	}
}

// refused counts an error and leaves a line in the debug log, which holds no octets of
// the message.
func (e *Endpoint) refused(from netip.AddrPort, err error) {
	e.log.Debug("refused", "from", from, "reason", string(Reason(err)), "err", err)
	e.drop(Reason(err))
}

// phase1 finds or makes the session of a main or aggressive mode datagram.
func (e *Endpoint) phase1(h isakmp.Header, b []byte, p path) {
	d := digest(sha256.Sum256(b))
	at := proving
	if h.Encrypted() {
		at = finishing
	}
	e.mu.Lock()
	if s := e.starting[h.ICookie]; s != nil {
		e.mu.Unlock()
		s.enqueue(at, d, func() { s.handle(h, b, p) })
		return
	}
	if h.RCookie.IsZero() {
		k := firstKey{h.ICookie, p.remote, d}
		s := e.firsts[k]
		e.mu.Unlock()
		if s == nil {
			e.first(k, h, b, p)
			return
		}
		if !s.begun() { // it waits, and so does its peer
			e.drop(DropDuplicate)
			return
		}
		s.enqueue(beginning, d, func() { s.handle(h, b, p) })
		return
	}
	s := e.half[pairOf(h.ICookie, h.RCookie)]
	sa := e.sas[pairOf(h.ICookie, h.RCookie)]
	if s != nil && s.view.Load().path.remote == p.remote {
		e.proved(s) // our cookie came back: nothing evicts it while it waits for its turn
	}
	e.mu.Unlock()
	if s == nil && sa != nil {
		sa.mu.Lock()
		s = sa.phase1
		sa.mu.Unlock()
		if s == nil {
			e.drop(DropUnexpected)
			return
		}
	}
	if s == nil {
		e.drop(DropUnknownCookie)
		return
	}
	s.enqueue(at, d, func() { s.handle(h, b, p) })
}

// pullMessage hands a GROUPKEY-PULL datagram to its exchange; the first one of a peer
// must have a good HASH(1) before anything is remembered.
func (e *Endpoint) pullMessage(h isakmp.Header, b []byte, p path) {
	sa := e.lookup(h)
	switch {
	case sa == nil:
		e.drop(DropUnknownCookie)
		return
	case h.MessageID == 0:
		e.drop(DropMIDZero)
		return
	}
	sa.mu.Lock()
	x := sa.exchanges[h.MessageID]
	_, used := sa.used[h.MessageID]
	sa.mu.Unlock()
	if x != nil {
		switch v, answer := x.judge(b); {
		case v == again:
			e.drop(DropDuplicate)
			// To the peer, wherever the copy came from: it may be a recorded one.
			if err := sa.send(answer); err != nil {
				e.log.Debug("answer again", "err", err)
			}
		case v == ignore:
			e.drop(DropDuplicate)
		case x.typ != h.Exchange:
			e.drop(DropUnexpected)
		case x.ours:
			if err := x.plausible(h, b); err != nil {
				e.refused(p.remote, err)
				return
			}
			select {
			case x.in <- bytes.Clone(b):
			default:
				e.drop(DropOverload)
			}
		default:
			if err := x.plausible(h, b); err != nil {
				e.refused(p.remote, err)
				return
			}
			e.deliverPull(x, b)
		}
		return
	}
	if used {
		e.drop(DropMIDReused)
		return
	}
	if e.pull.Load() == nil {
		e.drop(DropNoHandler)
		return
	}
	if _, err := sa.prot.openHashed(h, b); err != nil {
		e.refused(p.remote, err)
		if r := Reason(err); r == DropHash || r == DropDecrypt {
			e.emit(p, event.KSHashFail{GM: p.remote.Addr()})
		}
		return
	}
	x, reason := sa.accept(h)
	if reason != "" {
		e.drop(reason)
		return
	}
	sa.follow(p)
	sa.heard()
	e.deliverPull(x, b)
}

func (e *Endpoint) deliverPull(x *Exchange, b []byte) {
	if f := e.pull.Load(); f != nil {
		(*f)(x, bytes.Clone(b))
		return
	}
	e.drop(DropNoHandler)
}

// lingering is how many times the open exchanges' limit an SA may remember, those that
// are closed and kept for their last answer included.
const lingering = 8

// exchangeAge ends a peer's exchange that nobody closed.
const exchangeAge = 2 * time.Minute

// accept makes the exchange of a peer's authenticated first message.
func (s *SA) accept(h isakmp.Header) (*Exchange, DropReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.exchanges) >= lingering*s.ep.opts.Limits.Exchanges {
		return nil, DropExchangeLimit
	}
	open := 0
	for _, x := range s.exchanges {
		x.mu.Lock()
		if !x.closed {
			open++
		}
		x.mu.Unlock()
	}
	if s.deleted {
		return nil, DropUnknownCookie
	}
	if open >= s.ep.opts.Limits.Exchanges {
		return nil, DropExchangeLimit
	}
	if _, dup := s.used[h.MessageID]; dup || len(s.used) >= maxMIDs {
		return nil, DropMIDReused
	}
	s.used[h.MessageID] = struct{}{}
	x := &Exchange{sa: s, typ: h.Exchange, mid: h.MessageID, iv: s.prot.iv(h.MessageID)}
	s.exchanges[h.MessageID] = x
	x.mu.Lock()
	x.age = time.AfterFunc(exchangeAge, func() {
		x.silence(true)
		x.Close()
	})
	x.mu.Unlock()
	return x, ""
}

// lookup finds the SA of a header.
func (e *Endpoint) lookup(h isakmp.Header) *SA {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sas[pairOf(h.ICookie, h.RCookie)]
}

// follow takes over the peer's address behind a NAT, which may change; the caller has
// authenticated the message (RFC 3947 §4).
func (s *SA) follow(p path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path.conn.natt && p.conn.natt {
		s.path.remote = p.remote
	}
}
