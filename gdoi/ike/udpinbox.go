package ike

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// This file reads from a kernel's socket: recvmmsg(2) brings as many datagrams as have
// arrived, up to a batch. Ten thousand acknowledgements come faster than one system call
// each could take them.

const (
	// inboxSize is how many datagrams one call brings, at most.
	inboxSize = 16
	// largestDatagram is more than UDP can carry. Memory that none fills isn't touched.
	largestDatagram = 65536
	// packetInfoRoom holds the control message of either family.
	packetInfoRoom = 64
)

// recvmmsg is ipv4.PacketConn.ReadBatch, which serves both families; tests put another
// in its place.
type recvmmsg func(ms []ipv4.Message, flags int) (int, error)

// inbox holds what came and wasn't read yet.
type inbox struct {
	receive recvmmsg
	ms      []ipv4.Message
	next, n int // ms[next:n] wait
}

func newInbox(receive recvmmsg) *inbox {
	b := &inbox{receive: receive, ms: make([]ipv4.Message, inboxSize)}
	data, oob := make([]byte, inboxSize*largestDatagram), make([]byte, inboxSize*packetInfoRoom)
	for i := range b.ms {
		d, o := i*largestDatagram, i*packetInfoRoom
		b.ms[i].Buffers = [][]byte{data[d : d+largestDatagram : d+largestDatagram]}
		b.ms[i].OOB = oob[o : o+packetInfoRoom : o+packetInfoRoom]
	}
	return b
}

// take waits for a datagram, which is valid until the next call.
func (b *inbox) take() (*ipv4.Message, error) {
	for b.next >= b.n {
		n, err := b.receive(b.ms, 0)
		if err != nil {
			return nil, err
		}
		b.next, b.n = 0, n
	}
	m := &b.ms[b.next]
	b.next++
	return m, nil
}

// Read isn't safe for concurrent use: one reader a socket.
func (u *udpConn) Read(b []byte) (Datagram, error) {
	m, err := u.in.take()
	if err != nil {
		return Datagram{}, err
	}
	d := Datagram{Data: b[:copy(b, m.Buffers[0][:m.N])], Local: u.local}
	if from, ok := m.Addr.(*net.UDPAddr); ok {
		a := from.AddrPort()
		d.Remote = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	if dst, ok := packetInfo(m.OOB[:m.NN]); ok {
		d.Local = netip.AddrPortFrom(dst, u.local.Port())
	}
	return d, nil
}

// packetInfo finds the destination address of a datagram in its control messages.
func packetInfo(oob []byte) (netip.Addr, bool) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		switch {
		case err != nil:
			return netip.Addr{}, false
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12:
			return netip.AddrFrom4([4]byte(data[8:12])), true // in_pktinfo.ipi_addr
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			return netip.AddrFrom16([16]byte(data[:16])), true // in6_pktinfo.ipi6_addr
		}
		oob = rest
	}
	return netip.Addr{}, false
}
