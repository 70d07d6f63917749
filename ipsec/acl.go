package ipsec

import (
	"encoding/binary"
	"net/netip"
)

// Action is what an access list entry says. In a crypto ACL permit means
// "protect" and deny means "send in clear" (guide, chapter on GDOI ACLs).
type Action uint8

const (
	Deny Action = iota
	Permit
)

func (a Action) String() string {
	if a == Permit {
		return "permit"
	}
	return "deny"
}

// AddrMatch matches an address under a mask whose one bits must agree (the
// complement of an IOS wildcard; it needn't be contiguous). The zero value
// matches any address of either family. Comparable.
type AddrMatch struct {
	Addr netip.Addr // host bits already cleared
	Mask netip.Addr // same family as Addr
}

// MatchPrefix returns the AddrMatch of a prefix; a /0 keeps its family.
func MatchPrefix(p netip.Prefix) AddrMatch {
	p = p.Masked()
	ones := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		ones[i/8] |= 0x80 >> (i % 8)
	}
	m, _ := netip.AddrFromSlice(ones)
	return AddrMatch{Addr: p.Addr(), Mask: m}
}

// MatchWildcard returns the AddrMatch of an IOS "address wildcard" pair.
func MatchWildcard(addr, wildcard netip.Addr) AddrMatch {
	a, w := addr.AsSlice(), wildcard.AsSlice()
	m := make([]byte, len(a))
	for i := range a {
		m[i] = ^w[i]
		a[i] &= m[i]
	}
	av, _ := netip.AddrFromSlice(a)
	mv, _ := netip.AddrFromSlice(m)
	return AddrMatch{Addr: av, Mask: mv}
}

// IsAny reports whether every address matches.
func (m AddrMatch) IsAny() bool { return !m.Addr.IsValid() }

// Prefix returns the prefix that m is, and false when its mask isn't contiguous
// or m is any.
func (m AddrMatch) Prefix() (netip.Prefix, bool) {
	if m.IsAny() {
		return netip.Prefix{}, false
	}
	n, end := 0, false
	for _, b := range m.Mask.AsSlice() {
		for i := 7; i >= 0; i-- {
			if b>>i&1 == 1 {
				if end {
					return netip.Prefix{}, false
				}
				n++
			} else {
				end = true
			}
		}
	}
	return netip.PrefixFrom(m.Addr, n), true
}

// Matches reports whether a (IPv4, or IPv6 not 4-in-6) agrees.
func (m AddrMatch) Matches(a netip.Addr) bool {
	if m.IsAny() {
		return true
	}
	if m.Addr.Is4() != a.Is4() {
		return false
	}
	if a.Is4() {
		x, y, k := a.As4(), m.Addr.As4(), m.Mask.As4()
		return (binary.BigEndian.Uint32(x[:])^binary.BigEndian.Uint32(y[:]))&binary.BigEndian.Uint32(k[:]) == 0
	}
	x, y, k := a.As16(), m.Addr.As16(), m.Mask.As16()
	for i := 0; i < 16; i += 8 {
		if (binary.BigEndian.Uint64(x[i:])^binary.BigEndian.Uint64(y[i:]))&binary.BigEndian.Uint64(k[i:]) != 0 {
			return false
		}
	}
	return true
}

// PortOp is the comparison of a port match.
type PortOp uint8

const (
	PortAny PortOp = iota
	PortEq
	PortNeq
	PortLt
	PortGt
	PortRange
)

// PortMatch compares a TCP or UDP port. The zero value matches anything, also
// packets without ports. Hi is used by PortRange alone.
type PortMatch struct {
	Op     PortOp
	Lo, Hi uint16
}

// Matches compares one port.
func (m PortMatch) Matches(p uint16) bool {
	switch m.Op {
	case PortEq:
		return p == m.Lo
	case PortNeq:
		return p != m.Lo
	case PortLt:
		return p < m.Lo
	case PortGt:
		return p > m.Lo
	case PortRange:
		return p >= m.Lo && p <= m.Hi
	}
	return true
}

// Family restricts an entry to IPv4 or IPv6.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// ACE is one access list entry. Proto 0 is IOS "ip"/"ipv6": any protocol.
// ICMPType is compared when HasICMPType is set (Proto 1 or 58). Comparable.
type ACE struct {
	Seq              int
	Action           Action
	Family           Family
	Proto            uint8
	Src, Dst         AddrMatch
	SrcPort, DstPort PortMatch
	HasICMPType      bool
	ICMPType         uint8
}

// NamesPorts reports whether a packet without ports can't be judged by the entry
// alone.
func (e *ACE) NamesPorts() bool {
	return e.SrcPort.Op != PortAny || e.DstPort.Op != PortAny || e.HasICMPType
}

// Mirror swaps source and destination: the entry as inbound packets see it.
func (e ACE) Mirror() ACE {
	e.Src, e.Dst = e.Dst, e.Src
	e.SrcPort, e.DstPort = e.DstPort, e.SrcPort
	return e
}

// Flow is what policy looks at in a packet. Frag is set for a non-first
// fragment, which has neither ports nor an ICMP type.
type Flow struct {
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
	ICMPType         uint8
	Frag             bool
}

// Matches reports whether the entry covers the flow. A non-first fragment has no
// ports: an entry that names ports then matches by addresses and protocol if it
// is a permit (so that no part of a protected datagram leaves in clear) and never
// if it is a deny. The BPF programs follow the same rule.
func (e *ACE) Matches(f *Flow) bool {
	if f.Src.Is4() != (e.Family == IPv4) {
		return false
	}
	if e.Proto != 0 && e.Proto != f.Proto {
		return false
	}
	if !e.Src.Matches(f.Src) || !e.Dst.Matches(f.Dst) {
		return false
	}
	if !e.NamesPorts() {
		return true
	}
	if f.Frag {
		return e.Action == Permit
	}
	if e.HasICMPType && e.ICMPType != f.ICMPType {
		return false
	}
	return e.SrcPort.Matches(f.SrcPort) && e.DstPort.Matches(f.DstPort)
}
