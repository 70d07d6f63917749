package dataplane

// What comes from the TAP: a virtio_net_hdr (Linux uapi/linux/virtio_net.h, native
// byte order, 10 octets), an Ethernet header and an IP packet that may be a TCP or UDP super-packet
// with checksums to be completed. The segmenter cuts it to what would have been on
// the wire. The header's claims are checked against the packet; a checksum is always
// computed from scratch, so a false partial sum can't come through.

import (
	"encoding/binary"
	"errors"
)

const (
	vnetLen = 10

	vnetNeedsCsum = 1

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5
	gsoECN   = 0x80
)

var (
	errShort   = errors.New("dataplane: frame shorter than its headers")
	errGSO     = errors.New("dataplane: segmentation header doesn't fit the packet")
	errNotIP   = errors.New("dataplane: not an IP packet")
	errTooMany = errors.New("dataplane: more segments than a packet can have")
)

// segmenter cuts one IP packet. Use: start, then next until it returns 0.
type segmenter struct {
	packet
	src    []byte // the IP packet, cut to its length
	kind   uint8  // gsoNone, gsoTCPv4, gsoTCPv6, gsoUDP
	size   int    // payload octets a segment
	hdr    int    // octets of IP and transport header
	off    int    // payload octets done
	index  int
	csumAt int // for gsoNone: checksum to complete, from csumFrom on; 0 if none
	from   int
}

// start reads a frame without its Ethernet header: v is the virtio header, ip the
// packet. An error means that the frame is dropped as malformed.
func (s *segmenter) start(v, ip []byte) error {
	if len(v) < vnetLen {
		return errShort
	}
	if !s.parse(ip) {
		return errNotIP
	}
	s.src = ip[:s.len]
	s.off, s.index, s.csumAt, s.hdr = 0, 0, 0, s.len
	s.kind = v[1] &^ gsoECN
	s.size = int(binary.NativeEndian.Uint16(v[4:]))
	switch s.kind {
	case gsoNone:
		s.size = 0
		if v[0]&vnetNeedsCsum == 0 {
			return nil
		}
		// csum_start counts from the Ethernet header.
		s.from = int(binary.NativeEndian.Uint16(v[6:])) - etherLen
		s.csumAt = s.from + int(binary.NativeEndian.Uint16(v[8:]))
		if s.from != s.l4 || s.csumAt < s.from || s.csumAt+2 > s.len {
			return errGSO
		}
		return nil
	case gsoTCPv4, gsoTCPv6:
		if s.proto != protoTCP || s.frag || s.v6 != (s.kind == gsoTCPv6) || s.l4+20 > s.len {
			return errGSO
		}
		s.hdr = s.l4 + int(s.src[s.l4+12]>>4)*4
		if s.hdr < s.l4+20 {
			return errGSO
		}
	case gsoUDP:
		s.hdr = s.l4 + 8
		if s.proto != protoUDP || s.frag {
			return errGSO
		}
	default:
		return errGSO
	}
	if s.size == 0 || s.hdr > s.len {
		return errGSO
	}
	if s.len-s.hdr <= s.size { // one segment: the checksum alone
		s.size = max(s.len-s.hdr, 1)
	}
	if (s.len-s.hdr)/s.size >= 1<<12 {
		return errTooMany
	}
	return nil
}

// largest is the length of the largest IP packet that next will return.
func (s *segmenter) largest() int {
	if s.kind == gsoNone {
		return s.len
	}
	return s.hdr + min(s.size, s.len-s.hdr)
}

// next writes the next packet to dst, which must hold largest() octets, and returns
// its length, 0 after the last.
func (s *segmenter) next(dst []byte) int {
	if s.kind == gsoNone {
		if s.index > 0 {
			return 0
		}
		s.index = 1
		copy(dst, s.src)
		if s.csumAt > 0 {
			// The field holds the pseudo header's sum already.
			putSum(dst[s.csumAt:], sum(0, dst[s.from:s.len]))
			if s.proto == protoUDP && dst[s.csumAt] == 0 && dst[s.csumAt+1] == 0 {
				dst[s.csumAt], dst[s.csumAt+1] = 0xff, 0xff
			}
		}
		return s.len
	}
	left := s.len - s.hdr - s.off
	if left <= 0 && s.index > 0 {
		return 0
	}
	n := min(left, s.size)
	total := s.hdr + n
	copy(dst, s.src[:s.hdr])
	copy(dst[s.hdr:total], s.src[s.hdr+s.off:])
	be := binary.BigEndian
	if s.v6 {
		be.PutUint16(dst[4:], uint16(total-40))
	} else {
		be.PutUint16(dst[2:], uint16(total))
		be.PutUint16(dst[4:], be.Uint16(s.src[4:])+uint16(s.index))
		putIPSum(dst[:s.l4])
	}
	t := dst[s.l4:total]
	if s.kind == gsoUDP {
		be.PutUint16(t[4:], uint16(len(t)))
		t[6], t[7] = 0, 0
		putSum(t[6:], sum(pseudo(s.addrs(dst), protoUDP, len(t)), t))
		if t[6] == 0 && t[7] == 0 {
			t[6], t[7] = 0xff, 0xff
		}
	} else {
		be.PutUint32(t[4:], be.Uint32(s.src[s.l4+4:])+uint32(s.off))
		if n < left { // FIN and PSH belong to the last segment (RFC 9293 §3.7)
			t[13] &^= 0x09
		}
		if s.index > 0 { // CWR to the first (RFC 3168 §6.1.2)
			t[13] &^= 0x80
		}
		t[16], t[17] = 0, 0
		putSum(t[16:], sum(pseudo(s.addrs(dst), protoTCP, len(t)), t))
	}
	s.off += n
	s.index++
	return total
}
