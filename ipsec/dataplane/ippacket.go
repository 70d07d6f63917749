package dataplane

// A look at an IP packet: where the parts are and what policy sees of them. Lengths
// are checked against the octets that are there; nothing is trusted.

import (
	"encoding/binary"
	"net/netip"

	"getvpn/ipsec"
)

const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoESP    = 50
	protoICMPv6 = 58

	etherLen = 14
)

// packet describes the octets that it was parsed from.
type packet struct {
	v6    bool
	plain bool // no IPv4 options, no IPv6 extension headers
	df    bool // fragmentation forbidden (always for IPv6)
	frag  bool // any fragment, the first included
	first bool // carries the transport header
	l4    int  // offset of the transport header, or of a fragment's payload
	len   int  // length by the IP header; what follows is padding
	proto uint8
}

// addrs returns source and destination address in a row.
func (p *packet) addrs(b []byte) []byte {
	if p.v6 {
		return b[8:40]
	}
	return b[12:20]
}

// parse reads the header of an IP packet. It returns false for what isn't one.
func (p *packet) parse(b []byte) bool {
	if len(b) < 20 {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		hl := int(b[0]&15) * 4
		n := int(binary.BigEndian.Uint16(b[2:]))
		if hl < 20 || n < hl || n > len(b) {
			return false
		}
		fo := binary.BigEndian.Uint16(b[6:])
		*p = packet{plain: hl == 20, df: fo&0x4000 != 0, frag: fo&0x3fff != 0, first: fo&0x1fff == 0,
			l4: hl, len: n, proto: b[9]}
		return true
	case 6:
		if len(b) < 40 {
			return false
		}
		n := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if n > len(b) {
			return false
		}
		*p = packet{v6: true, plain: true, df: true, first: true, l4: 40, len: n, proto: b[6]}
		return p.extensions(b[:n])
	}
	return false
}

// extensions walks IPv6 extension headers (RFC 8200 §4) up to the transport header
// or the payload of a fragment that isn't the first.
func (p *packet) extensions(b []byte) bool {
	for range 8 {
		switch p.proto {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if p.l4+8 > len(b) {
				return false
			}
			p.proto, p.l4 = b[p.l4], p.l4+8+8*int(b[p.l4+1])
		case 44: // fragment
			if p.l4+8 > len(b) {
				return false
			}
			fo := binary.BigEndian.Uint16(b[p.l4+2:])
			p.frag, p.first = fo&0xfff9 != 0, fo>>3 == 0
			p.proto, p.l4 = b[p.l4], p.l4+8
			if !p.first {
				p.plain = false
				return p.l4 <= len(b)
			}
		default:
			return p.l4 <= len(b)
		}
		p.plain = false
	}
	return false
}

// flow is what policy judges.
func (p *packet) flow(b []byte) (f ipsec.Flow) {
	if p.v6 {
		f.Src, f.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	} else {
		f.Src, f.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	}
	f.Proto, f.Frag = p.proto, !p.first
	if !p.first {
		return f
	}
	switch t := b[p.l4:p.len]; p.proto {
	case protoTCP, protoUDP, 132, 136: // SCTP and UDP-Lite have ports in the same place
		if len(t) >= 4 {
			f.SrcPort, f.DstPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
		} else {
			f.Frag = true // too short for ports: the rule for a packet without them
		}
	case protoICMP, protoICMPv6:
		if len(t) >= 1 {
			f.ICMPType = t[0]
		} else {
			f.Frag = true
		}
	}
	return f
}
