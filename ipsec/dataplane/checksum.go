package dataplane

// The Internet checksum (RFC 1071) over wide words. Sums are kept in the byte order
// of a little-endian load, which the ones' complement sum allows (RFC 1071 §1.2 B),
// so that no octet is swapped until the result is stored the same way.

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to acc. Every part but the last of one checksum must be of even length.
func sum(acc uint64, b []byte) uint64 {
	le := binary.LittleEndian
	var c uint64
	for len(b) >= 64 {
		acc, c = bits.Add64(acc, le.Uint64(b[0:]), 0)
		acc, c = bits.Add64(acc, le.Uint64(b[8:]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[16:]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[24:]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[32:]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[40:]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[48:]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[56:]), c)
		acc, c = bits.Add64(acc, 0, c)
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, le.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) > 0 {
		var t [8]byte
		copy(t[:], b)
		acc, c = bits.Add64(acc, le.Uint64(t[:]), 0)
		acc += c
	}
	return acc
}

// fold reduces a sum to 16 bits.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// putSum stores the complement of a sum.
func putSum(b []byte, acc uint64) { binary.LittleEndian.PutUint16(b, ^fold(acc)) }

// pseudo is the sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) for n octets
// of transport header and payload. addrs is source and destination in a row.
func pseudo(addrs []byte, proto uint8, n int) uint64 {
	return sum(0, addrs) + uint64(proto)<<8 + uint64(bits.ReverseBytes16(uint16(n))) +
		uint64(bits.ReverseBytes16(uint16(n>>16)))
}

// putIPSum computes an IPv4 header's checksum.
func putIPSum(hdr []byte) {
	hdr[10], hdr[11] = 0, 0
	putSum(hdr[10:], sum(0, hdr))
}
