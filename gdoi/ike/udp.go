package ike

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// This file is the kernel's UDP as a PacketConn: it learns which local address was
// asked (IP_PKTINFO) and answers from that one. Reading is in udpinbox.go, sending to
// many in udpbatch.go.

type udpConn struct {
	c     *net.UDPConn
	local netip.AddrPort
	v6    bool
	in    *inbox

	stalls atomic.Uint64 // waits for room to send
}

// receiveBuffer holds the first messages of some thousand members at once.
const receiveBuffer = 4 << 20

// listenUDP binds one socket; control runs before the bind.
func listenUDP(local netip.AddrPort, control func(syscall.RawConn) error) (PacketConn, error) {
	v6 := local.Addr().Is6()
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var serr error
		err := rc.Control(func(fd uintptr) {
			if v6 {
				serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			} else {
				serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			}
			serr = errors.Join(serr, setMulticastHops(int(fd), v6))
		})
		if err = errors.Join(err, serr); err != nil {
			return fmt.Errorf("packet info, multicast hops: %w", err)
		}
		if control != nil {
			return control(rc)
		}
		return nil
	}}
	pc, err := lc.ListenPacket(context.Background(), network, local.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", local, err)
	}
	c := pc.(*net.UDPConn)
	if err := c.SetReadBuffer(receiveBuffer); err != nil { // the kernel may give less, silently
		return nil, errors.Join(fmt.Errorf("receive buffer of %s: %w", local, err), c.Close())
	}
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return &udpConn{c: c, local: netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), v6: v6, in: newInbox(ipv4.NewPacketConn(c).ReadBatch)}, nil
}

func (u *udpConn) LocalAddr() netip.AddrPort { return u.local }
func (u *udpConn) Close() error              { return u.c.Close() }

func (u *udpConn) Write(b []byte, local netip.Addr, remote netip.AddrPort) error {
	var oob []byte
	if local.IsValid() && !local.IsUnspecified() && !local.IsMulticast() {
		oob = sourceInfo(local, u.v6)
	}
	_, _, err := u.c.WriteMsgUDPAddrPort(b, oob, remote)
	return err
}

// sourceInfo makes the control message that sets a datagram's source address.
func sourceInfo(local netip.Addr, v6 bool) []byte {
	level, typ, size := unix.IPPROTO_IP, unix.IP_PKTINFO, 12
	if v6 {
		level, typ, size = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, 20
	}
	b := make([]byte, unix.CmsgSpace(size))
	head := unix.CmsgLen(0)
	if unsafe.Sizeof(uintptr(0)) == 8 { // cmsghdr: length, level, type
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(size)))
		binary.NativeEndian.PutUint32(b[8:], uint32(level))
		binary.NativeEndian.PutUint32(b[12:], uint32(typ))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(size)))
		binary.NativeEndian.PutUint32(b[4:], uint32(level))
		binary.NativeEndian.PutUint32(b[8:], uint32(typ))
	}
	if v6 {
		copy(b[head:], local.AsSlice())
	} else {
		copy(b[head+4:], local.Unmap().AsSlice()) // in_pktinfo.ipi_spec_dst
	}
	return b
}

// routeLocal asks the kernel which source address it would use.
func routeLocal(remote netip.AddrPort) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote)) // sends nothing
	if err != nil {
		return netip.Addr{}, fmt.Errorf("route to %s: %w", remote.Addr(), err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
