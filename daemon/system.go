package daemon

// What the daemon asks of the system: addresses of interfaces.

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// addresses looks up addresses; tests replace it.
type addresses interface {
	of(iface string, v4 bool) netip.Addr // first global one; zero when there is none
	all() []netip.Addr
	watch(done <-chan struct{}, changed func()) error
}

// kernelAddresses asks the kernel. Alternative interface names work.
type kernelAddresses struct{}

func (kernelAddresses) of(iface string, v4 bool) netip.Addr {
	l, err := netlink.LinkByName(iface)
	if err != nil {
		return netip.Addr{}
	}
	family := netlink.FAMILY_V6
	if v4 {
		family = netlink.FAMILY_V4
	}
	list, err := netlink.AddrList(l, family)
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range list {
		// A device that stands for the vendor's Loopback0 has 127.0.0.1 too.
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap().IsGlobalUnicast() {
			return ip.Unmap()
		}
	}
	return netip.Addr{}
}

func (kernelAddresses) all() (out []netip.Addr) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			out = append(out, ip.Unmap())
		}
	}
	return out
}

func (kernelAddresses) watch(done <-chan struct{}, changed func()) error {
	c := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(c, done); err != nil {
		return err
	}
	go func() {
		for range c {
			changed()
		}
	}()
	return nil
}
