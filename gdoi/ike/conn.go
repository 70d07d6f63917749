package ike

import "net/netip"

// This file is the endpoint's view of a socket, so that tests can give it a network
// in memory.

// Datagram is one received datagram. Local is the address that was asked (the
// destination of the packet) with the socket's port.
type Datagram struct {
	Data          []byte
	Remote, Local netip.AddrPort
}

// PacketConn is a bound UDP socket. Addresses are never IPv4-mapped.
type PacketConn interface {
	// Read waits for a datagram and copies it into b; Data is a part of b. After Close
	// it returns net.ErrClosed; any other error is transient.
	Read(b []byte) (Datagram, error)
	// Write sends from the local address, which may be invalid to let routing choose.
	Write(b []byte, local netip.Addr, remote netip.AddrPort) error
	// LocalAddr is the bound address; unspecified if it is bound to all.
	LocalAddr() netip.AddrPort
	Close() error
}
