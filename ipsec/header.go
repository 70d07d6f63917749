package ipsec

// Header preservation: the outer header made from the inner one, and what the outer
// header tells the inner one at the other end. docs/header-preservation.md has the
// rules and their reasons; RFC 4301 §5.1.2 is the source.

import "encoding/binary"

const (
	protoICMP   = 1
	protoIPIP   = 4
	protoTCP    = 6
	protoUDP    = 17
	protoIPv6   = 41
	protoESP    = 50
	protoICMPv6 = 58
	protoNoNext = 59
	protoSCTP   = 132
	protoUDPLt  = 136
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDest     = 60

	flagDF = 0x4000
	flagMF = 0x2000
	ecnCE  = 3
)

// outerHeader writes the tunnel header of a packet of length octets. in starts with a
// checked inner header.
func outerHeader(h, in []byte, length int, id uint16, df DFMode, v6 bool) {
	if v6 {
		copy(h[:4], in[:4]) // version, traffic class, flow label
		binary.BigEndian.PutUint16(h[4:], uint16(length-ipv6Len))
		h[6] = protoESP
		copy(h[7:ipv6Len], in[7:ipv6Len]) // hop limit, addresses
		return
	}
	h[0], h[1] = 0x45, in[1]
	binary.BigEndian.PutUint16(h[2:], uint16(length))
	binary.BigEndian.PutUint16(h[4:], id)
	frag := binary.BigEndian.Uint16(in[6:]) & flagDF
	switch df {
	case DFClear:
		frag = 0
	case DFSet:
		frag = flagDF
	}
	binary.BigEndian.PutUint16(h[6:], frag)
	h[8], h[9] = in[8], protoESP
	h[10], h[11] = 0, 0
	copy(h[12:20], in[12:20])
	putHeaderSum(h[:ipv4Len])
}

// moveHeader copies the header of a transport-mode packet to where it belongs and
// sets length and protocol (in the octet nextAt). dst and src may overlap.
func moveHeader(dst, src []byte, length int, proto byte, nextAt int, v6 bool) {
	copy(dst, src)
	dst[nextAt] = proto
	if v6 {
		binary.BigEndian.PutUint16(dst[4:], uint16(length-ipv6Len))
		return
	}
	binary.BigEndian.PutUint16(dst[2:], uint16(length))
	putHeaderSum(dst)
}

// transportHeaders finds where ESP goes in an IPv6 packet in transport mode (RFC 4303
// §3.1.1): behind hop-by-hop and routing headers and the destination options that
// come before a routing header. nextAt is the octet that names the next header. ok is
// false for fragments and for what isn't there.
func transportHeaders(in []byte) (keep, nextAt int, ok bool) {
	keep, nextAt = ipv6Len, 6
	at, atNext := keep, nextAt // walks on through destination options
	for range maxExtensions {
		switch in[atNext] {
		case extFragment:
			return 0, 0, false
		case extHopByHop, extRouting, extDest:
			kind := in[atNext]
			if at+8 > len(in) {
				return 0, 0, false
			}
			n := 8 + 8*int(in[at+1])
			if at+n > len(in) {
				return 0, 0, false
			}
			atNext, at = at, at+n
			if kind != extDest {
				keep, nextAt = at, atNext
			}
		default:
			return keep, nextAt, true
		}
	}
	return 0, 0, false
}

// inheritOuter gives the opened inner packet what happened to the outer one on its
// way: the hops it passed, and congestion (RFC 4301 §5.1.2.1 note 6). v6 tells the
// family of both.
func inheritOuter(in, outer []byte, v6 bool) {
	if v6 {
		in[7] = min(in[7], outer[7])
		if outer[1]>>4&3 == ecnCE && in[1]>>4&3 != 0 {
			in[1] |= ecnCE << 4
		}
		return
	}
	if outer[8] < in[8] {
		old := binary.BigEndian.Uint16(in[8:])
		in[8] = outer[8]
		fixSum(in[10:], old, binary.BigEndian.Uint16(in[8:]))
	}
	if outer[1]&3 == ecnCE && in[1]&3 != 0 && in[1]&3 != ecnCE {
		old := binary.BigEndian.Uint16(in)
		in[1] |= ecnCE
		fixSum(in[10:], old, binary.BigEndian.Uint16(in))
	}
}

// putHeaderSum computes the checksum of an IPv4 header.
func putHeaderSum(h []byte) {
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^fold(sum16(0, h)))
}

// sum16 adds the big-endian 16-bit words of b, the last octet padded with zero.
func sum16(s uint64, b []byte) uint64 {
	for ; len(b) >= 8; b = b[8:] {
		v := binary.BigEndian.Uint64(b)
		s += v>>48 + v>>32&0xffff + v>>16&0xffff + v&0xffff
	}
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(b[0])<<8 | uint64(b[1])
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// fixSum updates a checksum for one changed word (RFC 1624), so that an inner header
// that came in damaged stays so.
func fixSum(at []byte, old, now uint16) {
	s := uint64(^binary.BigEndian.Uint16(at)) + uint64(^old) + uint64(now)
	binary.BigEndian.PutUint16(at, ^fold(s))
}
