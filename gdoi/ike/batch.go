package ike

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// This file sends one datagram to many: a unicast rekey to the members of a group.

// batchConn is a PacketConn that can send one datagram to many at once.
type batchConn interface {
	// WriteBatch sends b from the local address to each of to and returns to how many
	// it did, in their order; an error is that of the next one.
	WriteBatch(b []byte, local netip.Addr, to []netip.AddrPort) (int, error)
}

// SendPushBatch sends a rekey to many members from the local address, zero for the
// route's. Those that are reached by NAT traversal get the non-ESP marker. sent
// counts what the kernel took; err joins what it refused, one error each kind. A member
// that can't be reached doesn't keep the others from theirs.
func (e *Endpoint) SendPushBatch(datagram []byte, local netip.Addr, to []netip.AddrPort) (sent int, err error) {
	type target struct {
		v6, natt bool
	}
	lists := map[target][]netip.AddrPort{}
	for _, a := range to {
		k := target{a.Addr().Is6(), e.natted(a)}
		lists[k] = append(lists[k], a)
	}
	var errs []error
	for k, list := range lists {
		n, err := e.sendList(datagram, local, list, k.natt)
		sent += n
		errs = append(errs, err)
	}
	e.pushSent.Add(uint64(sent))
	return sent, errors.Join(errs...)
}

// PushStats counts datagrams of rekeys and acknowledgements since the start: what
// SendPush and SendPushBatch sent, what went to a handler, and how often a sender had
// to wait for room. Refusals are in Drops: DropPush (nobody waits for that cookie
// pair), DropSend.
type PushStats struct{ Sent, Received, Stalls uint64 }

// PushStats is a copy of the counters.
func (e *Endpoint) PushStats() PushStats {
	s := PushStats{Sent: e.pushSent.Load(), Received: e.pushReceived.Load()}
	for _, c := range e.conns {
		if u, ok := c.PacketConn.(*udpConn); ok {
			s.Stalls += u.stalls.Load()
		}
	}
	return s
}

// natted says which peers are reached on the socket of NAT traversal. Our two ports
// speak for themselves; a NAT gives any other one, for either socket, and the SA of the
// peer knows which. Without an SA it is NAT traversal, which both sides do when they
// see a NAT; so it is for a peer whose NAT has given it another address since.
func (e *Endpoint) natted(a netip.AddrPort) bool {
	switch {
	case e.opts.NATTPort <= 0 || a.Port() == uint16(e.opts.Port):
		return false
	case a.Port() == uint16(e.opts.NATTPort):
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.byAddr[a.Addr()] {
		s.mu.Lock()
		p := s.path
		s.mu.Unlock()
		if p.remote == a {
			return p.conn.natt
		}
	}
	return true
}

// sendList sends to members of one family and one kind of port.
func (e *Endpoint) sendList(datagram []byte, local netip.Addr, to []netip.AddrPort, natt bool) (sent int, err error) {
	c := e.conn(local, to[0].Addr(), natt)
	if c == nil {
		e.count.addN(DropSend, uint64(len(to)))
		e.publish()
		return 0, fmt.Errorf("no socket to reach %s", to[0])
	}
	if natt {
		datagram = append(make([]byte, 4, 4+len(datagram)), datagram...)
	}
	batch, ok := c.PacketConn.(batchConn)
	if !ok {
		batch = oneByOne{c.PacketConn}
	}
	failed := 0
	for len(to) > 0 {
		n, werr := batch.WriteBatch(datagram, local, to)
		sent += n
		to = to[n:]
		if werr == nil {
			continue
		}
		if errors.Is(werr, net.ErrClosed) {
			return sent, werr
		}
		if len(to) > 0 { // the next one failed: on with the others
			if failed++; err == nil {
				err = fmt.Errorf("send to %s: %w", to[0], werr)
			}
			to = to[1:]
		}
	}
	if failed > 0 {
		e.count.addN(DropSend, uint64(failed))
		e.publish()
	}
	return sent, err
}

// oneByOne is the batchConn of a network in memory.
type oneByOne struct{ c PacketConn }

func (o oneByOne) WriteBatch(b []byte, local netip.Addr, to []netip.AddrPort) (int, error) {
	for i, a := range to {
		if err := o.c.Write(b, local, a); err != nil {
			return i, err
		}
	}
	return len(to), nil
}
