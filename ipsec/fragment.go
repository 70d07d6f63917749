package ipsec

// Fragmentation before encryption (and, for IPv6 packets of our own making, of any
// packet whose source we are): RFC 791 §3.2, RFC 8200 §4.5. A fragment can be
// fragmented again.

import "encoding/binary"

// FragmentOptions are the exceptions to "DF and IPv6 are never fragmented here".
type FragmentOptions struct {
	// IgnoreDF fragments an IPv4 packet whose DF bit is set ("crypto ipsec df-bit
	// clear") and clears the bit.
	IgnoreDF bool
	// OwnIPv6 fragments an IPv6 packet; only its source may do so.
	OwnIPv6 bool
	// ID is the identification of an IPv6 packet's fragments, and of an IPv4 packet
	// whose DF bit was set: its own needn't be unique (RFC 6864 §4.1).
	ID uint32
}

// Fragmenter cuts one packet. Use: Start, then Next until it returns 0. The zero value
// is ready and may be used again.
type Fragmenter struct {
	src      []byte
	v6       bool
	mtu      int
	hdr      int // octets of header in src
	nextAt   int // IPv6: where the fragment header is named
	done     int // payload octets cut off
	base     int // offset of src's payload in the original datagram
	more     bool
	ident    uint32
	setIdent bool
	small    bool // fits as it is
}

// Start looks at pkt, whose fragments shall have at most mtu octets. DropTooBig: may
// not be fragmented, answer with ICMP. DropFragment: mtu too small for any data.
// DropMalformed: not an IP packet. A packet that fits comes out of Next unchanged.
func (f *Fragmenter) Start(pkt []byte, mtu int, o FragmentOptions) DropReason {
	*f = Fragmenter{mtu: mtu}
	if _, _, why := ParseFlow(pkt); why != DropNone {
		return why
	}
	if pkt[0]>>4 == 6 {
		f.v6 = true
		f.src = pkt[:ipv6Len+int(binary.BigEndian.Uint16(pkt[4:]))]
	} else {
		f.src = pkt[:binary.BigEndian.Uint16(pkt[2:])]
	}
	if len(f.src) <= mtu {
		f.small = true
		return DropNone
	}
	if f.v6 {
		var ok bool
		if f.hdr, f.nextAt, ok = transportHeaders(f.src); !ok || !o.OwnIPv6 {
			return DropTooBig
		}
		f.ident = o.ID
		if (mtu-f.hdr-8)&^7 <= 0 {
			return DropFragment
		}
		return DropNone
	}
	f.hdr = int(f.src[0]&15) * 4
	fo := binary.BigEndian.Uint16(f.src[6:])
	if fo&flagDF != 0 {
		if !o.IgnoreDF {
			return DropTooBig
		}
		f.ident, f.setIdent = o.ID, true
	}
	f.base, f.more = int(fo&0x1fff)*8, fo&flagMF != 0
	if (mtu-f.hdr)&^7 <= 0 {
		return DropFragment
	}
	if f.base+len(f.src)-f.hdr > maxPacket {
		return DropMalformed
	}
	return DropNone
}

// Next writes the next fragment to dst, which must hold the mtu's octets, and returns
// its length, 0 after the last.
func (f *Fragmenter) Next(dst []byte) int {
	if f.small {
		n := copy(dst, f.src)
		f.small, f.src = false, nil
		return n
	}
	left := len(f.src) - f.hdr - f.done
	if len(f.src) == 0 || left <= 0 {
		return 0
	}
	if f.v6 {
		return f.next6(dst, left)
	}
	h := f.hdr
	if f.done > 0 { // only options with the copy bit go on (RFC 791 §3.1)
		h = ipv4Len + copiedOptions(dst[ipv4Len:60], f.src[ipv4Len:f.hdr])
		copy(dst, f.src[:ipv4Len])
		dst[0] = 0x40 | byte(h/4)
	} else {
		copy(dst, f.src[:h])
	}
	n, more := left, f.more
	if h+left > f.mtu {
		n, more = (f.mtu-h)&^7, true
	}
	fo := uint16((f.base + f.done) / 8)
	if more {
		fo |= flagMF
	}
	binary.BigEndian.PutUint16(dst[2:], uint16(h+n))
	if f.setIdent {
		binary.BigEndian.PutUint16(dst[4:], uint16(f.ident))
	}
	binary.BigEndian.PutUint16(dst[6:], fo)
	putHeaderSum(dst[:h])
	copy(dst[h:h+n], f.src[f.hdr+f.done:])
	f.done += n
	return h + n
}

func (f *Fragmenter) next6(dst []byte, left int) int {
	n, more := left, uint16(0)
	if f.hdr+8+left > f.mtu {
		n, more = (f.mtu-f.hdr-8)&^7, 1
	}
	copy(dst, f.src[:f.hdr])
	x := dst[f.hdr : f.hdr+8]
	x[0], x[1] = f.src[f.nextAt], 0
	binary.BigEndian.PutUint16(x[2:], uint16(f.done)|more)
	binary.BigEndian.PutUint32(x[4:], f.ident)
	dst[f.nextAt] = extFragment
	binary.BigEndian.PutUint16(dst[4:], uint16(f.hdr+8+n-ipv6Len))
	copy(dst[f.hdr+8:f.hdr+8+n], f.src[f.hdr+f.done:])
	f.done += n
	return f.hdr + 8 + n
}

// copiedOptions writes the options that every fragment carries, padded to 32 bits,
// and returns their length. Malformed options end the list.
func copiedOptions(dst, opts []byte) int {
	n := 0
	for i := 0; i < len(opts) && opts[i] != 0; { // 0 ends the list
		if opts[i] == 1 { // no operation
			i++
			continue
		}
		if i+1 >= len(opts) || opts[i+1] < 2 || i+int(opts[i+1]) > len(opts) {
			break
		}
		l := int(opts[i+1])
		if opts[i]&0x80 != 0 {
			n += copy(dst[n:], opts[i:i+l])
		}
		i += l
	}
	for n%4 != 0 {
		dst[n] = 0
		n++
	}
	return n
}
