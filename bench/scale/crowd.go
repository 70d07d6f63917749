package main

// The members' process: every member has an address of its own on a network that a few
// sockets receive for. What arrives for a member that is registering goes to its IKE
// endpoint, a rekey is opened and answered, an echo goes back.

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
)

// Ports: the members' own, and one for echoes that no engine sees.
const (
	gdoiPort = ike.Port
	echoPort = 8480
)

// Crowd is what the members' process can be asked for.
type Crowd struct {
	process
	members []*member
	sockets []socket
	echo    atomic.Pointer[echoPlan]
	deaf    atomic.Bool // rekeys are lost

	verified, refused, stray, sendErrors atomic.Int64
}

// member is one simulated member.
type member struct {
	addr netip.Addr
	conn atomic.Pointer[conn] // of the registration under way

	mu       sync.Mutex
	keys     keys
	prepared []byte // acknowledgement of the next rekey, made in advance
}

// CrowdOptions begin a crowd.
type CrowdOptions struct{ Members int }

// Begin opens the sockets.
func (c *Crowd) Begin(o CrowdOptions, _ *struct{}) error {
	for i := range o.Members {
		c.members = append(c.members, &member{addr: memberAddr(i)})
	}
	for range runtime.GOMAXPROCS(0) {
		for _, port := range []uint16{gdoiPort, echoPort} {
			s, err := listen(netip.AddrPortFrom(netip.IPv4Unspecified(), port))
			if err != nil {
				return err
			}
			if port == gdoiPort {
				c.sockets = append(c.sockets, s)
				go c.read(s, c.arrived)
				continue
			}
			go c.read(s, c.echoed)
		}
	}
	return nil
}

// read answers what arrives: handle returns what to send back, nil for nothing.
func (c *Crowd) read(s socket, handle func(m *member, d []byte, remote netip.AddrPort) []byte) {
	in, out := newPack(), newPack()
	for {
		n, err := s.receive(in)
		if err != nil {
			os.Stderr.WriteString("scale: " + err.Error() + "\n")
			return
		}
		answers := 0
		for i := range n {
			d, remote, local := in.got(i)
			k := memberIndex(local, len(c.members))
			if k < 0 {
				c.stray.Add(1)
				continue
			}
			if a := handle(c.members[k], d, remote); a != nil {
				out.put(answers, a, local, remote)
				answers++
			}
		}
		if err := s.send(out, answers); err != nil {
			c.sendErrors.Add(1)
		}
	}
}

// exchangeAt is where an ISAKMP header has its exchange type (RFC 2408 §3.1).
const exchangeAt = 18

func (c *Crowd) arrived(m *member, d []byte, remote netip.AddrPort) []byte {
	if len(d) > exchangeAt && isakmp.ExchangeType(d[exchangeAt]) == isakmp.GroupKeyPush {
		if c.deaf.Load() {
			return nil
		}
		if a := m.unread(); a != nil {
			return a
		}
		ack, err := m.rekey(d)
		if err != nil {
			c.refused.Add(1)
			return nil
		}
		c.verified.Add(1)
		return ack
	}
	if x := m.conn.Load(); x != nil {
		x.push(d, remote)
	}
	return nil
}

// Deaf makes members lose rekeys.
func (c *Crowd) Deaf(on bool, _ *struct{}) error {
	c.deaf.Store(on)
	return nil
}

// Prepare makes every member answer the next rekey at once, without a look at it.
func (c *Crowd) Prepare(_ struct{}, _ *struct{}) error {
	for _, m := range c.members {
		m.prepare()
	}
	return nil
}

// Tally counts what members did with rekeys since the start.
type Tally struct{ Verified, Refused, Stray, SendErrors int64 }

// Tally is a copy of the counters.
func (c *Crowd) Tally(_ struct{}, t *Tally) error {
	*t = Tally{c.verified.Load(), c.refused.Load(), c.stray.Load(), c.sendErrors.Load()}
	return nil
}

// conn is a member's UDP socket as its IKE endpoint sees it.
type conn struct {
	c     *Crowd
	m     *member
	local netip.AddrPort
	in    chan ike.Datagram
	done  chan struct{}
	once  sync.Once
}

// waiting is how many datagrams a member's socket holds.
const waiting = 16

// open makes the member's socket; that of another port than GDOI's gets nothing.
func (m *member) open(c *Crowd, a netip.AddrPort) *conn {
	x := &conn{c: c, m: m, local: a, in: make(chan ike.Datagram, waiting), done: make(chan struct{})}
	if a.Port() == gdoiPort {
		m.conn.Store(x)
	}
	return x
}

func (x *conn) push(d []byte, remote netip.AddrPort) {
	select {
	case x.in <- ike.Datagram{Data: append([]byte(nil), d...), Remote: remote, Local: x.local}:
	default:
	}
}

// Read implements ike.PacketConn.
func (x *conn) Read(b []byte) (ike.Datagram, error) {
	select {
	case d := <-x.in:
		d.Data = b[:copy(b, d.Data)]
		return d, nil
	case <-x.done:
		return ike.Datagram{}, net.ErrClosed
	}
}

// Write implements ike.PacketConn. After Close nothing goes out: a member that leaves
// the simulation doesn't tell the key server, which keeps its SA as that of a member
// that lives.
func (x *conn) Write(b []byte, _ netip.Addr, remote netip.AddrPort) error {
	select {
	case <-x.done:
		return net.ErrClosed
	default:
	}
	s := x.c.sockets[int(x.m.addr.As4()[3])%len(x.c.sockets)]
	return s.sendOne(b, x.local.Addr(), remote)
}

// LocalAddr implements ike.PacketConn.
func (x *conn) LocalAddr() netip.AddrPort { return x.local }

// Close implements ike.PacketConn.
func (x *conn) Close() error {
	x.once.Do(func() {
		close(x.done)
		x.m.conn.CompareAndSwap(x, nil)
	})
	return nil
}

var errLate = errors.New("not registered in time")

// patience is how long one registration may take before it counts as failed.
const patience = 2 * time.Minute
