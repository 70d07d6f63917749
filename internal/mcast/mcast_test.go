package mcast

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

func TestRefuses(t *testing.T) {
	var j Joiner
	for _, x := range []struct {
		iface, group, source string
		want                 error
	}{
		{"lo", "192.0.2.1", "", ErrNotMulticast}, {"lo", "232.1.1.1", "2001:db8::1", ErrFamily}, {"no-such", "239.1.1.1", "", nil},
	} {
		src, _ := netip.ParseAddr(x.source)
		if _, err := j.Join(x.iface, netip.MustParseAddr(x.group), src); err == nil || x.want != nil && !errors.Is(err, x.want) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

// alone runs f in a network namespace of its own with two interfaces that are joined.
func alone(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never given back: the thread and its namespace end here
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		a := netlink.NewLinkAttrs()
		a.Name = "wan"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "core"}); err != nil {
			t.Error(err)
			return
		}
		for name, addrs := range map[string][]string{"lo": nil, "wan": {"192.0.2.1/24", "2001:db8::1/64"}, "core": nil} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				t.Error(err)
				return
			}
			for _, s := range addrs {
				x, err := netlink.ParseAddr(s)
				if err == nil {
					x.Flags = unix.IFA_F_NODAD
					err = netlink.AddrAdd(l, x)
				}
				if err != nil {
					t.Error(err)
				}
			}
			if err := netlink.LinkSetUp(l); err != nil {
				t.Error(err)
			}
		}
		// The kernel brings IPv6 up on a link some time after the link itself.
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			c, err := net.Dial("udp6", "[ff15::1%wan]:848")
			if err == nil {
				_, err = c.Write([]byte("ready"))
				c.Close()
			}
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Error(err)
				return
			}
		}
		f(t)
	}()
	<-done
}

// listed reports whether the kernel lists the membership: in /proc/net/igmp the group's
// octets are in host order.
func listed(t *testing.T, file, hex string) bool {
	b, err := os.ReadFile("/proc/thread-self/net/" + file)
	if err != nil {
		t.Error(err)
	}
	return strings.Contains(strings.ToLower(string(b)), hex)
}

// pair is a socket that is bound to the port of rekeys, one that sends from ip, and the
// interface between them, until the test ends.
func pair(t *testing.T, network string, ip net.IP) (ear, mouth *net.UDPConn, wan *net.Interface, err error) {
	if ear, err = net.ListenUDP(network, &net.UDPAddr{Port: 848}); err != nil {
		return nil, nil, nil, err
	}
	t.Cleanup(func() { ear.Close() })
	if mouth, err = net.ListenUDP(network, &net.UDPAddr{IP: ip, Port: 10848}); err != nil {
		return nil, nil, nil, err
	}
	t.Cleanup(func() { mouth.Close() })
	wan, err = net.InterfaceByName("wan")
	return ear, mouth, wan, err
}

// A socket that is bound to the port of rekeys alone hears a group while it is joined,
// and, where a source is named, that source only.
func TestHearsWhileJoined(t *testing.T) {
	alone(t, func(t *testing.T) {
		ear, mouth, wan, err := pair(t, "udp4", net.IPv4(192, 0, 2, 1))
		if err != nil {
			t.Error(err)
			return
		}
		p := ipv4.NewPacketConn(mouth)
		if err := errors.Join(p.SetMulticastInterface(wan), p.SetMulticastLoopback(true)); err != nil {
			t.Error(err)
		}
		hears := func(group string) bool {
			if _, err := mouth.WriteTo([]byte("rekey"), &net.UDPAddr{IP: net.ParseIP(group), Port: 848}); err != nil {
				t.Error(err)
			}
			// Loopback delivers before the send returns.
			ear.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			n, _, err := ear.ReadFrom(make([]byte, 100))
			return err == nil && n == 5
		}
		var j Joiner
		join := func(group, source string) func() {
			src, _ := netip.ParseAddr(source)
			leave, err := j.Join("wan", netip.MustParseAddr(group), src)
			if err != nil {
				t.Error(err)
				return func() {}
			}
			return leave
		}
		if hears("239.1.1.1") {
			t.Error("hears a group that nobody joined")
		}
		first, second := join("239.1.1.1", ""), join("239.1.1.1", "")
		if !hears("239.1.1.1") || !listed(t, "igmp", "010101ef") {
			t.Error("doesn't hear the group")
		}
		first()
		first() // without effect
		if !hears("239.1.1.1") {
			t.Error("one of two left, and nobody hears")
		}
		second()
		if hears("239.1.1.1") || listed(t, "igmp", "010101ef") {
			t.Error("hears a group that was left")
		}
		other := join("232.1.1.1", "192.0.2.99")
		if hears("232.1.1.1") {
			t.Error("hears another source")
		}
		if !listed(t, "mcfilter", "0xe8010101 0xc0000263") {
			t.Error("the kernel doesn't ask for the source (IGMPv3)")
		}
		mine := join("232.1.1.1", "192.0.2.1")
		if !hears("232.1.1.1") {
			t.Error("doesn't hear the source")
		}
		mine()
		other()
		if len(j.joined) != 0 {
			t.Errorf("%d memberships are left", len(j.joined))
		}
	})
}

func TestHearsIPv6(t *testing.T) {
	alone(t, func(t *testing.T) {
		ear, mouth, wan, err := pair(t, "udp6", net.ParseIP("2001:db8::1"))
		if err != nil {
			t.Error(err)
			return
		}
		p := ipv6.NewPacketConn(mouth)
		if err := errors.Join(p.SetMulticastInterface(wan), p.SetMulticastLoopback(true)); err != nil {
			t.Error(err)
		}
		hears := func(group string) bool {
			if _, err := mouth.WriteTo([]byte("rekey"), &net.UDPAddr{IP: net.ParseIP(group), Port: 848}); err != nil {
				t.Error(err)
			}
			ear.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _, err := ear.ReadFrom(make([]byte, 100))
			return err == nil
		}
		var j Joiner
		for _, x := range []struct{ group, source string }{{"ff15::1", ""}, {"ff35::1", "2001:db8::1"}} {
			src, _ := netip.ParseAddr(x.source)
			if hears(x.group) {
				t.Errorf("%v: hears what nobody joined", x)
			}
			leave, err := j.Join("wan", netip.MustParseAddr(x.group), src)
			if err != nil {
				t.Error(err)
				continue
			}
			if !hears(x.group) {
				t.Errorf("%v: doesn't hear", x)
			}
			if leave(); hears(x.group) {
				t.Errorf("%v: hears what was left", x)
			}
		}
	})
}
