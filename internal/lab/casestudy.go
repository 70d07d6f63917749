package lab

// The topology of examples/case-study: two key servers and five sites around a provider's
// core. N counts sites from 1:
//
//	ks1 eth0 209.165.200.225 ── k1 .226 core           hN eth0 10.1.N.10 ── lan 10.1.N.1 gmN
//	ks2 eth0 209.165.201.1 ──── k2 .2   core
//	gm1 eth0 209.165.202.129 ── g1 .130 core           gm2 eth0 .133 ── g2 .134
//	gm3 eth0 209.165.202.137 ── g3 .138 core           gm4 eth0 .141 ── g4 .142
//	gm5 eth1 209.165.202.145 ── a1 .146 core           its loopback is 209.165.202.161
//	gm5 eth2 209.165.202.149 ── a2 .150 core
//
// Links also have the names of the configuration files: Ethernet0/0 and so on.

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Sites is how many members the case study has.
const Sites = 5

// caseLink is a link to the core; alias is what the files call it.
type caseLink struct{ node, dev, alias, addr, core, coreAddr string }

func caseLinks() []caseLink {
	return []caseLink{
		{"ks1", "eth0", "Ethernet0/0", "209.165.200.225", "k1", "209.165.200.226"},
		{"ks2", "eth0", "Ethernet0/0", "209.165.201.1", "k2", "209.165.201.2"},
		{"gm1", "eth0", "Ethernet0/0", "209.165.202.129", "g1", "209.165.202.130"},
		{"gm2", "eth0", "Ethernet0/0", "209.165.202.133", "g2", "209.165.202.134"},
		{"gm3", "eth0", "Ethernet0/0", "209.165.202.137", "g3", "209.165.202.138"},
		{"gm4", "eth0", "Ethernet0/0", "209.165.202.141", "g4", "209.165.202.142"},
		{"gm5", "eth1", "GigabitEthernet0/1", "209.165.202.145", "a1", "209.165.202.146"},
		{"gm5", "eth2", "GigabitEthernet0/2", "209.165.202.149", "a2", "209.165.202.150"},
	}
}

// CaseStudy is a Topology.
func CaseStudy(l *Lab) error {
	for _, node := range []string{"core", "ks1", "ks2", "gm1", "gm2", "gm3", "gm4", "gm5", "h1", "h2", "h3", "h4", "h5"} {
		if err := l.addNode(node); err != nil {
			return err
		}
	}
	for _, c := range caseLinks() {
		if err := l.link(end{c.node, c.dev, c.addr + "/30", ""}, end{"core", c.core, c.coreAddr + "/30", ""}); err != nil {
			return err
		}
		if err := l.altName(c.node, c.dev, c.alias); err != nil {
			return err
		}
		if c.node == "gm5" {
			continue // which has two
		}
		if err := l.batch(c.node, "route add default via "+c.coreAddr); err != nil {
			return err
		}
		if c.node[0] == 'g' {
			if err := l.batch("core", "route add 10.1."+c.node[2:]+".0/24 via "+c.addr); err != nil {
				return err
			}
		}
	}
	for n := 1; n <= Sites; n++ {
		h, gm, inside := fmt.Sprintf("h%d", n), fmt.Sprintf("gm%d", n), fmt.Sprintf("10.1.%d.1", n)
		if err := l.link(end{h, "eth0", Host(n) + "/24", ""}, end{gm, "lan", inside + "/24", ""}); err != nil {
			return err
		}
		if err := l.batch(h, "route add default via "+inside); err != nil {
			return err
		}
	}
	return l.twoLinks()
}

// twoLinks gives member 5 its loopback address and routes over both links, whichever are
// up.
func (l *Lab) twoLinks() error {
	if err := l.altName("gm5", "lo", "Loopback0"); err != nil {
		return err
	}
	for _, node := range []string{"gm5", "core"} {
		if err := l.Sysctl(node, map[string]string{"net/ipv4/conf/all/ignore_routes_with_linkdown": "1"}); err != nil {
			return err
		}
	}
	if err := l.batch("gm5", "addr add 209.165.202.161/32 dev lo",
		"route add default src 209.165.202.161 nexthop via 209.165.202.146 nexthop via 209.165.202.150"); err != nil {
		return err
	}
	const both = " nexthop via 209.165.202.145 nexthop via 209.165.202.149"
	return l.batch("core", "route add 10.1.5.0/24"+both, "route add 209.165.202.161/32"+both)
}

// altName gives a link a second name. The kernel allows the vendor's, with their slash;
// ip(8) doesn't.
func (l *Lab) altName(node, dev, name string) error {
	return l.In(node, func() error {
		link, err := netlink.LinkByName(dev)
		if err == nil {
			err = netlink.LinkAddAltName(link, name)
		}
		if err != nil {
			return fmt.Errorf("lab: %s: %s as a name of %s: %w", node, name, dev, err)
		}
		return nil
	})
}
