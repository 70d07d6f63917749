// Package mcast makes the machine a receiver of multicast groups: it joins them on an
// interface, and the kernel speaks IGMPv2, IGMPv3 or MLD as the network does.
//
// A membership is a socket of its own, one a group, that never receives anything: once
// the kernel's interface is a member, datagrams go to every socket bound to the port
// whatever address it is bound to "any" of, since IP_MULTICAST_ALL is on by default
// (ip(7), ipv6(7)). So a group that comes and goes leaves the sockets that receive
// alone. Closing the socket leaves the group, also when the process dies.
package mcast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Errors of Join.
var (
	ErrNotMulticast = errors.New("mcast: not a multicast address")
	ErrFamily       = errors.New("mcast: group and source of different families")
)

// Joiner joins groups. The zero value is ready. Safe for concurrent use.
type Joiner struct {
	// Control is applied to each socket before it is used; may be nil.
	Control func(syscall.RawConn) error

	mu     sync.Mutex
	joined map[Membership]*member
}

// Membership is a group on an interface, from one source or, if that is invalid, any.
type Membership struct {
	Interface     string
	Group, Source netip.Addr
}

// member is a socket with its users.
type member struct {
	close func() error
	users int
}

// Join joins the group on the interface. Who joins what is joined already shares it;
// the last leave ends it. leave may be called again without effect.
func (j *Joiner) Join(iface string, group, source netip.Addr) (leave func(), err error) {
	k := Membership{iface, group.Unmap(), source.Unmap()}
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.joined[k]
	if m == nil {
		closer, err := j.open(k)
		if err != nil {
			return nil, err
		}
		if j.joined == nil {
			j.joined = map[Membership]*member{}
		}
		m = &member{close: closer}
		j.joined[k] = m
	}
	m.users++
	var once sync.Once
	return func() { once.Do(func() { j.leave(k, m) }) }, nil
}

func (j *Joiner) leave(k Membership, m *member) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if m.users--; m.users == 0 {
		_ = m.close() // leaves the group whatever it says
		delete(j.joined, k)
	}
}

// open makes a socket that is a member.
func (j *Joiner) open(k Membership) (func() error, error) {
	if !k.Group.IsMulticast() {
		return nil, fmt.Errorf("%w: %v", ErrNotMulticast, k.Group)
	}
	if k.Source.IsValid() && k.Source.Is4() != k.Group.Is4() {
		return nil, fmt.Errorf("%w: %v from %v", ErrFamily, k.Group, k.Source)
	}
	ifi, err := net.InterfaceByName(k.Interface)
	if err != nil {
		return nil, fmt.Errorf("mcast: interface %s: %w", k.Interface, err)
	}
	network, local := "udp4", &net.UDPAddr{IP: net.IPv4zero}
	if !k.Group.Is4() {
		network, local = "udp6", &net.UDPAddr{IP: net.IPv6unspecified}
	}
	c, err := net.ListenUDP(network, local)
	if err != nil {
		return nil, fmt.Errorf("mcast: %w", err)
	}
	if err := j.member(c, ifi, k); err != nil {
		c.Close()
		return nil, fmt.Errorf("mcast: joining %v on %s: %w", k.Group, k.Interface, err)
	}
	return c.Close, nil
}

func (j *Joiner) member(c *net.UDPConn, ifi *net.Interface, k Membership) error {
	if j.Control != nil {
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		if err := j.Control(raw); err != nil {
			return err
		}
	}
	group := &net.UDPAddr{IP: k.Group.AsSlice()}
	source := &net.UDPAddr{IP: k.Source.AsSlice()}
	if k.Group.Is4() {
		p := ipv4.NewPacketConn(c)
		if k.Source.IsValid() {
			return p.JoinSourceSpecificGroup(ifi, group, source)
		}
		return p.JoinGroup(ifi, group)
	}
	p := ipv6.NewPacketConn(c)
	if k.Source.IsValid() {
		return p.JoinSourceSpecificGroup(ifi, group, source)
	}
	return p.JoinGroup(ifi, group)
}
