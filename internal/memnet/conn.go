package memnet

// This file is a bound socket of the network.

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// queueMax is how many datagrams wait at a socket, as many as a kernel's buffer of 4 MB
// holds of a thousand octets.
const queueMax = 4096

// Conn is a bound socket. As gives it the type that a package wants to read.
type Conn struct {
	n     *Network
	local netip.AddrPort
	bound []netip.AddrPort
	queue []Datagram // guarded by the network's mutex
	wake  chan struct{}
	done  chan struct{}
	once  sync.Once
}

// LocalAddr is the bound address, the first if there are several.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// Close unbinds it. Who waits in Receive gets net.ErrClosed.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		for _, a := range c.bound {
			delete(c.n.conns, a)
		}
		c.queue = nil
	})
	return nil
}

// signal says that the queue isn't empty.
func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // it is said already
	}
}

// Receive waits for a datagram and copies what fits of it into b. After Close it returns
// net.ErrClosed.
func (c *Conn) Receive(b []byte) (Datagram, error) {
	for {
		select {
		case <-c.done:
			return Datagram{}, net.ErrClosed
		default:
		}
		if d, ok := c.take(); ok {
			d.Data = b[:copy(b, d.Data)]
			return d, nil
		}
		select {
		case <-c.wake:
		case <-c.done:
		}
	}
}

func (c *Conn) take() (Datagram, bool) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if len(c.queue) == 0 {
		return Datagram{}, false
	}
	d := c.queue[0]
	c.queue[0] = Datagram{}
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil // idle sockets hold no memory
	} else {
		c.signal() // for a second reader
	}
	return d, true
}

// Write sends b. Its source is local if the socket is bound to that too, else LocalAddr.
// What UDP can't carry is refused with syscall.EMSGSIZE.
func (c *Conn) Write(b []byte, local netip.Addr, remote netip.AddrPort) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	if len(b) > maxDatagram {
		return fmt.Errorf("memnet: %d octets to %s: %w", len(b), remote, syscall.EMSGSIZE)
	}
	from := c.local
	if a := netip.AddrPortFrom(local, c.local.Port()); slices.Contains(c.bound, a) {
		from = a
	}
	c.n.Send(from, remote, b)
	return nil
}

// shape is a struct like Datagram, of whatever package.
type shape interface {
	~struct {
		Data          []byte
		Remote, Local netip.AddrPort
	}
}

// Socket is a Conn whose Read returns another package's datagram.
type Socket[D shape] struct{ *Conn }

// Read is Receive.
func (s Socket[D]) Read(b []byte) (D, error) {
	d, err := s.Receive(b)
	return D(d), err
}

// As converts what Listen returns: As[ike.Datagram](n.Listen(a)) is an ike.PacketConn.
// This package can't name ike's types, since ike's own tests use it.
func As[D shape](c *Conn, err error) (Socket[D], error) { return Socket[D]{c}, err }
