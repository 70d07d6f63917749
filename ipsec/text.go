package ipsec

// Access list entries as IOS writes them. There are two forms. Configuration has names
// and operators ("permit tcp any any eq telnet"). Show commands have numbers, and for
// IPv4 a form of their own ("permit tcp any any port = 23"); for IPv6 they keep the
// operators ("permit tcp any any eq 23").

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Keyword is an IP protocol's word in an access list.
type Keyword struct {
	Name   string
	Number uint8
}

// protocols are those with a word in both families, besides ip, ipv6, tcp, udp and icmp.
var protocols = [...]Keyword{{"ahp", 51}, {"eigrp", 88}, {"esp", 50}, {"gre", 47}, {"igmp", 2}, {"ipinip", 4},
	{"nos", 94}, {"ospf", 89}, {"pcp", 108}, {"pim", 103}, {"sctp", 132}}

// ProtocolKeywords returns the protocols with a word in lists of both families, besides
// ip, ipv6, tcp, udp and icmp.
func ProtocolKeywords() []Keyword {
	k := protocols
	return k[:]
}

// ProtocolText is a protocol's word in a list of that family, or its number. 0 is any.
func ProtocolText(p uint8, f Family) string {
	switch {
	case p == 0 && f == IPv6:
		return "ipv6"
	case p == 0:
		return "ip"
	case p == 6:
		return "tcp"
	case p == 17:
		return "udp"
	case p == ICMPProtocol(f):
		return "icmp"
	}
	for _, k := range protocols {
		if k.Number == p {
			return k.Name
		}
	}
	return strconv.Itoa(int(p))
}

// ICMPProtocol is the protocol number of a family's ICMP.
func ICMPProtocol(f Family) uint8 {
	if f == IPv6 {
		return 58
	}
	return 1
}

// Words spell an entry's numbers in configuration.
type Words struct {
	Port     func(proto uint8, port uint16) string
	ICMPType func(f Family, t uint8) string
}

// String is the entry as show commands print it.
func (e ACE) String() string { return e.text(nil) }

// ConfigText is the entry as configuration has it, without its sequence number.
func (e ACE) ConfigText(w Words) string { return e.text(&w) }

// text is the entry in configuration's form, or without words in that of show commands.
func (e *ACE) text(w *Words) string {
	var b strings.Builder
	b.WriteString(e.Action.String() + " " + ProtocolText(e.Proto, e.Family))
	b.WriteString(" " + e.Src.String() + e.portText(e.SrcPort, w))
	b.WriteString(" " + e.Dst.String() + e.portText(e.DstPort, w))
	switch {
	case !e.HasICMPType:
	case w == nil:
		fmt.Fprintf(&b, " type = %d", e.ICMPType)
	default:
		b.WriteString(" " + w.ICMPType(e.Family, e.ICMPType))
	}
	return b.String()
}

// operators by form: configuration and IPv6, show commands and IPv4.
var operators = [...][2]string{PortEq: {"eq", "port ="}, PortNeq: {"neq", "port !="}, PortLt: {"lt", "port <"},
	PortGt: {"gt", "port >"}, PortRange: {"range", "port range"}}

func (e *ACE) portText(p PortMatch, w *Words) string {
	if p.Op == PortAny || int(p.Op) >= len(operators) {
		return ""
	}
	form := 0
	word := func(n uint16) string { return " " + strconv.Itoa(int(n)) }
	switch {
	case w != nil:
		word = func(n uint16) string { return " " + w.Port(e.Proto, n) }
	case e.Family != IPv6:
		form = 1
	}
	s := " " + operators[p.Op][form] + word(p.Lo)
	if p.Op == PortRange {
		s += word(p.Hi)
	}
	return s
}

// String is the match as an access list has it: any, host A, A WILDCARD, or P/LEN for
// IPv6.
func (m AddrMatch) String() string {
	if m.IsAny() {
		return "any"
	}
	p, ok := m.Prefix()
	switch {
	case ok && p.Bits() == 0:
		return "any"
	case ok && p.IsSingleIP():
		return "host " + m.Addr.String()
	case ok && m.Addr.Is6():
		return p.String()
	}
	w := m.Mask.AsSlice()
	for i := range w {
		w[i] = ^w[i]
	}
	wild, _ := netip.AddrFromSlice(w)
	return m.Addr.String() + " " + wild.String()
}
