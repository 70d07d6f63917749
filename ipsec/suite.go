package ipsec

// The sizes of a transform on the wire, and what follows from them: how long a
// sealed packet is and how long a clear one may be. Everything else asks here.

// Room that Seal needs around the inner packet, in octets, whatever the transform:
// in front an IPv6 header, SPI and sequence number, a 16-octet IV and metadata; behind it
// padding to a 16-octet block, two octets of trailer and a 32-octet ICV.
const (
	Headroom = 40 + espHeaderLen + 16 + MetadataLong
	Tailroom = 64
)

const (
	espHeaderLen = 8
	ipv4Len      = 20 // without options
	ipv6Len      = 40
	maxPacket    = 65535
)

// ivLen is the length of the IV field in octets (RFC 3602 §3, 2451 §3, 4106 §3.1,
// 4543 §3.1).
func (t Transform) ivLen() int {
	switch t.Cipher {
	case CipherAESCBC:
		return 16
	case Cipher3DES, CipherAESGCM, CipherAESGMAC:
		return 8
	}
	return 0
}

// blockLen is what payload, padding and trailer are aligned to: the cipher's block,
// at least 4 (RFC 4303 §2.4).
func (t Transform) blockLen() int {
	switch t.Cipher {
	case CipherAESCBC:
		return 16
	case Cipher3DES:
		return 8
	}
	return 4
}

// icvLen is the length of the ICV field in octets.
func (t Transform) icvLen() int {
	switch t.Cipher {
	case CipherAESGCM:
		if t.ICVLen != 0 {
			return t.ICVLen
		}
		return 16
	case CipherAESGMAC:
		return 16
	}
	return [...]int{AuthNone: 0, AuthSHA1: 12, AuthSHA256: 16, AuthSHA384: 24, AuthSHA512: 32}[t.Auth]
}

func headerLen(f Family) int {
	if f == IPv6 {
		return ipv6Len
	}
	return ipv4Len
}

// SealedLen is the length of the IP packet that Seal makes of a packet of n octets.
// hdrLen counts, in transport mode, the octets that stay in front of ESP: the IPv4
// header with its options, or the IPv6 header with the extension headers that go
// before it; 0 means a plain header. Tunnel mode ignores it.
func (t Transform) SealedLen(n int, f Family, hdrLen int) int { return t.sealedLen(n, f, hdrLen, 0) }

// sealedLen counts meta octets of metadata in.
func (t Transform) sealedLen(n int, f Family, hdrLen, meta int) int {
	outer, in := headerLen(f), n+meta
	if t.Mode == Transport {
		if hdrLen != 0 {
			outer = hdrLen
		}
		in -= outer
	}
	b := t.blockLen()
	return outer + espHeaderLen + t.ivLen() + (in+2+b-1)/b*b + t.icvLen()
}

// Overhead is SealedLen less n: it depends on n because of padding.
func (t Transform) Overhead(n int, f Family) int { return t.SealedLen(n, f, 0) - n }

// ClearMTU is the largest clear packet with a plain header whose sealed form fits
// into linkMTU octets; 0 if there is none.
func (t Transform) ClearMTU(linkMTU int, f Family) int { return t.ClearMTUFor(linkMTU, f, 0) }

// ClearMTUFor is ClearMTU for packets with hdrLen octets in front of ESP in
// transport mode (see SealedLen): padding depends on them.
func (t Transform) ClearMTUFor(linkMTU int, f Family, hdrLen int) int {
	return t.clearMTU(linkMTU, f, hdrLen, 0)
}

func (t Transform) clearMTU(linkMTU int, f Family, hdrLen, meta int) int {
	outer := headerLen(f)
	if t.Mode == Transport && hdrLen != 0 {
		outer = hdrLen
	}
	b := t.blockLen()
	room := linkMTU - outer - espHeaderLen - t.ivLen() - t.icvLen()
	n := room/b*b - 2 - meta
	if room < b || n < 0 {
		return 0
	}
	if t.Mode == Transport {
		n += outer
	}
	return n
}

// needsRandomIV reports whether the IV must be unpredictable (RFC 3602 §3, 2451 §3).
func (t Transform) needsRandomIV() bool { return t.Cipher == CipherAESCBC || t.Cipher == Cipher3DES }
