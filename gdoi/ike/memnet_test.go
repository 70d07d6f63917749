package ike

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// memNet is a network in memory: it loses, doubles, delays (and so reorders) datagrams
// by a seeded random source, and hands each to a tap.
type memNet struct {
	mu        sync.Mutex
	rnd       *rand.Rand
	conns     map[netip.AddrPort]*memConn
	loss, dup float64
	delay     time.Duration // at most
	tap       func(from, to netip.AddrPort, b []byte) (drop bool)
	sent      int
}

func newMemNet(seed uint64) *memNet {
	return &memNet{rnd: rand.New(rand.NewPCG(seed, 1)), conns: map[netip.AddrPort]*memConn{}}
}

type memConn struct {
	n     *memNet
	local netip.AddrPort
	in    chan Datagram
	done  chan struct{}
	once  sync.Once
}

func (n *memNet) listen(a netip.AddrPort) (PacketConn, error) {
	c := &memConn{n: n, local: a, in: make(chan Datagram, 1024), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[a] = c
	return c, nil
}

func (c *memConn) LocalAddr() netip.AddrPort { return c.local }

func (c *memConn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		if c.n.conns[c.local] == c {
			delete(c.n.conns, c.local)
		}
	})
	return nil
}

func (c *memConn) Read(b []byte) (Datagram, error) {
	select {
	case d := <-c.in:
		d.Data = b[:copy(b, d.Data)]
		return d, nil
	case <-c.done:
		return Datagram{}, net.ErrClosed
	}
}

func (c *memConn) Write(b []byte, _ netip.Addr, remote netip.AddrPort) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	c.n.send(c.local, remote, bytes.Clone(b))
	return nil
}

// send is also how tests inject.
func (n *memNet) send(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	if n.tap != nil && n.tap(from, to, b) {
		return
	}
	copies := 1
	if n.rnd.Float64() < n.dup {
		copies = 2
	}
	for range copies {
		if n.rnd.Float64() < n.loss {
			continue
		}
		d := time.Duration(0)
		if n.delay > 0 {
			d = time.Duration(n.rnd.Int64N(int64(n.delay)))
		}
		if d == 0 {
			n.deliver(from, to, b)
			continue
		}
		time.AfterFunc(d, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.deliver(from, to, b)
		})
	}
}

func (n *memNet) deliver(from, to netip.AddrPort, b []byte) {
	if c := n.conns[to]; c != nil {
		select {
		case c.in <- Datagram{Data: b, Remote: from, Local: to}:
		default:
		}
	}
}

// endpoint makes one at an address of the network.
func (n *memNet) endpoint(t testing.TB, addr string, c *Config, edit func(*Options)) *Endpoint {
	t.Helper()
	o := Options{Locals: []netip.Addr{netip.MustParseAddr(addr)}, Listen: n.listen, Config: c, Workers: 2}
	if edit != nil {
		edit(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
