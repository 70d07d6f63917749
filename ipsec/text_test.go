package ipsec

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestEntriesAsText(t *testing.T) {
	pfx := func(s string) AddrMatch { return MatchPrefix(netip.MustParsePrefix(s)) }
	port := func(op PortOp, n ...uint16) PortMatch { return PortMatch{op, n[0], n[len(n)-1]} }
	words := Words{
		Port:     func(proto uint8, n uint16) string { return fmt.Sprintf("p%d/%d", proto, n) },
		ICMPType: func(f Family, n uint8) string { return fmt.Sprintf("type%d", n) },
	}
	for _, c := range []struct {
		e            ACE
		show, config string
	}{
		{ACE{Action: Permit, Family: IPv4}, "permit ip any any", ""},
		{ACE{Action: Permit, Family: IPv6, Src: pfx("1900::/16"), Dst: pfx("1150::/16")}, "permit ipv6 1900::/16 1150::/16", ""},
		{ACE{Family: IPv4, Proto: 89, Src: pfx("10.1.0.0/16"), Dst: pfx("10.2.3.4/32")}, "deny ospf 10.1.0.0 0.0.255.255 host 10.2.3.4", ""},
		{ACE{Family: IPv4, Src: MatchWildcard(netip.MustParseAddr("10.0.7.0"), netip.MustParseAddr("0.255.0.255")), Dst: pfx("0.0.0.0/0")},
			"deny ip 10.0.7.0 0.255.0.255 any", ""},
		{ACE{Family: IPv6, Proto: 50, Src: pfx("2001:db8::1/128"), Dst: pfx("::/0")}, "deny esp host 2001:db8::1 any", ""},
		{ACE{Family: IPv4, Proto: 1, HasICMPType: true, ICMPType: 8}, "deny icmp any any type = 8", "deny icmp any any type8"},
		{ACE{Family: IPv6, Proto: 58}, "deny icmp any any", ""},
		{ACE{Family: IPv4, Proto: 58}, "deny 58 any any", ""},
		{ACE{Family: IPv6, Proto: 1}, "deny 1 any any", ""},
		{ACE{Family: IPv4, Proto: 17, SrcPort: port(PortEq, 500), DstPort: port(PortEq, 500)},
			"deny udp any port = 500 any port = 500", "deny udp any eq p17/500 any eq p17/500"},
		{ACE{Family: IPv6, Proto: 17, DstPort: port(PortEq, 20001)}, "deny udp any any eq 20001", "deny udp any any eq p17/20001"},
		{ACE{Family: IPv6, Proto: 6, SrcPort: port(PortNeq, 5), DstPort: port(PortRange, 1, 9)},
			"deny tcp any neq 5 any range 1 9", "deny tcp any neq p6/5 any range p6/1 p6/9"},
		{ACE{Family: IPv4, Proto: 6, SrcPort: port(PortNeq, 5), DstPort: port(PortRange, 1, 9)},
			"deny tcp any port != 5 any port range 1 9", "deny tcp any neq p6/5 any range p6/1 p6/9"},
		{ACE{Family: IPv4, Proto: 6, SrcPort: port(PortLt, 5), DstPort: port(PortGt, 9)},
			"deny tcp any port < 5 any port > 9", "deny tcp any lt p6/5 any gt p6/9"},
		{ACE{Family: IPv4, Proto: 6, SrcPort: PortMatch{Op: 99}}, "deny tcp any any", ""},
	} {
		if c.config == "" {
			c.config = c.show
		}
		if s := c.e.String(); s != c.show {
			t.Errorf("show %q, want %q", s, c.show)
		}
		if s := c.e.ConfigText(words); s != c.config {
			t.Errorf("configuration %q, want %q", s, c.config)
		}
	}
	k := ProtocolKeywords()
	k[0].Name = "x" // a copy
	for _, k := range ProtocolKeywords() {
		if ProtocolText(k.Number, IPv4) != k.Name || ProtocolText(k.Number, IPv6) != k.Name {
			t.Errorf("%+v", k)
		}
	}
}
