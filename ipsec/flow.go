package ipsec

// What policy sees of a packet: addresses, protocol, ports. Lengths are checked
// against the octets that are there.

import (
	"encoding/binary"
	"net/netip"
)

// maxExtensions is how many IPv6 extension headers a packet may have.
const maxExtensions = 8

// extensionLen is the length of the extension header of that kind at the start of b;
// false if it isn't one that is walked over, or isn't wholly there.
func extensionLen(kind byte, b []byte) (int, bool) {
	if kind != extHopByHop && kind != extRouting && kind != extDest || len(b) < 8 {
		return 0, false
	}
	n := 8 + 8*int(b[1])
	return n, n <= len(b)
}

// ParseFlow reads an IPv4 or IPv6 packet. l4 is the offset of the transport header, or
// of a fragment's payload. A transport header too short for ports or an ICMP type sets
// Flow.Frag: the rule for packets without them applies. DropMalformed is the only
// drop.
func ParseFlow(pkt []byte) (f Flow, l4 int, why DropReason) {
	if len(pkt) < ipv4Len {
		return f, 0, DropMalformed
	}
	end := 0
	switch pkt[0] >> 4 {
	case 4:
		l4, end = int(pkt[0]&15)*4, int(binary.BigEndian.Uint16(pkt[2:]))
		if l4 < ipv4Len || l4 > end || end > len(pkt) {
			return f, 0, DropMalformed
		}
		f.Src, f.Dst = netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))
		f.Proto, f.Frag = pkt[9], binary.BigEndian.Uint16(pkt[6:])&0x1fff != 0
	case 6:
		if len(pkt) < ipv6Len {
			return f, 0, DropMalformed
		}
		end = ipv6Len + int(binary.BigEndian.Uint16(pkt[4:]))
		if end > len(pkt) {
			return f, 0, DropMalformed
		}
		f.Src, f.Dst = netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
		f.Proto, l4 = pkt[6], ipv6Len
		for i := 0; !f.Frag; i++ {
			n := 0
			switch f.Proto {
			case extFragment:
				if l4+8 > end {
					return f, 0, DropMalformed
				}
				n, f.Frag = 8, binary.BigEndian.Uint16(pkt[l4+2:])>>3 != 0
			case extHopByHop, extRouting, extDest:
				var ok bool
				if n, ok = extensionLen(f.Proto, pkt[l4:end]); !ok {
					return f, 0, DropMalformed
				}
			}
			if n == 0 {
				break
			}
			if i == maxExtensions {
				return f, 0, DropMalformed
			}
			f.Proto, l4 = pkt[l4], l4+n
		}
	default:
		return f, 0, DropMalformed
	}
	if f.Frag {
		return f, l4, DropNone
	}
	t := pkt[l4:end]
	switch f.Proto {
	case protoTCP, protoUDP, protoSCTP, protoUDPLt:
		if f.Frag = len(t) < 4; !f.Frag {
			f.SrcPort, f.DstPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
		}
	case protoICMP, protoICMPv6:
		if f.Frag = len(t) < 1; !f.Frag {
			f.ICMPType = t[0]
		}
	}
	return f, l4, DropNone
}
