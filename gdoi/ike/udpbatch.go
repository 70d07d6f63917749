package ike

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// This file sends one datagram to many on a kernel's socket: sendmmsg(2) in pieces,
// continued where the kernel stopped, waiting a bounded time where it has no room.

// batchPiece is how many datagrams one call hands to the kernel.
const batchPiece = 64

// How long a sender waits for room in the socket or in the interface's queue before
// it gives a datagram up: it begins with stallMin, doubles, and ends with stallMax in
// all. Progress starts it anew.
const (
	stallMin = 250 * time.Microsecond
	stallMax = 500 * time.Millisecond
)

// sendmmsg is ipv4.PacketConn.WriteBatch, which serves both families; tests put a
// kernel without room in its place.
type sendmmsg func(ms []ipv4.Message, flags int) (int, error)

// WriteBatch sends b to all; see batchConn.
func (u *udpConn) WriteBatch(b []byte, local netip.Addr, to []netip.AddrPort) (int, error) {
	var oob []byte
	if local.IsValid() && !local.IsUnspecified() && !local.IsMulticast() {
		oob = sourceInfo(local, u.v6)
	}
	return writeBatch(ipv4.NewPacketConn(u.c).WriteBatch, &u.stalls, b, oob, to)
}

func writeBatch(send sendmmsg, stalls *atomic.Uint64, b, oob []byte, to []netip.AddrPort) (int, error) {
	n := min(len(to), batchPiece)
	addrs, ms := make([]net.UDPAddr, n), make([]ipv4.Message, n)
	buffers := [][]byte{b}
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: buffers, OOB: oob, Addr: &addrs[i]}
	}
	sent := 0
	for sent < len(to) {
		piece := to[sent:min(len(to), sent+batchPiece)]
		for i, a := range piece {
			ip := a.Addr().As16()
			addrs[i] = net.UDPAddr{IP: append(addrs[i].IP[:0], ip[:]...), Port: int(a.Port()), Zone: a.Addr().Zone()}
			if a.Addr().Is4() {
				v4 := a.Addr().As4()
				addrs[i].IP = append(addrs[i].IP[:0], v4[:]...)
			}
		}
		n, err := sendPiece(send, stalls, ms[:len(piece)])
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendPiece sends a piece, whose progress the kernel may stop anywhere. err is that of
// the first datagram that wasn't sent.
func sendPiece(send sendmmsg, stalls *atomic.Uint64, ms []ipv4.Message) (sent int, err error) {
	wait, waited := stallMin, time.Duration(0)
	for len(ms) > 0 {
		n, err := send(ms, unix.MSG_DONTWAIT)
		if n > 0 {
			sent += n
			ms = ms[n:]
			wait, waited = stallMin, 0
			continue
		}
		switch {
		case err == nil:
			return sent, errors.New("sendmmsg sent nothing")
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS):
			return sent, fmt.Errorf("sendmmsg: %w", err)
		case waited >= stallMax:
			return sent, fmt.Errorf("sendmmsg: no room for %v: %w", waited, err)
		}
		stalls.Add(1)
		time.Sleep(wait)
		waited += wait
		wait = min(2*wait, stallMax-waited+stallMin)
	}
	return sent, nil
}

// multicastHops is the TTL of a multicast rekey: the kernel's default of 1 ends at the
// first router.
const multicastHops = 64

func setMulticastHops(fd int, v6 bool) error {
	if v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, multicastHops)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, multicastHops)
}
