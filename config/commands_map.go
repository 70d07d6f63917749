package config

// crypto map ... gdoi with its fail-close block, and interfaces.

import (
	"slices"
	"strings"

	"getvpn/cli/grammar"
)

func (b *builder) thisMap() *CryptoMap { return &b.c.CryptoMaps[b.cmap] }

// openMap finds or makes the map.
func (b *builder) openMap(m *grammar.Match) *CryptoMap {
	name := m.Get("name")
	i := slices.IndexFunc(b.c.CryptoMaps, func(x CryptoMap) bool { return x.Name == name })
	if i < 0 {
		i = len(b.c.CryptoMaps)
		b.c.CryptoMaps = append(b.c.CryptoMaps, CryptoMap{Name: name, IPv6: m.Has("v6")})
	}
	b.cmap = i
	b.mark("crypto map " + name)
	return b.thisMap()
}

func mapCommands() []command {
	return []command{
		{Mode: modeGlobal, Pattern: "crypto map [v6:ipv6] name:WORD seq:<1-65535> gdoi", Help: "An entry of type GDOI", Enter: modeMap, No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.No {
				removeMap(b, m)
				return nil
			}
			x, n := b.openMap(m), num(m, "seq")
			i, found := slices.BinarySearchFunc(x.Entries, n, func(e MapEntry, n int) int { return e.Seq - n })
			if !found {
				x.Entries = slices.Insert(x.Entries, i, MapEntry{Seq: n})
			}
			b.entry = i
			b.mark("crypto map " + x.Name + " " + m.Get("seq"))
			return nil
		}},
		{Mode: modeMap, Pattern: "set group g:WORD", Help: "The group", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisMap().Entries[b.entry].Group = given(m, "g", "")
			return nil
		}},
		{Mode: modeMap, Pattern: "match address " + aclName, Help: "This member's own denies", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisMap().Entries[b.entry].ACL = given(m, "acl", "")
			return nil
		}},
		{Mode: modeGlobal, Pattern: "crypto map [v6:ipv6] name:WORD gdoi fail-close", Help: "What passes before registration", Enter: modeFailClose, No: true, Do: func(b *builder, m *grammar.Match) error {
			x := b.openMap(m)
			switch {
			case m.No:
				x.FailClose = nil
			case x.FailClose == nil:
				x.FailClose = &FailClose{}
			}
			return nil
		}},
		{Mode: modeFailClose, Pattern: "match address " + aclName, Help: "What passes in clear (deny)", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisMap().FailClose.ACL = given(m, "acl", "")
			return nil
		}},
		{Mode: modeFailClose, Pattern: "activate", Help: "Switch fail-close on", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisMap().FailClose.Activate = !m.No
			return nil
		}},
		{Mode: modeGlobal, Pattern: "crypto map [v6:ipv6] name:WORD local-address i:WORD", Help: "Register from this interface", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.openMap(m).LocalAddress = given(m, "i", "")
			return nil
		}},
	}
}

// removeMap takes an entry away, or the whole map when no entry is named.
func removeMap(b *builder, m *grammar.Match) {
	name, n := m.Get("name"), num(m, "seq")
	for i := range b.c.CryptoMaps {
		if x := &b.c.CryptoMaps[i]; x.Name == name && m.Has("seq") {
			x.Entries = slices.DeleteFunc(x.Entries, func(e MapEntry) bool { return e.Seq == n })
			return
		}
	}
	b.c.CryptoMaps = slices.DeleteFunc(b.c.CryptoMaps, func(x CryptoMap) bool { return x.Name == name })
}

func (b *builder) thisIf() *Interface { return &b.c.Interfaces[b.iface] }

// keptInterface are the first words of interface lines that are the kernel's business
// or the vendor's: kept, without a warning, since ip, route and tc do that here.
const keptInterface = "{description|duplex|speed|mtu|bandwidth|delay|load-interval|keepalive|encapsulation|negotiation|cdp|lldp|" +
	"service-policy|standby|vrrp|glbp|vrf|arp|media-type|carrier-delay|switchport|channel-group|snmp|hold-queue|" +
	"tx-ring-limit|tunnel|zone-member|zone|bfd|mpls|ntp|cts|macsec|logging|peer|pppoe|ppp|dialer|dialer-group|fair-queue|" +
	"clock|crypto-engine|backup|shape|trust|plim|random-detect|source|transmit-interface|xconnect|ospfv3|isis|clns|max-reserved-bandwidth} [LINE]"

const keptInterfaceIP = "{ip|ipv6} {address|mtu|pim|igmp|mld|ospf|ospfv3|rip|eigrp|nat|tcp|vrf|helper-address|proxy-arp|redirects|unreachables|" +
	"verify|policy|route-cache|access-group|nhrp|virtual-reassembly|flow|summary-address|authentication|hello-interval|hold-time|" +
	"directed-broadcast|mroute-cache|load-sharing|unnumbered|accounting|inspect|mask-reply|information-reply|split-horizon|" +
	"bandwidth-percent|next-hop-self|multicast|rsvp|cef|dhcp|enable|nd|traffic-filter|router|bgp|broadcast-address|rtp|urd|sap|local-proxy-arp|irdp|wccp|nbar|auth-proxy|admission|ips|urlfilter|mobile} [LINE]"

func interfaceCommands() []command {
	keep := func(b *builder, m *grammar.Match) error {
		l, text := &b.thisIf().Kept, strings.Join(strings.Fields(m.Line), " ")
		if strings.Contains(m.Line, "description") {
			text = strings.TrimSpace(m.Line)
		}
		if strings.Contains(text, " join-group") {
			return &badValue{0, "A multicast group is joined by ip igmp join-group A.B.C.D [source A.B.C.D] or ipv6 mld join-group X:X:X:X::X [X:X:X:X::X]."}
		}
		if !slices.Contains(*l, text) {
			*l = append(*l, text)
		}
		return nil
	}
	return []command{
		{Mode: modeGlobal, Pattern: "interface name:WORD [part:WORD] [p2p:{point-to-point|multipoint}]", Help: "An interface", Enter: modeInterface, No: true, Do: func(b *builder, m *grammar.Match) error {
			name := m.Get("name") + m.Get("part")
			i := slices.IndexFunc(b.c.Interfaces, func(x Interface) bool { return x.Name == name })
			if m.No {
				b.c.Interfaces = slices.DeleteFunc(b.c.Interfaces, func(x Interface) bool { return x.Name == name })
				return nil
			}
			if i < 0 {
				i = len(b.c.Interfaces)
				b.c.Interfaces = append(b.c.Interfaces, Interface{Name: name})
			}
			b.iface = i
			b.mark("interface " + name)
			return nil
		}},
		{Mode: modeInterface, Pattern: "crypto map name:WORD [redundancy LINE]", Help: "Attach a crypto map", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisIf().CryptoMap = given(m, "name", "")
			return nil
		}},
		{Mode: modeInterface, Pattern: "ip tcp adjust-mss n:<500-9000>", Help: "Largest TCP segment", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisIf().AdjustMSS = num(m, "n")
			if m.No {
				b.thisIf().AdjustMSS = 0
			}
			return nil
		}},
		{Mode: modeInterface, Pattern: "crypto ipsec fragmentation w:{after-encryption|before-encryption}", Help: "When to fragment", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisIf().FragAfter = !m.No && m.Get("w") == "after-encryption"
			return nil
		}},
		{Mode: modeInterface, Pattern: "crypto ipsec df-bit LINE", Help: "Only globally", No: true, Do: func(b *builder, m *grammar.Match) error {
			return &badValue{0, "The DF bit of a group is set globally: crypto ipsec df-bit."}
		}},
		{Mode: modeInterface, Pattern: "ip igmp join-group g:A.B.C.D [source s:A.B.C.D]", Help: "Join a multicast group", No: true, Do: joinGroup},
		{Mode: modeInterface, Pattern: "ipv6 six:mld join-group g:X:X:X:X::X [{s:X:X:X:X::X|include s:X:X:X:X::X|source s:X:X:X:X::X}]", Help: "Join a multicast group", No: true, Do: joinGroup},
		{Mode: modeInterface, Pattern: ctsManual, Help: "Security group tags on the link", Enter: modeCTS, No: true, Do: keepCTS(true)},
		{Mode: modeCTS, Pattern: "{policy|propagate|sap} [LINE]", Help: "Kept", No: true, Full: true, Do: keepCTS(false)},
		{Mode: modeInterface, Pattern: "shutdown", Help: "Switch off", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisIf().Shutdown = !m.No
			return nil
		}},
		{Mode: modeInterface, Pattern: keptInterface, Help: "Kept", No: true, Full: true, Do: keep},
		{Mode: modeInterface, Pattern: keptInterfaceIP, Help: "Kept", No: true, Full: true, Do: keep},
	}
}

const ctsManual = "cts manual"

// keepCTS keeps "cts manual" (head) and, indented behind it, what belongs to it.
func keepCTS(head bool) func(b *builder, m *grammar.Match) error {
	return func(b *builder, m *grammar.Match) error {
		l := &b.thisIf().Kept
		i := slices.Index(*l, ctsManual)
		n := i + 1
		for i >= 0 && n < len(*l) && strings.HasPrefix((*l)[n], " ") {
			n++
		}
		text := " " + strings.Join(strings.Fields(m.Line), " ")
		switch {
		case head && m.No && i >= 0:
			*l = slices.Delete(*l, i, n)
		case head && !m.No && i < 0:
			*l = append(*l, ctsManual)
		case !head && i >= 0 && !slices.Contains((*l)[i+1:n], text):
			*l = slices.Insert(*l, n, text)
		}
		return nil
	}
}
