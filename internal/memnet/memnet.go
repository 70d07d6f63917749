// Package memnet is a datagram network in memory for tests: unicast and multicast
// between addresses, with loss, duplication, delay and reordering by a seeded source,
// and with taps. It opens no socket and waits only on channels, mutexes and timers, so
// that whole nodes run over it under the fake clock of testing/synctest.
package memnet

// This file is the network: who listens where, and what becomes of a datagram on its
// way: watchers see it, the tap changes or drops it, then links lose, double and delay
// it, and at last it stands in its receiver's queue.

import (
	"container/heap"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// maxDatagram is the most that UDP over IPv4 carries.
const maxDatagram = 65507

// Datagram is one datagram as its receiver sees it: Local is the destination, which is
// the group for a multicast.
type Datagram struct {
	Data          []byte
	Remote, Local netip.AddrPort
}

// Stats counts datagrams. A multicast is sent once and may be delivered, lost and so on
// once a member.
type Stats struct {
	Sent       int // by Write and Send
	Dropped    int // by the tap
	Lost       int // by a link's chance
	Cut        int // on a link that is cut
	Duplicated int // additional copies
	Reordered  int // held back
	Delivered  int // into a receiver's queue
	Nowhere    int // nobody listens at the destination
	Overflowed int // the receiver's queue was full
}

// Tap sees a datagram before links do and returns what goes on, nil for nothing. It may
// keep b, which nobody changes afterwards, but must return a copy to change it. Taps and
// watchers run one at a time and may call Deliver, but not what sends or sets taps.
type Tap func(from, to netip.AddrPort, b []byte) []byte

// Network is a network in memory. Its methods may be called from any goroutine.
type Network struct {
	// tapMu is held while taps run: whoever has replaced one knows that it has ended.
	tapMu    sync.Mutex
	tap      Tap
	watchers map[int]func(Datagram)
	watchID  int

	mu      sync.Mutex
	seed    uint64
	conns   map[netip.AddrPort]*Conn
	members map[netip.Addr][]netip.Addr // by group, in order of joining
	link    Link
	links   map[path]*direction
	cuts    map[path]bool
	flying  flight
	order   uint64
	stats   Stats
}

// New makes a network whose links neither lose nor delay. In a synctest bubble it must
// be made there. The fate of a datagram depends on the seed and on those that went the
// same direction before it, not on what others send meanwhile.
func New(seed uint64) *Network {
	return &Network{seed: seed, conns: map[netip.AddrPort]*Conn{}, members: map[netip.Addr][]netip.Addr{},
		links: map[path]*direction{}, cuts: map[path]bool{}, watchers: map[int]func(Datagram){}}
}

// Listen binds a socket. If local is unspecified, it is bound to all addresses of its
// family among the host's, and LocalAddr is the first of them. An address in use is
// refused with syscall.EADDRINUSE.
func (n *Network) Listen(local netip.AddrPort, host ...netip.Addr) (*Conn, error) {
	c := &Conn{n: n, local: local, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if !local.Addr().IsUnspecified() {
		c.bound = []netip.AddrPort{local}
	} else {
		for _, a := range host {
			if a.Is6() == local.Addr().Is6() {
				c.bound = append(c.bound, netip.AddrPortFrom(a, local.Port()))
			}
		}
		if len(c.bound) > 0 {
			c.local = c.bound[0]
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range c.bound {
		if n.conns[a] != nil {
			return nil, fmt.Errorf("memnet: listen on %s: %w", a, syscall.EADDRINUSE)
		}
	}
	for _, a := range c.bound {
		n.conns[a] = c
	}
	return c, nil
}

// Join makes the host at an address a member of a multicast group: its sockets get what
// is sent to the group and their port. A member hears itself.
func (n *Network) Join(member, group netip.Addr) {
	n.Leave(member, group)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members[group] = append(n.members[group], member)
}

// Leave ends a membership.
func (n *Network) Leave(member, group netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var rest []netip.Addr
	for _, m := range n.members[group] {
		if m != member {
			rest = append(rest, m)
		}
	}
	n.members[group] = rest
}

// SetTap replaces the tap; nil takes it away. When it returns, the former one has ended.
func (n *Network) SetTap(t Tap) {
	n.tapMu.Lock()
	defer n.tapMu.Unlock()
	n.tap = t
}

// Watch calls f with each datagram as it is sent, whatever becomes of it, until stop.
func (n *Network) Watch(f func(Datagram)) (stop func()) {
	n.tapMu.Lock()
	defer n.tapMu.Unlock()
	n.watchID++
	id := n.watchID
	n.watchers[id] = f
	return func() {
		n.tapMu.Lock()
		defer n.tapMu.Unlock()
		delete(n.watchers, id)
	}
}

// Stats returns the counters so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Send puts a datagram on the wire as if from had written it: how tests forge and replay.
func (n *Network) Send(from, to netip.AddrPort, b []byte) {
	b = append([]byte{}, b...)
	dropped := false
	n.tapMu.Lock()
	for id := 1; id <= n.watchID; id++ {
		if f := n.watchers[id]; f != nil {
			f(Datagram{Data: b, Remote: from, Local: to})
		}
	}
	if n.tap != nil {
		b = n.tap(from, to, b)
		dropped = b == nil
	}
	n.tapMu.Unlock()

	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	if dropped {
		n.stats.Dropped++
		return
	}
	d := Datagram{Data: b, Remote: from, Local: to}
	for _, m := range n.receivers(to) {
		n.carry(m, d)
	}
}

// Deliver puts a datagram into its receiver's queue at once, past taps and links.
func (n *Network) Deliver(from, to netip.AddrPort, b []byte) {
	d := Datagram{Data: append([]byte{}, b...), Remote: from, Local: to}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.receivers(to) {
		n.arrive(m, d)
	}
}

// receivers are the hosts that a destination stands for.
func (n *Network) receivers(to netip.AddrPort) []netip.Addr {
	if to.Addr().IsMulticast() {
		return n.members[to.Addr()]
	}
	return []netip.Addr{to.Addr()}
}

// carry is a datagram's way to one host.
func (n *Network) carry(host netip.Addr, d Datagram) {
	from := d.Remote.Addr()
	if n.isCut(from, host) {
		n.stats.Cut++
		return
	}
	dir := n.direction(from, host)
	l := n.link
	if dir.own != nil {
		l = *dir.own
	}
	copies := 1
	if dir.rnd.Float64() < l.Duplicate {
		copies = 2
		n.stats.Duplicated++
	}
	for range copies {
		if dir.rnd.Float64() < l.Loss {
			n.stats.Lost++
			continue
		}
		wait := l.wait(dir.rnd)
		if dir.rnd.Float64() < l.Reorder {
			n.stats.Reordered++
			wait += max(l.Delay+l.Jitter, minHold)
		}
		if wait == 0 {
			n.arrive(host, d)
			continue
		}
		n.order++
		heap.Push(&n.flying, flying{due: time.Now().Add(wait), order: n.order, host: host, d: d})
		time.AfterFunc(wait, n.land)
	}
}

// land delivers what is due, in order of arrival: timers of one instant have none.
func (n *Network) land() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for now := time.Now(); len(n.flying) > 0 && !n.flying[0].due.After(now); {
		f := heap.Pop(&n.flying).(flying)
		n.arrive(f.host, f.d)
	}
}

func (n *Network) arrive(host netip.Addr, d Datagram) {
	c := n.conns[netip.AddrPortFrom(host, d.Local.Port())]
	switch {
	case c == nil:
		n.stats.Nowhere++
	case len(c.queue) >= queueMax:
		n.stats.Overflowed++
	default:
		n.stats.Delivered++
		c.queue = append(c.queue, d)
		c.signal()
	}
}

// flying is a datagram on its way, flight all of them as a heap.
type flying struct {
	due   time.Time
	order uint64
	host  netip.Addr
	d     Datagram
}

type flight []flying

func (f flight) Len() int      { return len(f) }
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f flight) Less(i, j int) bool {
	if c := f[i].due.Compare(f[j].due); c != 0 {
		return c < 0
	}
	return f[i].order < f[j].order
}
func (f *flight) Push(x any) { *f = append(*f, x.(flying)) }
func (f *flight) Pop() any {
	old := *f
	x := old[len(old)-1]
	old[len(old)-1] = flying{}
	*f = old[:len(old)-1]
	return x
}
