package main

// A UDP socket of a whole network of addresses, read and written in batches: each
// datagram tells which of our addresses it was sent to, or is sent from.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many datagrams one system call moves, at most: as many as the key
	// server's engine sends in a loop.
	batch = 50
	// largest is the longest datagram that is read.
	largest = 8192
	// roomy is the receive buffer of a simulated crowd, in octets: ten thousand machines
	// have ten thousand buffers.
	roomy = 64 << 20
)

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// inPktinfo is struct in_pktinfo: interface, source to use, destination that was asked.
const inPktinfo = 12

// socket is a bound IPv4 UDP socket.
type socket struct{ fd int }

// listen binds a socket that shares its port with others: a peer's datagrams all go to
// the same one of them.
func listen(a netip.AddrPort) (socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return socket{}, fmt.Errorf("socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, roomy),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, roomy),
		// Readers look up now and then whether they are still wanted.
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200000}))
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()})
	}
	if err != nil {
		unix.Close(fd)
		return socket{}, fmt.Errorf("UDP socket on %s: %w", a, err)
	}
	return socket{fd}, nil
}

func (s socket) close() { unix.Close(s.fd) }

// pack is room for a batch, for one reader or one writer.
type pack struct {
	m     [batch]mmsghdr
	iov   [batch]unix.Iovec
	names [batch]unix.RawSockaddrInet4
	oob   [batch][32]byte
	bufs  [][]byte
}

func newPack() *pack {
	p := &pack{bufs: make([][]byte, batch)}
	all := make([]byte, batch*largest)
	for i := range p.m {
		p.bufs[i] = all[i*largest : (i+1)*largest : (i+1)*largest]
		p.iov[i].Base = &p.bufs[i][0]
		h := &p.m[i].hdr
		h.Iov = &p.iov[i]
		h.SetIovlen(1)
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&p.names[i])), unix.SizeofSockaddrInet4
		h.Control = &p.oob[i][0]
	}
	return p
}

// receive waits for at least one datagram; 0: none came for a while.
func (s socket) receive(p *pack) (int, error) {
	for i := range p.m {
		p.iov[i].SetLen(largest)
		p.m[i].hdr.Namelen = unix.SizeofSockaddrInet4
		p.m[i].hdr.SetControllen(len(p.oob[i]))
	}
	const waitForOne = 0x10000
	n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&p.m[0])), batch, waitForOne, 0, 0)
	switch e {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("recvmmsg: %w", e)
}

// got is the datagram in place i: its octets, where it comes from and which address it
// asked. The octets are valid until the next receive.
func (p *pack) got(i int) (data []byte, remote netip.AddrPort, local netip.Addr) {
	data = p.bufs[i][:min(int(p.m[i].n), largest)]
	port := *(*[2]byte)(unsafe.Pointer(&p.names[i].Port))
	remote = netip.AddrPortFrom(netip.AddrFrom4(p.names[i].Addr), binary.BigEndian.Uint16(port[:]))
	if c := p.oob[i][:]; p.m[i].hdr.Controllen >= uint64(unix.CmsgLen(inPktinfo)) {
		local = netip.AddrFrom4([4]byte(c[unix.CmsgLen(0)+8:]))
	}
	return data, remote, local
}

// put fills place i. data isn't copied and must stay until the batch is sent.
func (p *pack) put(i int, data []byte, local netip.Addr, remote netip.AddrPort) {
	p.iov[i].Base = &data[0]
	p.iov[i].SetLen(len(data))
	p.names[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: remote.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.names[i].Port))[:], remote.Port())
	c := p.oob[i][:]
	clear(c)
	pktinfo(c, local)
	p.m[i].hdr.SetControllen(len(c))
}

// send sends the first n places.
func (s socket) send(p *pack, n int) error {
	for at := 0; at < n; {
		k, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&p.m[at])), uintptr(n-at), 0, 0, 0)
		switch e {
		case 0:
			at += int(k)
		case unix.EINTR:
		default:
			return fmt.Errorf("sendmmsg: %w", e)
		}
	}
	return nil
}

// sendOne sends one datagram.
func (s socket) sendOne(data []byte, local netip.Addr, remote netip.AddrPort) error {
	c := make([]byte, unix.CmsgSpace(inPktinfo))
	pktinfo(c, local)
	err := unix.Sendmsg(s.fd, data, c, &unix.SockaddrInet4{Port: int(remote.Port()), Addr: remote.Addr().As4()}, 0)
	if err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	return nil
}

// pktinfo writes the control message that sets a datagram's source.
func pktinfo(c []byte, local netip.Addr) {
	binary.NativeEndian.PutUint64(c, uint64(unix.CmsgLen(inPktinfo)))
	binary.NativeEndian.PutUint32(c[8:], unix.IPPROTO_IP)
	binary.NativeEndian.PutUint32(c[12:], unix.IP_PKTINFO)
	from := local.As4()
	copy(c[unix.CmsgLen(0)+4:], from[:])
}
