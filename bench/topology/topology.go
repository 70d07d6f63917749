// Package topology makes the two-site network that benchmarks and end-to-end tests
// of the dataplane run in, out of network namespaces:
//
//	h1 --lan-- gm1 --wan-- core --wan-- gm2 --lan-- h2
//	10.1.1.10  10.1.1.1  172.16.1.2/.1  172.16.2.1/.2  10.2.2.1  10.2.2.10
//
// and the same in fd00:1::/64, fd00:2::/64 and fd01:1::/64, fd01:2::/64. Everything
// routes; nothing is protected.
package topology

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// Options choose a variant.
type Options struct {
	MTU        int  // of every link; 0 means 1500
	WANOffload bool // leave segmentation offload on at the WAN links' ends
}

// Net is a network that is up.
type Net struct {
	Prefix string
}

// Addresses of the parts.
var (
	H1   = netip.MustParseAddr("10.1.1.10")
	H2   = netip.MustParseAddr("10.2.2.10")
	GM1  = netip.MustParseAddr("172.16.1.2")
	GM2  = netip.MustParseAddr("172.16.2.2")
	LAN1 = netip.MustParsePrefix("10.1.1.0/24")
	LAN2 = netip.MustParsePrefix("10.2.2.0/24")
	H1v6 = netip.MustParseAddr("fd00:1::10")
	H2v6 = netip.MustParseAddr("fd00:2::10")
)

var names = []string{"h1", "gm1", "core", "gm2", "h2"}

// Up makes the network with namespaces named PREFIX-h1 and so on.
func Up(prefix string, o Options) (*Net, error) {
	n := &Net{Prefix: prefix}
	n.Down()
	if o.MTU == 0 {
		o.MTU = 1500
	}
	var script strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&script, format+"\n", a...) }
	p("set -e")
	// One ip process a namespace and step: there are many tests and few processors.
	p("ip -batch - <<X")
	for _, x := range names {
		p("netns add %s", n.NS(x))
	}
	p("X")
	for _, x := range names {
		p("ip netns exec %s sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 net.ipv4.ping_group_range='0 2147483647' || true", n.NS(x))
	}
	links, ends, routes := map[string][]string{}, map[string][]string{}, map[string][]string{}
	link := func(a, ai, a4, a6, b, bi, b4, b6 string) {
		links[a] = append(links[a], fmt.Sprintf("link add %s mtu %d type veth peer name %s netns %s", ai, o.MTU, bi, n.NS(b)))
		for _, e := range [][4]string{{a, ai, a4, a6}, {b, bi, b4, b6}} {
			ends[e[0]] = append(ends[e[0]],
				fmt.Sprintf("link set %s mtu %d", e[1], o.MTU),
				fmt.Sprintf("addr add %s/24 dev %s", e[2], e[1]),
				fmt.Sprintf("addr add %s/64 dev %s nodad", e[3], e[1]),
				fmt.Sprintf("link set %s up", e[1]))
		}
	}
	link("h1", "e0", "10.1.1.10", "fd00:1::10", "gm1", "lan", "10.1.1.1", "fd00:1::1")
	link("h2", "e0", "10.2.2.10", "fd00:2::10", "gm2", "lan", "10.2.2.1", "fd00:2::1")
	link("gm1", "wan", "172.16.1.2", "fd01:1::2", "core", "c1", "172.16.1.1", "fd01:1::1")
	link("gm2", "wan", "172.16.2.2", "fd01:2::2", "core", "c2", "172.16.2.1", "fd01:2::1")
	route := func(ns, via4, via6 string, dst ...string) {
		for _, d := range dst {
			via := via4
			if strings.Contains(d, ":") {
				via = via6
			}
			routes[ns] = append(routes[ns], fmt.Sprintf("route add %s via %s", d, via))
		}
	}
	route("h1", "10.1.1.1", "fd00:1::1", "0.0.0.0/0", "::/0")
	route("h2", "10.2.2.1", "fd00:2::1", "0.0.0.0/0", "::/0")
	route("gm1", "172.16.1.1", "fd01:1::1", "0.0.0.0/0", "::/0")
	route("gm2", "172.16.2.1", "fd01:2::1", "0.0.0.0/0", "::/0")
	route("core", "172.16.1.2", "fd01:1::2", "10.1.1.0/24", "fd00:1::/64")
	route("core", "172.16.2.2", "fd01:2::2", "10.2.2.0/24", "fd00:2::/64")
	for _, step := range []map[string][]string{links, ends, routes} {
		for _, x := range names {
			if len(step[x]) > 0 {
				p("ip -n %s -batch - <<X\nlink set lo up\n%s\nX", n.NS(x), strings.Join(step[x], "\n"))
			}
		}
	}
	if !o.WANOffload {
		for _, e := range [][2]string{{"gm1", "wan"}, {"core", "c1"}, {"gm2", "wan"}, {"core", "c2"}} {
			p("ip netns exec %s ethtool -K %s tx off gro off gso off tso off >/dev/null", n.NS(e[0]), e[1])
		}
	}
	c := exec.Command("sh", "-c", script.String())
	if out, err := c.CombinedOutput(); err != nil {
		n.Down()
		return nil, fmt.Errorf("topology: %w: %s", err, out)
	}
	return n, nil
}

// NS is the namespace of a part: h1, gm1, core, gm2 or h2.
func (n *Net) NS(part string) string { return n.Prefix + "-" + part }

// Cmd prepares a command in a part's namespace.
func (n *Net) Cmd(part string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.NS(part)}, args...)...)
}

// Sh runs a shell line in a part's namespace and returns its output.
func (n *Net) Sh(part, line string) (string, error) {
	out, err := n.Cmd(part, "sh", "-c", line).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", part, line, err, out)
	}
	return string(out), err
}

// Down removes the namespaces and what is in them.
func (n *Net) Down() {
	for _, x := range names {
		exec.Command("ip", "netns", "del", n.NS(x)).Run()
	}
}
