package ike

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"getvpn/gdoi/isakmp"
)

// This file is the endpoint's life: made by New, it reads each socket in a goroutine
// (receive.go), does the arithmetic of phase 1 in workers (session.go), and keeps the
// SA database (database.go). Endpoint.mu guards the tables and is held briefly; a
// session's or an SA's own mutex is taken after it or alone, never the other way round
// but for a session that establishes its SA.

// Endpoint owns the UDP sockets and the ISAKMP SAs. Its methods are safe for
// concurrent use.
type Endpoint struct {
	opts  Options
	rand  io.Reader
	log   *slog.Logger
	cfg   atomic.Pointer[Config]
	conns []*boundConn
	jobs  lanes
	quit  chan struct{}
	wg    sync.WaitGroup
	once  sync.Once

	count counters

	pushSent, pushReceived atomic.Uint64

	sources  *limiter // first messages
	notifies *limiter // unauthenticated answers
	events   gate
	pub      publisher
	peers    *peering
	pull     atomic.Pointer[func(*Exchange, []byte)]
	notify   atomic.Pointer[func(*SA, isakmp.Notify)]

	mu         sync.Mutex
	closed     bool
	starting   map[isakmp.Cookie]*session // ours, by initiator cookie
	firsts     map[firstKey]*session      // peers', by message 1
	half       map[pair]*session          // peers', by both cookies
	unproved   *list.List                 // of half: no message 3 yet, oldest first
	halfSource map[netip.Addr]int
	sas        map[pair]*SA
	byPeer     map[peerKey][]*SA    // oldest first
	byAddr     map[netip.Addr][]*SA // by the address of phase 1, oldest first
	connecting map[connectKey]*attempt
	contacted  map[netip.Addr]struct{} // had INITIAL-CONTACT from us
	push       map[pair]func(Datagram)
	nextID     uint32
}

// boundConn is a socket; on one of port 4500 ISAKMP has the non-ESP marker.
type boundConn struct {
	PacketConn
	natt bool
}

// path is how a peer is reached.
type path struct {
	conn          *boundConn
	local, remote netip.AddrPort
}

// firstConnID is the number of the first SA, as the vendor counts.
const firstConnID = 1001

// New binds the sockets and starts to serve.
func New(o Options) (*Endpoint, error) {
	if o.Config == nil {
		return nil, errors.New("endpoint without configuration")
	}
	o.defaults()
	e := &Endpoint{
		opts: o, rand: o.Rand, log: o.Log, quit: make(chan struct{}), jobs: newLanes(o.Limits.HalfOpen),
		sources: newLimiter(o.Limits.NewPerSource, sourcesMost), notifies: newLimiter(o.Limits.NotifyPerSec, 1),
		starting: map[isakmp.Cookie]*session{}, firsts: map[firstKey]*session{}, half: map[pair]*session{},
		unproved: list.New(), halfSource: map[netip.Addr]int{}, sas: map[pair]*SA{}, byPeer: map[peerKey][]*SA{}, byAddr: map[netip.Addr][]*SA{},
		connecting: map[connectKey]*attempt{}, contacted: map[netip.Addr]struct{}{}, push: map[pair]func(Datagram){},
		nextID: firstConnID, peers: newPeering(),
	}
	if e.rand == nil {
		e.rand = rand.Reader
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.cfg.Store(o.Config)
	if err := e.bind(); err != nil {
		return nil, err
	}
	go e.peers.deliver()
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	for range workers {
		e.wg.Go(e.work)
	}
	for _, c := range e.conns {
		e.wg.Go(func() { e.read(c) })
	}
	return e, nil
}

// bind opens a socket for each local address and port.
func (e *Endpoint) bind() error {
	listen := e.opts.Listen
	if listen == nil {
		listen = func(a netip.AddrPort) (PacketConn, error) { return listenUDP(a, e.opts.Control) }
	}
	locals := e.opts.Locals
	optional6 := len(locals) == 0
	if optional6 {
		locals = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, a := range locals {
		ports := []int{e.opts.Port}
		if e.opts.NATTPort > 0 {
			ports = append(ports, e.opts.NATTPort)
		}
		for i, p := range ports {
			c, err := listen(netip.AddrPortFrom(a.Unmap(), uint16(p)))
			if err != nil {
				if optional6 && a.Is6() && len(e.conns) > 0 {
					e.log.Warn("no IPv6 socket", "err", err)
					continue
				}
				for _, c := range e.conns {
					c.Close()
				}
				return err
			}
			e.conns = append(e.conns, &boundConn{c, i == 1})
		}
	}
	return nil
}

// Close deletes all SAs, telling the peers, ends every Connect and RoundTrip, closes
// the sockets and waits for the goroutines.
func (e *Endpoint) Close() error {
	e.once.Do(func() {
		e.mu.Lock()
		e.closed = true
		all := make([]*SA, 0, len(e.sas))
		for _, s := range e.sas {
			all = append(all, s)
		}
		half := make([]*session, 0, len(e.firsts))
		for _, s := range e.firsts {
			half = append(half, s)
		}
		e.mu.Unlock()
		for _, s := range all {
			e.removeSA(s, true, "endpoint closed")
		}
		close(e.quit)
		for _, s := range half {
			s.end()
		}
		for _, c := range e.conns {
			c.Close()
		}
		e.pub.stop()
	})
	e.wg.Wait()
	e.peers.stop()
	return nil
}

// SetConfig swaps policies and keys. Live SAs and exchanges under way keep theirs.
func (e *Endpoint) SetConfig(c *Config) { e.cfg.Store(c) }

// HandlePull sets what gets the GROUPKEY-PULL messages that peers start: called for
// the first message of a new M-ID (whose HASH(1) the endpoint has verified) and for
// each later one that isn't a copy of an accepted one. It must not block; datagram is
// the callee's. A message whose HASH fails is the callee's to count.
func (e *Endpoint) HandlePull(f func(x *Exchange, datagram []byte)) { e.pull.Store(&f) }

// HandleNotify sets what gets authenticated notifications that the endpoint doesn't
// handle itself (errors to an exchange, for one). It must not block.
func (e *Endpoint) HandleNotify(f func(s *SA, n isakmp.Notify)) { e.notify.Store(&f) }

// HandlePush registers who gets the GROUPKEY-PUSH and GROUPKEY-PUSH-ACK datagrams of a
// cookie pair (a KEK's SPI); release ends it. f must not block; the data are its own.
func (e *Endpoint) HandlePush(ci, cr isakmp.Cookie, f func(Datagram)) (release func()) {
	k := pairOf(ci, cr)
	e.mu.Lock()
	e.push[k] = f
	e.mu.Unlock()
	return func() {
		e.mu.Lock()
		delete(e.push, k)
		e.mu.Unlock()
	}
}

// SendPush sends a datagram that no SA of this endpoint protects (a rekey, or its
// acknowledgement) from the local address, zero for the route's.
func (e *Endpoint) SendPush(datagram []byte, local netip.Addr, remote netip.AddrPort) error {
	c := e.conn(local, remote.Addr(), e.natted(remote))
	if c == nil {
		return fmt.Errorf("no socket to reach %s", remote)
	}
	if err := e.transmit(path{c, netip.AddrPortFrom(local, 0), remote}, datagram); err != nil {
		return err
	}
	e.pushSent.Add(1)
	return nil
}

// Drops is a copy of the counters.
func (e *Endpoint) Drops() map[DropReason]uint64 { return e.count.copy() }

// drop counts.
func (e *Endpoint) drop(r DropReason) {
	e.count.add(r)
	e.publish()
}

// work runs jobs until the end.
func (e *Endpoint) work() {
	for f := e.jobs.take(e.quit); f != nil; f = e.jobs.take(e.quit) {
		f()
	}
}

// queue gives f to a worker; when all are behind, it drops and counts, since the peer
// sends again.
func (e *Endpoint) queue(i lane, f func()) bool {
	if !e.jobs.put(i, f) {
		e.drop(DropOverload)
		return false
	}
	return true
}

// transmit sends a datagram over a path.
func (e *Endpoint) transmit(p path, datagram []byte) error {
	if p.conn.natt {
		datagram = append(make([]byte, 4, 4+len(datagram)), datagram...)
	}
	if err := p.conn.Write(datagram, p.local.Addr(), p.remote); err != nil {
		if !errors.Is(err, net.ErrClosed) {
			e.drop(DropSend)
		}
		return fmt.Errorf("send to %s: %w", p.remote, err)
	}
	return nil
}

// conn finds the socket for a source address (may be zero) and a destination's family.
func (e *Endpoint) conn(local, remote netip.Addr, natt bool) *boundConn {
	var other *boundConn
	for _, c := range e.conns {
		a := c.LocalAddr().Addr()
		if c.natt != natt || a.Is4() != remote.Is4() {
			continue
		}
		if a == local {
			return c
		}
		if a.IsUnspecified() || !local.IsValid() && other == nil {
			other = c
		}
	}
	return other
}

// ended tells whether ctx or the endpoint has ended.
func (e *Endpoint) ended(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.quit:
		return Closed
	default:
		return nil
	}
}
