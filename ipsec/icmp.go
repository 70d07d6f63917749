package ipsec

// ICMP errors: "too big" made by us for a clear packet, and errors from the core that
// quote an ESP packet of ours, rewritten so that they quote the host's own packet.
// RFC 792, 1191, 4443; RFC 4301 §6 and §8.2.1.

import (
	"encoding/binary"
	"net/netip"
)

const (
	icmp4Unreachable = 3
	icmp4TooBig      = 4 // code of Unreachable
	icmp6TooBig      = 2
	icmp6Unreachable = 1
	icmp6TimeExceed  = 3
	icmp4TimeExceed  = 11

	icmp4Max = 576  // RFC 1812 §4.3.2.3
	icmp6Max = 1280 // RFC 4443 §2.4 (c)

	minMTU4 = 68
	minMTU6 = 1280

	icmpHeaderLen = 8
)

// ICMPMax is the size that dst needs for BuildTooBig and RewriteICMP.
const ICMPMax = icmp6Max

// BuildTooBig writes an ICMP fragmentation-needed (IPv4) or packet-too-big (IPv6) from
// the address from to the source of orig, quoting orig, and returns its length; mtu is
// the largest clear packet. 0 means that orig must not be answered: it is an ICMP
// error itself, a fragment other than the first, to a group address (IPv4) or from an
// address that names no host (RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)).
func BuildTooBig(dst, orig []byte, mtu int, from netip.Addr) int {
	f, l4, why := ParseFlow(orig)
	if why != DropNone || f.Src.Is4() != from.Is4() || len(dst) < ICMPMax ||
		f.Src.IsUnspecified() || f.Src.IsMulticast() || f.Src.IsLoopback() {
		return 0
	}
	if f.Src.Is4() {
		if binary.BigEndian.Uint16(orig[6:])&0x1fff != 0 || f.Dst.IsMulticast() ||
			f.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || f.Src.As4()[0] >= 240 ||
			f.Proto == protoICMP && (l4 >= len(orig) || isError4(orig[l4])) {
			return 0
		}
		a, s := from.As4(), f.Src.As4()
		orig = orig[:min(int(binary.BigEndian.Uint16(orig[2:])), icmp4Max-ipv4Len-icmpHeaderLen)]
		return putICMP4(dst, a[:], s[:], icmp4Unreachable, icmp4TooBig, uint32(max(mtu, minMTU4)), orig)
	}
	if f.Frag && f.Proto != protoICMPv6 || f.Proto == protoICMPv6 && (f.Frag || orig[l4] < 128) {
		return 0
	}
	a, s := from.As16(), f.Src.As16()
	orig = orig[:min(ipv6Len+int(binary.BigEndian.Uint16(orig[4:])), icmp6Max-ipv6Len-icmpHeaderLen)]
	return putICMP6(dst, a[:], s[:], icmp6TooBig, 0, uint32(max(mtu, minMTU6)), orig)
}

// isError4 reports whether an ICMPv4 type is an error message (RFC 1122 §3.2.2).
func isError4(t byte) bool { return t == 3 || t == 4 || t == 5 || t == 11 || t == 12 }

// putICMP4 writes header and error message around a quotation.
func putICMP4(dst, from, to []byte, typ, code byte, word uint32, quote []byte) int {
	n := ipv4Len + icmpHeaderLen + len(quote)
	clear(dst[:ipv4Len])
	dst[0], dst[1] = 0x45, 0xc0 // precedence of network control (RFC 1812 §4.3.2.5)
	binary.BigEndian.PutUint16(dst[2:], uint16(n))
	dst[8], dst[9] = 64, protoICMP
	copy(dst[12:], from)
	copy(dst[16:], to)
	putHeaderSum(dst[:ipv4Len])
	m := dst[ipv4Len:n]
	putMessage(m, typ, code, word, quote)
	binary.BigEndian.PutUint16(m[2:], ^fold(sum16(0, m)))
	return n
}

func putICMP6(dst, from, to []byte, typ, code byte, word uint32, quote []byte) int {
	n := ipv6Len + icmpHeaderLen + len(quote)
	clear(dst[:8])
	dst[0] = 0x60
	binary.BigEndian.PutUint16(dst[4:], uint16(n-ipv6Len))
	dst[6], dst[7] = protoICMPv6, 64
	copy(dst[8:], from)
	copy(dst[24:], to)
	m := dst[ipv6Len:n]
	putMessage(m, typ, code, word, quote)
	s := sum16(uint64(len(m))+protoICMPv6, dst[8:40])
	binary.BigEndian.PutUint16(m[2:], ^fold(sum16(s, m)))
	return n
}

func putMessage(m []byte, typ, code byte, word uint32, quote []byte) {
	m[0], m[1], m[2], m[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(m[4:], word)
	copy(m[8:], quote)
}

// RewriteICMP looks at a packet that came in clear from the core. If it is an ICMP
// error that quotes an ESP packet, ours is true: it must not go on as it is, since no
// host knows that packet. n is then the length of the message written to dst (ICMPMax
// octets), which quotes the clear packet that ring remembers, or 0 if it remembers
// none or the message can't be genuine. Unreachable, time exceeded (so that traceroute
// shows the core) and too big are rewritten; the MTU of the latter becomes what
// clearMTU makes of it for the SA, at least the protocol's minimum.
//
// Nothing authenticates such a message. What protects is that its quotation must match
// a packet that was sent a moment ago, by SPI, sequence number and addresses, and that
// the MTU must be below that packet's length.
func RewriteICMP(dst, pkt []byte, ring *SentRing, clearMTU func(spi uint32, linkMTU int, f Family) int) (n int, ours bool) {
	f, l4, why := ParseFlow(pkt)
	if why != DropNone || f.Frag {
		return 0, false
	}
	if f.Src.Is4() {
		m := pkt[l4:binary.BigEndian.Uint16(pkt[2:])]
		if f.Proto != protoICMP || len(m) < icmpHeaderLen+ipv4Len+8 || !isError4(m[0]) {
			return 0, false
		}
		q := m[icmpHeaderLen:]
		h := int(q[0]&15) * 4
		if q[0]>>4 != 4 || h < ipv4Len || h+8 > len(q) || q[9] != protoESP || binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
			return 0, false
		}
		return rewrite4(dst, pkt, m, q, h, ring, clearMTU), true
	}
	m := pkt[l4 : ipv6Len+int(binary.BigEndian.Uint16(pkt[4:]))]
	if f.Proto != protoICMPv6 || len(m) < icmpHeaderLen+ipv6Len+8 || m[0] >= 128 {
		return 0, false
	}
	q := m[icmpHeaderLen:]
	at, nextAt := ipv6Len, 6
	for i := 0; q[0]>>4 == 6 && q[nextAt] != protoESP && i < maxExtensions; i++ {
		x, ok := extensionLen(q[nextAt], q[at:])
		if !ok {
			return 0, false
		}
		nextAt, at = at, at+x
	}
	if q[0]>>4 != 6 || q[nextAt] != protoESP || at+8 > len(q) {
		return 0, false
	}
	return rewrite6(dst, pkt, m, q, at, ring, clearMTU), true
}

func rewrite4(dst, pkt, m, q []byte, h int, ring *SentRing, clearMTU func(uint32, int, Family) int) int {
	var head [sentHead]byte
	spi := binary.BigEndian.Uint32(q[h:])
	k := ring.recall(&head, spi, binary.BigEndian.Uint32(q[h+4:]))
	if k < ipv4Len || head[0]>>4 != 4 || [8]byte(head[12:20]) != [8]byte(q[12:20]) ||
		[4]byte(head[12:16]) != [4]byte(pkt[16:20]) || fold(sum16(0, m)) != 0xffff || len(dst) < ICMPMax {
		return 0
	}
	word := uint32(0)
	switch m[0] {
	case icmp4Unreachable:
		if m[1] == icmp4TooBig {
			sent := int(binary.BigEndian.Uint16(q[2:]))
			mtu := int(binary.BigEndian.Uint16(m[6:]))
			if mtu == 0 {
				mtu = plateau(sent)
			}
			if mtu >= sent {
				return 0
			}
			word = uint32(max(clearMTU(spi, mtu, IPv4), minMTU4))
		}
	case icmp4TimeExceed:
	default:
		return 0
	}
	n := putICMP4(dst, pkt[12:16], pkt[16:20], m[0], m[1], word, head[:k])
	dst[8] = pkt[8]
	putHeaderSum(dst[:ipv4Len])
	return n
}

func rewrite6(dst, pkt, m, q []byte, at int, ring *SentRing, clearMTU func(uint32, int, Family) int) int {
	var head [sentHead]byte
	spi := binary.BigEndian.Uint32(q[at:])
	k := ring.recall(&head, spi, binary.BigEndian.Uint32(q[at+4:]))
	sum := sum16(sum16(uint64(len(m))+protoICMPv6, pkt[8:40]), m)
	if k < ipv6Len || head[0]>>4 != 6 || [32]byte(head[8:40]) != [32]byte(q[8:40]) ||
		[16]byte(head[8:24]) != [16]byte(pkt[24:40]) || fold(sum) != 0xffff || len(dst) < ICMPMax {
		return 0
	}
	word := uint32(0)
	switch m[0] {
	case icmp6TooBig:
		mtu := binary.BigEndian.Uint32(m[4:])
		if mtu >= uint32(ipv6Len)+uint32(binary.BigEndian.Uint16(q[4:])) {
			return 0
		}
		word = uint32(max(clearMTU(spi, int(mtu), IPv6), minMTU6))
	case icmp6Unreachable, icmp6TimeExceed:
	default:
		return 0
	}
	n := putICMP6(dst, pkt[8:24], pkt[24:40], m[0], m[1], word, head[:k])
	dst[7] = pkt[7]
	return n
}

// plateau guesses the MTU where a router before RFC 1191 named none: the next step
// below the packet's length (RFC 1191 §7).
func plateau(length int) int {
	for _, p := range [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296} {
		if p < length {
			return p
		}
	}
	return minMTU4
}
