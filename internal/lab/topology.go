package lab

// The topology, IPv4 and IPv6 beside each other. N counts members from 1:
//
//	hN e0 10.1.N.10 ── lan 10.1.N.1 gmN wan 172.16.N.2 ── cN 172.16.N.1 core
//	                                        ks e0 172.16.8.2 ── k1 172.16.8.1 core
//
// Further key servers are ks2 172.16.9.2 on the core's k2, ks3 172.16.10.2 on k3, …
// hN also has 10.1.N.66, the address that the demo's list denies (travels in clear).
// IPv6: 2001:db8:1:N::10 behind 2001:db8:16:N::2; the key server is 2001:db8:16:8::2.

import (
	"fmt"
	"os/exec"
	"strings"
)

// Groups of the lab: data streams, and where a multicast rekey would go.
const (
	DataGroup  = "239.1.1.1"
	RekeyGroup = "239.0.0.1"
)

// Host returns the address of member n's host.
func Host(n int) string { return fmt.Sprintf("10.1.%d.10", n) }

// DeniedHost returns the second address of member n's host, which the lab's list denies.
func DeniedHost(n int) string { return fmt.Sprintf("10.1.%d.66", n) }

// Host6 returns the IPv6 address of member n's host.
func Host6(n int) string { return fmt.Sprintf("2001:db8:1:%d::10", n) }

// WAN returns member n's outside address.
func WAN(n int) string { return fmt.Sprintf("172.16.%d.2", n) }

// KeyServer is the first key server's address.
const KeyServer = "172.16.8.2"

// KSNode returns the node of key server n, from 1: ks, ks2, ks3, …
func KSNode(n int) string {
	if n == 1 {
		return "ks"
	}
	return fmt.Sprintf("ks%d", n)
}

// KSAddr returns the address of key server n; that of the first is KeyServer.
func KSAddr(n int) string { return fmt.Sprintf("172.16.%d.2", 7+n) }

// Core returns the core's interface towards member n.
func Core(n int) string { return fmt.Sprintf("c%d", n) }

// batch runs lines of ip(8) commands in one namespace.
func (l *Lab) batch(node string, lines ...string) error {
	c := exec.Command("ip", "-n", l.NS(node), "-batch", "-")
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: %s: %w: %s", node, err, out)
	}
	return nil
}

func (l *Lab) addNode(name string) error {
	if out, err := exec.Command("ip", "netns", "add", l.NS(name)).CombinedOutput(); err != nil {
		return fmt.Errorf("lab: namespace %s: %w: %s", l.NS(name), err, out)
	}
	l.nodes = append(l.nodes, name)
	router := "1"
	if name[0] == 'h' || strings.HasPrefix(name, "ks") {
		router = "0"
	}
	return l.Sysctl(name, map[string]string{
		"net/ipv6/conf/all/accept_dad":     "0",
		"net/ipv6/conf/default/accept_dad": "0",
		"net/ipv4/conf/all/rp_filter":      "0",
		"net/ipv4/conf/default/rp_filter":  "0",
		"net/ipv4/ip_forward":              router,
		"net/ipv6/conf/all/forwarding":     router,
		"net/ipv4/ping_group_range":        "0 0",
	})
}

// end is one side of a link.
type end struct{ node, dev, v4, v6 string }

// vethPair makes a bare link between two nodes.
func (l *Lab) vethPair(a, adev, b, bdev string) error {
	out, err := exec.Command("ip", "link", "add", adev, "netns", l.NS(a), "type", "veth",
		"peer", "name", bdev, "netns", l.NS(b)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lab: link %s %s: %w: %s", a, b, err, out)
	}
	return nil
}

func (l *Lab) link(a, b end) error {
	if err := l.vethPair(a.node, a.dev, b.node, b.dev); err != nil {
		return err
	}
	for _, e := range []end{a, b} {
		lines := []string{"link set lo up", "addr add " + e.v4 + " dev " + e.dev, "link set " + e.dev + " up"}
		if e.v6 != "" {
			lines = append(lines, "addr add "+e.v6+" dev "+e.dev+" nodad")
		}
		if err := l.batch(e.node, lines...); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) topology() error {
	if err := l.addNode("core"); err != nil {
		return err
	}
	for n := 1; n <= l.KeyServers; n++ {
		if err := l.keyServer(n); err != nil {
			return err
		}
	}
	for n := 1; n <= l.Members; n++ {
		if err := l.member(n); err != nil {
			return err
		}
	}
	return nil
}

// keyServer adds key server n.
func (l *Lab) keyServer(n int) error {
	if err := l.addNode(KSNode(n)); err != nil {
		return err
	}
	if err := l.link(keyServerLink(n)); err != nil {
		return err
	}
	return l.keyServerRoutes(n)
}

// keyServerLink is the link between key server n and the core.
func keyServerLink(n int) (ks, core end) {
	return end{KSNode(n), "e0", KSAddr(n) + "/24", fmt.Sprintf("2001:db8:16:%d::2/64", 7+n)},
		end{"core", fmt.Sprintf("k%d", n), fmt.Sprintf("172.16.%d.1/24", 7+n), fmt.Sprintf("2001:db8:16:%d::1/64", 7+n)}
}

func (l *Lab) keyServerRoutes(n int) error {
	return l.batch(KSNode(n), fmt.Sprintf("route replace default via 172.16.%d.1", 7+n), fmt.Sprintf("route replace ::/0 via 2001:db8:16:%d::1", 7+n))
}

// member adds gmN and hN.
func (l *Lab) member(n int) error {
	gm, h := fmt.Sprintf("gm%d", n), fmt.Sprintf("h%d", n)
	for _, node := range []string{gm, h} {
		if err := l.addNode(node); err != nil {
			return err
		}
	}
	if err := l.link(end{h, "e0", Host(n) + "/24", Host6(n) + "/64"},
		end{gm, "lan", fmt.Sprintf("10.1.%d.1/24", n), fmt.Sprintf("2001:db8:1:%d::1/64", n)}); err != nil {
		return err
	}
	if err := l.WANLink(n); err != nil {
		return err
	}
	return l.batch(h, "addr add "+DeniedHost(n)+"/24 dev e0",
		fmt.Sprintf("route add default via 10.1.%d.1", n), fmt.Sprintf("route add ::/0 via 2001:db8:1:%d::1", n),
		"route add 224.0.0.0/4 dev e0")
}

// WANLink makes the link between gmN and the core with its addresses and routes; also
// again after a test deleted it.
func (l *Lab) WANLink(n int) error {
	if err := l.link(memberLink(n)); err != nil {
		return err
	}
	return l.memberRoutes(n)
}

// memberLink is the link between gmN and the core.
func memberLink(n int) (gm, core end) {
	return end{fmt.Sprintf("gm%d", n), "wan", WAN(n) + "/24", fmt.Sprintf("2001:db8:16:%d::2/64", n)},
		end{"core", Core(n), fmt.Sprintf("172.16.%d.1/24", n), fmt.Sprintf("2001:db8:16:%d::1/64", n)}
}

// memberRoutes sets the routes of both ends of member n's link.
func (l *Lab) memberRoutes(n int) error {
	if err := l.WANRoutes(n); err != nil {
		return err
	}
	return l.batch("core", fmt.Sprintf("route replace 10.1.%d.0/24 via %s", n, WAN(n)),
		fmt.Sprintf("route replace 2001:db8:1:%d::/64 via 2001:db8:16:%d::2", n, n))
}

// WANRoutes gives gmN its default routes; needed again after its link was down, which
// takes the routes and the IPv6 address.
func (l *Lab) WANRoutes(n int) error {
	return l.batch(fmt.Sprintf("gm%d", n), fmt.Sprintf("addr replace 2001:db8:16:%d::2/64 dev wan nodad", n),
		fmt.Sprintf("route replace default via 172.16.%d.1", n),
		fmt.Sprintf("route replace ::/0 via 2001:db8:16:%d::1", n))
}
