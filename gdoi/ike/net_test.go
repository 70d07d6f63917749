package ike

// Endpoints over a network in memory.

import (
	"net/netip"
	"testing"

	"getvpn/internal/memnet"
)

// endpoint makes one at an address of the network.
func endpoint(t testing.TB, n *memnet.Network, addr string, c *Config, edit func(*Options)) *Endpoint {
	t.Helper()
	o := Options{Locals: []netip.Addr{netip.MustParseAddr(addr)}, Config: c, Workers: 2,
		Listen: func(a netip.AddrPort) (PacketConn, error) { return memnet.As[Datagram](n.Listen(a)) }}
	if edit != nil {
		edit(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
