package ipsec

// What the tests share: every transform, keys, packets.

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"getvpn/internal/secret"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// allTransforms is every transform of the product, in both modes.
func allTransforms() []Transform {
	var out []Transform
	for _, m := range []Mode{Tunnel, Transport} {
		for _, a := range []Auth{AuthSHA1, AuthSHA256, AuthSHA384, AuthSHA512} {
			out = append(out, Transform{Cipher: CipherNull, Auth: a, Mode: m}, Transform{Cipher: Cipher3DES, Auth: a, Mode: m})
			for _, k := range []int{128, 192, 256} {
				out = append(out, Transform{Cipher: CipherAESCBC, KeyBits: k, Auth: a, Mode: m})
			}
		}
		for _, k := range []int{128, 192, 256} {
			for _, icv := range []int{8, 12, 16} {
				out = append(out, Transform{Cipher: CipherAESGCM, KeyBits: k, ICVLen: icv, Mode: m})
			}
			out = append(out, Transform{Cipher: CipherAESGMAC, KeyBits: k, Mode: m})
		}
	}
	return out
}

func trName(t Transform) string {
	return fmt.Sprintf("%v/icv%d/%s", t, t.icvLen(), [...]string{"tunnel", "transport"}[t.Mode])
}

// testTEK is a TEK with keys that depend on the seed.
func testTEK(tr Transform, seed byte) TEK {
	key := func(n int, salt byte) secret.Bytes {
		b := make(secret.Bytes, n)
		for i := range b {
			b[i] = byte(i)*7 + seed + salt
		}
		return b
	}
	t := TEK{SPI: 0x11110000 | uint32(seed), Transform: tr, Key: key(tr.CipherKeyLen(), 1), AuthKey: key(tr.AuthKeyLen(), 99),
		Expires: t0.Add(time.Hour), Replay: Replay{Mode: ReplayCounter, Window: 64}}
	if tr.Counter() {
		t.SIDBits, t.SIDs = 24, []uint32{0x000102}
	}
	return t
}

func mustSA(t testing.TB, tek TEK) *SA {
	t.Helper()
	sa, err := NewSA(tek, t0)
	if err != nil {
		t.Fatalf("%v: %v", tek.Transform, err)
	}
	return sa
}

func mustSealer(t testing.TB, sa *SA) *Sealer {
	t.Helper()
	s, err := sa.NewSealer(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustOpener(t testing.TB, sa *SA) *Opener {
	t.Helper()
	o, err := sa.NewOpener()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// ip4 is a UDP packet of n octets in all from 10.1.1.10 to 10.2.2.20 with a TTL of
// 63, DF, DSCP EF and ECT(0).
func ip4(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 31)
	}
	b[0], b[1] = 0x45, 0xba
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint16(b[4:], 0xbeef)
	b[6], b[7] = 0x40, 0
	b[8], b[9] = 63, protoUDP
	copy(b[12:], []byte{10, 1, 1, 10, 10, 2, 2, 20})
	putHeaderSum(b[:20])
	if n >= 28 {
		copy(b[20:], []byte{0xc3, 0x50, 0xc3, 0x51})
		binary.BigEndian.PutUint16(b[24:], uint16(n-20))
		b[26], b[27] = 0, 0
	}
	return b
}

// ip6 is a UDP packet of n octets from 2001:db8:1::10 to 2001:db8:2::20.
func ip6(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 37)
	}
	copy(b, []byte{0x6b, 0xa1, 0x23, 0x45})
	binary.BigEndian.PutUint16(b[4:], uint16(n-40))
	b[6], b[7] = protoUDP, 61
	copy(b[8:], []byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10})
	copy(b[24:], []byte{0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20})
	if n >= 48 {
		copy(b[40:], []byte{0xc3, 0x50, 0xc3, 0x51})
		binary.BigEndian.PutUint16(b[44:], uint16(n-40))
		putUDPSum6(b)
	}
	return b
}

func putUDPSum6(b []byte) {
	b[46], b[47] = 0, 0
	s := sum16(uint64(len(b)-40)+protoUDP, b[8:40])
	binary.BigEndian.PutUint16(b[46:], ^fold(sum16(s, b[40:])))
}

// roomFor returns a buffer with pkt at Headroom.
func roomFor(pkt []byte) []byte {
	b := make([]byte, Headroom+len(pkt)+Tailroom)
	copy(b[Headroom:], pkt)
	return b
}

// sealOne seals pkt into fresh octets.
func sealOne(t testing.TB, s *Sealer, pkt []byte) []byte {
	t.Helper()
	b := roomFor(pkt)
	start, n, why := s.Seal(b, Headroom, len(pkt))
	if why != DropNone {
		t.Fatalf("%v: seal of %d octets: %v", s.sa.tr, len(pkt), why)
	}
	return b[start : start+n]
}
